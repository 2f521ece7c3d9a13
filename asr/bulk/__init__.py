"""Many audio files → transcripts: find them, share them out among processes or machines, keep a record."""
