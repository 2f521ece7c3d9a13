"""Transcripts as people write them ↔ the tokens of a model. No torch."""
