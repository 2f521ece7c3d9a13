"""Transcripts as people write them → transcripts as the model learns them; and which texts can be utterance ids."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.config import TextSettings


def normalise(text: str, settings: TextSettings) -> str:
    """Return a text in one case, in composed Unicode (NFC), without `settings.remove`, with single spaces.

    A normalised text does not change again, so text can be normalised wherever it enters.
    """
    kept = _fold(text, settings.case)
    if settings.remove:  # a letter and its accent may then be neighbours, so compose again
        kept = unicodedata.normalize("NFC", kept.translate(_deletions(settings.remove, settings.case)))
    if kept.isprintable() and "  " not in kept:  # so all its white space is single spaces
        return kept.strip()
    return " ".join(kept.split())


@lru_cache(maxsize=8)
def _deletions(characters: str, case: str) -> dict[int, None]:
    """Return the table for `str.translate`. It has no white space, which is collapsed instead."""
    return {ord(character): None for character in _fold(characters, case) if not character.isspace()}


def _fold(text: str, case: str) -> str:
    if case == "lower":
        text = text.lower()
    elif case == "upper":
        text = text.upper()
    return unicodedata.normalize("NFC", text)


def is_utterance_id(name: str) -> bool:
    """Return whether a trn file, with a line `text (id)` per utterance, can hold the id."""
    return bool(name) and name == " ".join(name.split()) and "(" not in name and ")" not in name
