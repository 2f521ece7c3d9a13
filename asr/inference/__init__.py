"""Room 7: audio file → transcript."""
