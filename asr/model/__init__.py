"""Waveforms → log-posteriors: log-mel, subsampling, recurrent layers, the CTC criterion."""
