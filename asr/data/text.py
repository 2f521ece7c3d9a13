"""Transcripts as people write them → transcripts as the model learns them."""

from __future__ import annotations

import unicodedata

from asr.config import TextSettings


def normalise(text: str, settings: TextSettings) -> str:
    """Fold case, compose Unicode (NFC), delete the characters of `settings.remove` and collapse white space.

    Applied to its own result it changes nothing, so text may be normalised wherever it enters.
    """
    removed = set(_fold(settings.remove, settings.case))
    kept = "".join(" " if character.isspace() else character for character in _fold(text, settings.case))
    kept = "".join(character for character in kept if character not in removed or character == " ")
    # Deleting a character can bring a letter and its accent together.
    return " ".join(unicodedata.normalize("NFC", kept).split())


def _fold(text: str, case: str) -> str:
    if case == "lower":
        text = text.lower()
    elif case == "upper":
        text = text.upper()
    return unicodedata.normalize("NFC", text)
