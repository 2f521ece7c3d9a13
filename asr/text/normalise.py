"""Transcripts as people write them → transcripts as the model learns them.

What may name an utterance.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.config import TextSettings


def normalise(text: str, settings: TextSettings) -> str:
    """Fold case, compose Unicode (NFC), delete the characters of `settings.remove` and collapse white space.

    Applied to its own result it changes nothing, so text may be normalised wherever it enters.
    """
    kept = _fold(text, settings.case)
    if settings.remove:  # after which a letter and its accent may have come together
        kept = unicodedata.normalize("NFC", kept.translate(_deletions(settings.remove, settings.case)))
    if kept.isprintable() and "  " not in kept:  # then its only white space is single spaces
        return kept.strip()
    return " ".join(kept.split())


@lru_cache(maxsize=8)
def _deletions(characters: str, case: str) -> dict[int, None]:
    """Return the table for `str.translate`; white space is collapsed, never deleted."""
    return {ord(character): None for character in _fold(characters, case) if not character.isspace()}


def _fold(text: str, case: str) -> str:
    if case == "lower":
        text = text.lower()
    elif case == "upper":
        text = text.upper()
    return unicodedata.normalize("NFC", text)


def is_utterance_id(name: str) -> bool:
    """Return whether a trn file can hold the id: `text (id)`, a line each, with single spaces."""
    return bool(name) and name == " ".join(name.split()) and "(" not in name and ")" not in name
