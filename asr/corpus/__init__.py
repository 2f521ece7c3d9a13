"""Corpora → manifests: read, write, import, check, split, pack."""
