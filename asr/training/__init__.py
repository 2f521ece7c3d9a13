"""Manifests → model folder: the training loop, its checkpoints and its log."""
