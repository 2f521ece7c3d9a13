"""Any audio file or stream → samples, where somebody speaks, and segments. No torch, no lhotse."""
