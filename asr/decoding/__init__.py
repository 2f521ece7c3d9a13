"""Log-posteriors → hypotheses: greedy and beam search, scorers, alignment."""
