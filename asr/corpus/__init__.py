"""Manifests: read, written, checked, split, packed."""

import os

# lhotse, which only this room loads, appends to PATH and fails where there is none, as in some services and `env -i`.
os.environ.setdefault("PATH", os.defpath)
