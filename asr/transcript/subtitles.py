"""Words with times → subtitle cues that can be read: short, in two lines, broken where the speaker pauses.

Every way to break the words into cues has a cost. Dynamic programming over the place of the next break finds the
cheapest one, as TeX breaks paragraphs into lines. Costs are compared in this order: cues too short to read, pauses
within a cue, the number and unevenness of the cues.

Sources: Knuth & Plass 1981, "Breaking paragraphs into lines", for the method; Netflix's Timed Text Style Guide for the
size and the longest time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asr.transcript.words import Word

LINES = 2
LINE_CHARACTERS = 42
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


def break_into_cues(words: Sequence[Word]) -> list[Cue]:
    """Return the words as cues that do not overlap.

    A cue has at most two lines of 42 characters and lasts 1 to 7 s. It ends at a pause of more than 0.5 s where that is
    possible. There are three exceptions: a single word longer than a line exceeds the width; a single word of more than
    7 s is shown for 7 s; and words that fill two lines within a second, faster than anybody speaks, are shown only as
    long as they last.

    Args:
        words: in order of their starts.
    """
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
        cues.append(Cue(start_ms, end_ms, _lines([word.text for word in words[first:after]])))
        first = after
    return cues


def _possible_breaks(words: Sequence[Word], times_ms: list[tuple[int, int]], first: int) -> Iterator[int]:
    """Yield the ends (exclusive) of cues from word `first` on that keep the limits of size and time."""
    yield first + 1
    lines, column = 1, len(words[first].text)
    for last in range(first + 1, len(words)):
        width = len(words[last].text)
        if column + 1 + width <= LINE_CHARACTERS:
            column += 1 + width
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
    characters = sum(len(word.text) + 1 for word in words[first:after]) - 1
    # One for the cue itself, so that few are made; the square, so that equally many are equally full.
    badness = 1.0 + (1.0 - characters / (LINES * LINE_CHARACTERS)) ** 2
    if after < len(words):
        badness += 1.0 - min(max(_gap_ms(times_ms, after), 0), PAUSE_MS) / PAUSE_MS
    return int(end_ms - start_ms < SHORTEST_MS), pauses, badness


def _gap_ms(times_ms: list[tuple[int, int]], word: int) -> int:
    """Return the silence before a word."""
    return times_ms[word][0] - times_ms[word - 1][1]


def _add(one: _Cost, other: _Cost) -> _Cost:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def _lines(texts: list[str]) -> tuple[str, ...]:
    """Return words that fit as one line if possible, else as two of about equal length."""
    line = " ".join(texts)
    if len(line) <= LINE_CHARACTERS or len(texts) == 1:
        return (line,)
    pairs = [(" ".join(texts[:split]), " ".join(texts[split:])) for split in range(1, len(texts))]
    # A line of one word may be too long, a line of several may not.
    fitting = [pair for pair in pairs if all(len(line) <= LINE_CHARACTERS or " " not in line for line in pair)]
    return min(fitting, key=lambda pair: max(map(len, pair)))
