"""What may name an utterance."""

from __future__ import annotations


def is_utterance_id(name: str) -> bool:
    """Return whether a trn file can hold the id: `text (id)`, a line each, with single spaces."""
    return bool(name) and name == " ".join(name.split()) and "(" not in name and ")" not in name
