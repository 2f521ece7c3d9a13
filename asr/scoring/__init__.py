"""Hypotheses × references → error counts, intervals, significance. No torch."""
