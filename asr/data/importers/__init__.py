"""Data in other people's formats → manifests: one file per format, and `utterances.py`, where they meet."""
