"""Hypotheses × references → error counts, intervals, significance, reports. No torch."""
