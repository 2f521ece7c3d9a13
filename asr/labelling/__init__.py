"""Recordings without transcripts → those that a model transcribes well enough, and those that people should."""
