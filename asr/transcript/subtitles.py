"""Words with times → subtitle cues that can be read: short, in two lines, broken where the speaker pauses.

Width is counted in columns of a terminal: two for a Chinese character or kana, none for a mark above or below a letter.
Lines of scripts without spaces break between the units of `asr.text.units`.

Every way to break the words into cues has a cost. Dynamic programming over the place of the next break finds the
cheapest one, as TeX breaks paragraphs into lines. Costs are compared in this order: cues too short to read, pauses
within a cue, the number and unevenness of the cues.

Sources: Knuth & Plass 1981, "Breaking paragraphs into lines", for the method; Netflix's Timed Text Style Guide for the
size and the longest time.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from asr.text.units import split_units

if TYPE_CHECKING:
    from asr.transcript.words import Word

LINES = 2
LINE_COLUMNS = 42
SHORTEST_MS = 1000
LONGEST_MS = 7000
PAUSE_MS = 500

# (cues shown too briefly, pauses inside a cue, badness): compared in this order.
_Cost = tuple[int, int, float]


@dataclass(frozen=True)
class Cue:
    """Text shown from `start_ms` to `end_ms`, milliseconds from the start of the recording."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


def joined(words: Iterable[Word]) -> str:
    """Return the text of words, with a space before each that has one; none at the text's start."""
    return "".join(f" {word.text}" if word.space_before else word.text for word in words).removeprefix(" ")


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    Source: Unicode Standard Annex #11, "East Asian width"; wide characters take two columns.
    """
    if text.isascii():
        return len(text)
    return sum(map(_columns_of, text))


def break_into_cues(words: Sequence[Word]) -> list[Cue]:
    """Return the words as cues that do not overlap.

    A cue has at most two lines of 42 columns and lasts 1 to 7 s. It ends at a pause of more than 0.5 s where that is
    possible. There are three exceptions: a single word longer than a line exceeds the width; a single word of more than
    7 s is shown for 7 s; and words that fill two lines within a second, faster than anybody speaks, are shown only as
    long as they last.

    Args:
        words: in order of their starts.
    """
    words = [unit for word in words for unit in _divided(word)]
    times_ms = [(round(1000 * word.start_s), round(1000 * word.end_s)) for word in words]
    best: list[tuple[_Cost, int]] = [((0, 0, 0.0), len(words))] * (len(words) + 1)
    for first in reversed(range(len(words))):
        best[first] = min(
            (_add(_cost(words, times_ms, first, after), best[after][0]), after)
            for after in _possible_breaks(words, times_ms, first)
        )
    cues = []
    first = 0
    while first < len(words):
        after = best[first][1]
        start_ms, end_ms = _shown_ms(times_ms, first, after)
        cues.append(Cue(start_ms, end_ms, _lines(words[first:after])))
        first = after
    return cues


def _possible_breaks(words: Sequence[Word], times_ms: list[tuple[int, int]], first: int) -> Iterator[int]:
    """Yield the ends (exclusive) of cues from word `first` on that keep the limits of size and time."""
    yield first + 1
    lines, column = 1, columns(words[first].text)
    for last in range(first + 1, len(words)):
        width = columns(words[last].text)
        space = int(words[last].space_before)
        if column + space + width <= LINE_COLUMNS:
            column += space + width
        else:
            lines, column = lines + 1, width
        if lines > LINES or times_ms[last][1] - times_ms[first][0] > LONGEST_MS:
            return
        yield last + 1


def _shown_ms(times_ms: list[tuple[int, int]], first: int, after: int) -> tuple[int, int]:
    """Return the start and end of a cue: as long as its words, and at least 1 s if the next cue leaves room."""
    start_ms = times_ms[first][0]
    end_ms = max(times_ms[after - 1][1], start_ms + SHORTEST_MS)
    if after < len(times_ms):
        end_ms = min(end_ms, times_ms[after][0])
    return start_ms, min(end_ms, start_ms + LONGEST_MS)


def _cost(words: Sequence[Word], times_ms: list[tuple[int, int]], first: int, after: int) -> _Cost:
    start_ms, end_ms = _shown_ms(times_ms, first, after)
    pauses = sum(_gap_ms(times_ms, word) > PAUSE_MS for word in range(first + 1, after))
    width = sum(columns(word.text) + word.space_before for word in words[first:after]) - words[first].space_before
    # One for the cue itself, so that few are made; the square, so that equally many are equally full.
    badness = 1.0 + (1.0 - width / (LINES * LINE_COLUMNS)) ** 2
    if after < len(words):
        badness += 1.0 - min(max(_gap_ms(times_ms, after), 0), PAUSE_MS) / PAUSE_MS
    return int(end_ms - start_ms < SHORTEST_MS), pauses, badness


def _gap_ms(times_ms: list[tuple[int, int]], word: int) -> int:
    """Return the silence before a word."""
    return times_ms[word][0] - times_ms[word - 1][1]


def _add(one: _Cost, other: _Cost) -> _Cost:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def _lines(words: Sequence[Word]) -> tuple[str, ...]:
    """Return words that fit as one line if possible, else as two of about equal width."""
    line = joined(words)
    if len(words) == 1 or columns(line) <= LINE_COLUMNS:
        return (line,)
    fitting = []
    for split in range(1, len(words)):
        halves = words[:split], words[split:]
        lines = (joined(halves[0]), joined(halves[1]))
        # A line of one word may be too long, a line of several may not.
        if all(len(half) == 1 or columns(line) <= LINE_COLUMNS for half, line in zip(halves, lines, strict=True)):
            fitting.append(lines)
    return min(fitting, key=lambda lines: max(map(columns, lines)))


def _divided(word: Word) -> list[Word]:
    """Return the units of a word that was not divided before; each character takes the same share of its time."""
    units = split_units(word.text)
    if len(units) < 2:
        return [word]
    parts: list[Word] = []
    done, start_s = 0, word.start_s
    for unit in units:
        done += len(unit)
        end_s = word.start_s + (word.end_s - word.start_s) * done / len(word.text)
        parts.append(
            replace(word, text=unit, start_s=start_s, end_s=end_s, space_before=word.space_before and not parts)
        )
        start_s = end_s
    return parts


@lru_cache(maxsize=4096)
def _columns_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
