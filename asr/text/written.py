"""A text as people write it → its words as the model spells them, each with its place in the text.

So a part of the text can be found by its words and kept as it was written, with capitals and punctuation.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from asr.text.normalise import normalise
from asr.text.units import split_units

if TYPE_CHECKING:
    from asr.config import TextSettings


@dataclass(frozen=True)
class WrittenWord:
    """A word of a text.

    Attributes:
        spelled: the word, normalised; one unit where the script writes no spaces.
        start: where it begins in the text, in characters.
        end: where it ends, with the punctuation that is written to it. Words with the same place cannot be taken apart.
        space_before: whether a space is before it.
    """

    spelled: str
    start: int
    end: int
    space_before: bool = True


def written_words(text: str, settings: TextSettings) -> list[WrittenWord]:
    """Return the words of a text.

    Args:
        text: as it was written.
        settings: the model's rules for transcripts.
    """
    words: list[WrittenWord] = []
    for line in re.finditer(r"[^\n]+", text):
        words += _words_of_line(line.group(), line.start(), settings)
    return words


def written(text: str, words: Sequence[WrittenWord]) -> str:
    """Return the part of a text with these words, which follow each other, as it was written, with single spaces."""
    return " ".join(text[words[0].start : words[-1].end].split()) if words else ""


def _words_of_line(line: str, offset: int, settings: TextSettings) -> list[WrittenWord]:
    """Normalise what is between spaces, piece by piece; where the line as a whole reads otherwise, its words count."""
    places = [(chunk.start(), chunk.end()) for chunk in re.finditer(r"\S+", line)]
    spelled = [normalise(line[start:end], settings).split() for start, end in places]
    owner = [place for place, words in enumerate(spelled) for _ in words]
    parts = [word for words in spelled for word in words]
    whole = normalise(line, settings).split()
    if parts == whole:
        owners: Iterable[tuple[int, int]] = [(place, place) for place in owner]
    else:
        owners = _owners_of(whole, parts, owner)
    words: list[WrittenWord] = []
    for word, (first, last) in zip(whole, owners, strict=True):
        start, end = offset + places[first][0], offset + places[last][1]
        words += _units(word, line[start - offset : end - offset], start, settings)
    return _with_lone_signs(words, [(offset + start, offset + end) for start, end in places])


def _owners_of(whole: Sequence[str], parts: Sequence[str], owner: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first and the last piece that each word of a line comes from."""
    owners = [(0, 0)] * len(whole)
    for kind, i1, i2, j1, j2 in SequenceMatcher(a=parts, b=whole, autojunk=False).get_opcodes():
        for place in range(j1, j2):
            if kind == "equal":
                owners[place] = (owner[i1 + place - j1],) * 2
            else:
                near = owner[max(0, min(i1, len(owner) - 1)) : max(i2, i1 + 1)]
                owners[place] = (near[0], near[-1]) if near else (0, 0)
    return owners


def _units(word: str, source: str, start: int, settings: TextSettings) -> Iterator[WrittenWord]:
    """Yield the units of a word. They share its place, unless each character of the source has become its own."""
    units = split_units(word)
    ends = _ends_of_units(units, source, settings) if len(units) > 1 else None
    begin = 0
    for number, unit in enumerate(units):
        if ends is None:
            yield WrittenWord(unit, start, start + len(source), number == 0)
        else:
            yield WrittenWord(unit, start + begin, start + ends[number], number == 0)
            begin = ends[number]


def _ends_of_units(units: Sequence[str], source: str, settings: TextSettings) -> list[int] | None:
    """Return where each unit ends in the source; None if the source's characters cannot be told apart."""
    spelled = [normalise(character, settings) for character in source]
    if "".join(spelled) != "".join(units):
        return None
    ends, place, length = [], 0, 0
    for unit in units:
        length -= len(unit)
        while length < 0 and place < len(source):
            length += len(spelled[place])
            place += 1
        if length:
            return None
        while place < len(source) and not spelled[place]:  # punctuation belongs to the unit before it
            place += 1
        ends.append(place)
    return ends


def _with_lone_signs(words: list[WrittenWord], places: Sequence[tuple[int, int]]) -> list[WrittenWord]:
    """Give each piece that holds no word, such as a dash, to the word before it, or to the words that share a place."""
    ends = [end for _, end in places]
    result = words[:]
    beyond = ends[-1] + 1 if ends else 0
    for number in range(len(words) - 1, -1, -1):
        word = words[number]
        if number + 1 < len(words) and (words[number + 1].start, words[number + 1].end) == (word.start, word.end):
            end = result[number + 1].end
        else:
            end = max(word.end, ends[bisect_right(ends, beyond) - 1]) if beyond > word.end else word.end
        result[number] = replace(word, end=end)
        beyond = word.start
    return result
