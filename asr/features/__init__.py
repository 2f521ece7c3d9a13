"""Waveform → log-mel features, and the batches that carry them."""
