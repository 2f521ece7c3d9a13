"""Hypotheses × references → figures: error counts, intervals, significance, reports. No torch here."""
