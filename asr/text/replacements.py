"""A table of words and strings → a text in which they are replaced: `text.replace`.

    colour: color        colour, Colour, colour's → color, color, color's       not: colours, discolour
    mr.: mister          Mr. Smith → mister smith
    "%": " per cent"     50% → 50 per cent
    裏: 里               any 裏

A key fits where it cuts no word. A word is a run of letters and digits with their marks; apostrophes and hyphens end
it. In scripts without spaces each letter with its marks is one. A key without a letter or digit fits everywhere. So a
table of words replaces whole words, and a table of signs or characters replaces each of them.

Keys and values are written as the texts are: with `text.case=lower`, "Colour" and "colour" are the same key, and they
find "COLOUR". The table is applied before `text.space` and `text.remove`, so keys may hold punctuation. Of several keys
that fit at a place the longest is taken, from left to right. What a key becomes is not replaced again: a table whose
values hold what another key replaces is refused, because a text would depend on how often it is normalised. An entry
that becomes itself protects a longer form: `{"st. louis": "st. louis", "st.": "saint"}`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from asr.errors import ConfigError
from asr.reading import shown
from asr.text.units import is_written_without_spaces


@dataclass(frozen=True)
class Replacements:
    """A table that is ready to be applied.

    Attributes:
        values: what becomes of each key.
        lengths: the lengths of the keys that begin with a character, the longest first.
        first: finds the first characters of keys.
    """

    values: Mapping[str, str]
    lengths: Mapping[str, tuple[int, ...]]
    first: re.Pattern[str] | None

    def apply(self, text: str, counts: Counter[str] | None = None) -> str:
        """Return a text with single spaces after the replacements; `counts` counts the keys that were found."""
        if self.first is None:
            return text
        parts: list[str] = []
        done = place = 0
        while found := self.first.search(text, place):
            start = found.start()
            key = self._key_at(text, start)
            place = start + max(1, len(key))
            if key:
                parts += (text[done:start], self.values[key])
                done = place
                if counts is not None:
                    counts[key] += 1
        return "".join((*parts, text[done:]))

    def _key_at(self, text: str, start: int) -> str:
        """Return the longest key that fits at a place, or an empty text."""
        for length in self.lengths[text[start]]:
            key = text[start : start + length]
            if key in self.values and _cuts_no_word(text, start, start + len(key)):
                return key
        return ""


def _cuts_no_word(text: str, start: int, end: int) -> bool:
    if not any(map(str.isalnum, text[start:end])):
        return True
    begins = start == 0 or not goes_on(text[start - 1], text[start])
    return begins and (end == len(text) or not goes_on(text[end - 1], text[end]))


@lru_cache(maxsize=4096)
def goes_on(before: str, after: str) -> bool:
    """Return whether a word goes on between two characters."""
    if _is_mark(after):
        return before.isalnum() or _is_mark(before)
    return _is_of_a_word(before) and _is_of_a_word(after)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M" or character in "\u200c\u200d"


def _is_of_a_word(character: str) -> bool:
    return (character.isalnum() or _is_mark(character)) and not is_written_without_spaces(character)


def prepare_replacements(
    table: Mapping[str, str], write: Callable[[str], str], reduce: Callable[[str], str]
) -> Replacements:
    """Return a table that is ready to be applied.

    Args:
        table: what becomes of each key, as users write both.
        write: returns a text in the case and the characters of normalised texts.
        reduce: returns a text without the signs that `text.space` and `text.remove` name.

    Raises:
        ConfigError: a key is empty; two keys are the same when they are written so; a value holds what is replaced.
    """
    values: dict[str, str] = {}
    given: dict[str, str] = {}
    for raw, value in table.items():
        key, replaced = _spaced(write(raw)), _spaced(write(value))
        if not key.strip():
            raise ConfigError(f"text.replace: the key {shown(raw)} is empty; delete it")
        if values.setdefault(key, replaced) != replaced:
            raise ConfigError(
                f"text.replace: {shown(given[key])} and {shown(raw)} are both {shown(key)} in a normalised text; "
                "delete one of them"
            )
        given.setdefault(key, raw)
    lengths: dict[str, set[int]] = {}
    for key in values:
        lengths.setdefault(key[0], set()).add(len(key))
    first = re.compile(f"[{re.escape(''.join(lengths))}]") if lengths else None
    ready = Replacements(values, {one: tuple(sorted(some, reverse=True)) for one, some in lengths.items()}, first)
    for key, value in values.items():
        _refuse_chain(ready, given, key, {value, reduce(value)})
    return ready


def _refuse_chain(ready: Replacements, given: Mapping[str, str], key: str, results: set[str]) -> None:
    for result in results:
        again: Counter[str] = Counter()
        if ready.apply(result, again) != result:
            other = next(found for found in again if ready.values[found] != found)
            raise ConfigError(
                f"text.replace: {shown(given[key])} becomes {shown(result)}, in which {shown(given[other])} would be "
                f"replaced again; write what it becomes in the end, or protect it: {shown(result)}: {shown(result)}"
            )


def _spaced(text: str) -> str:
    """Return a text whose white space is single spaces; one at an end stays, as in "%" → " per cent"."""
    return re.sub(r"\s+", " ", text)
