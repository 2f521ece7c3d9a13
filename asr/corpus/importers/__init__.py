"""Data in other people's formats → manifests: one file per format. All meet in `utterances.py`."""
