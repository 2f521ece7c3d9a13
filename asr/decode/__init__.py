"""Log-posteriors → hypotheses: greedy and prefix beam search, scorers and the choice of their weights."""
