"""Room 1: corpora → manifests; audio files → waveforms; transcripts → tokens."""
