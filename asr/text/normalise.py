"""Transcripts as people write them → transcripts as the model learns them; and which texts can be utterance ids."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.config import TextSettings


PUNCTUATION = "punctuation"  # in place of characters: all that Unicode calls punctuation (P*) or a symbol (S*)

CURLY_APOSTROPHE = "\u2019"
# At the start or the end of a word, or several in a row: quotation marks. One within a word belongs to it.
_QUOTING = re.compile(r"(?<!\S)'+|'+(?!\S)|''+")


# What Turkish and Azerbaijani write otherwise than all other languages.
_DOTTED_I = {"lower": str.maketrans({"İ": "i", "I": "ı"}), "upper": str.maketrans({"i": "İ"})}


def normalise(text: str, settings: TextSettings) -> str:
    """Return a text in one case, in composed Unicode (NFC), with single spaces, and without some characters.

    The steps: the case, by the rules of `settings.language`; the curly apostrophe ’ becomes ' unless
    `settings.apostrophes` keeps it; the characters of `settings.space` become spaces; those of `settings.remove` are
    deleted. For the class `punctuation`, an apostrophe within a word is a letter: "don't" keeps it, "'tis" does not.

    A normalised text does not change again, so text can be normalised wherever it enters.
    """
    kept = _fold(text, settings.case, settings.language)
    if settings.apostrophes == "straight" and CURLY_APOSTROPHE in kept:
        kept = kept.replace(CURLY_APOSTROPHE, "'")
    if settings.space or settings.remove:
        kept = _replace(_replace(kept, settings.space, settings, " "), settings.remove, settings, "")
        composed = unicodedata.normalize("NFC", kept)  # a letter and its accent may be neighbours now
        if composed != kept:
            return normalise(composed, settings)
    if kept.isprintable() and "  " not in kept:  # so all its white space is single spaces
        return kept.strip()
    return " ".join(kept.split())


def _replace(text: str, characters: str, settings: TextSettings, by: str) -> str:
    """Return a text with each of some characters, or of the class `punctuation`, replaced."""
    if characters == PUNCTUATION:
        return _QUOTING.sub(by, text.translate(_punctuation(by)))
    if not characters:
        return text
    return text.translate(_replacements(characters, settings.case, settings.language, settings.apostrophes, by))


@lru_cache(maxsize=8)
def _replacements(characters: str, case: str, language: str, apostrophes: str, by: str) -> dict[int, str]:
    """Return the table for `str.translate`. It has no white space, which is collapsed instead."""
    folded = _fold(characters, case, language)
    if apostrophes == "straight":
        folded = folded.replace(CURLY_APOSTROPHE, "'")
    return {ord(character): by for character in folded if not character.isspace()}


@cache
def _punctuation(by: str) -> dict[int, str]:
    """Return the table of all punctuation and symbols but the straight apostrophe."""
    signs = (code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] in "PS")
    return dict.fromkeys((code for code in signs if chr(code) != "'"), by)


def _fold(text: str, case: str, language: str) -> str:
    """Return a text in one case, composed.

    Source for Turkish and Azerbaijani: Unicode, SpecialCasing.txt.
    """
    if language:
        text = unicodedata.normalize("NFC", text).translate(_DOTTED_I.get(case, {}))  # composed, so that İ is one sign
    elif case == "lower" and ("İ" in text or "\u0307" in text):  # or its dot would become a loose one, and a token
        text = unicodedata.normalize("NFC", text).replace("İ", "i")
    if case == "lower":
        text = text.lower()
    elif case == "upper":
        text = text.upper()
    return unicodedata.normalize("NFC", text)


def is_utterance_id(name: str) -> bool:
    """Return whether a trn file, with a line `text (id)` per utterance, can hold the id."""
    return bool(name) and name == " ".join(name.split()) and "(" not in name and ")" not in name
