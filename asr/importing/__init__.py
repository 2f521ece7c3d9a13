"""Data in other people's formats → manifests: one file per format. All meet in `utterances.py`."""

import asr.corpus  # noqa: F401 (it lets lhotse be loaded where there is no PATH)
