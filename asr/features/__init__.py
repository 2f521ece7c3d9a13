"""Cuts → batches: sampling, loading, perturbation, masks, noise, rooms."""
