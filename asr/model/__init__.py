"""Features → log-posteriors: subsampling convolutions, recurrent layers, the CTC criterion."""
