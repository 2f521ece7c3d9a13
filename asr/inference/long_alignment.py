"""A recording of hours and its text, which may be wrong in places → when each word was said, if it was.

    heard text and written text  →  runs that are surely the same (`asr.decoding.anchors`)
    runs                         →  points: here this word begins
    points                       →  stretches of some seconds between two of them
    a stretch                    →  its words' frames, by a path that may leave out words and sound (`skipping.py`)

So a fault of the text costs its own stretch, and moves nothing after it. What is read in another order than written is
found where it was said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from asr.audio.segment import Extent
from asr.decoding.anchors import Run, anchor_runs
from asr.decoding.skipping import MOST_CELLS, Placed, place_words, states_of
from asr.inference.heard import HeardRecording
from asr.text.tokens import SPACE, PieceTable, TokenTable
from asr.text.written import WrittenWord
from asr.transcript.words import TokenSpan, acoustic_value, word_extents

_LEAST_STRETCH_S = 5.0  # between two points
_SURE_CHARACTERS = 3  # equal on either side of a point
_END_S, _END_WORDS = 60.0, 300  # of a stretch that is too large, only so much at either end is searched


@dataclass(frozen=True)
class FoundWord:
    """A word of the text that was found in the recording.

    Attributes:
        index: its number in the text.
        start_s: its start, in seconds from the start of the recording.
        end_s: its end.
        first: the first frame of its first token, counted as in `HeardRecording`.
        end: the frame after its last token.
        tokens: their number.
        loss: how many nats it gives away in comparison with the best tokens of its frames.
        fit: geometric mean of its tokens' highest posteriors.
    """

    index: int
    start_s: float
    end_s: float
    first: int
    end: int
    tokens: int
    loss: float
    fit: float


@dataclass(frozen=True)
class LongAlignment:
    """Which words of a text were found in a recording.

    Attributes:
        words: of the text. A model of pieces may hold several units of a script without spaces together.
        found: those that were found, in order of time.
        unexplained: `(frame,)`, how many nats a frame gives away because no word takes it; 0 where one does.
    """

    words: tuple[WrittenWord, ...]
    found: tuple[FoundWord, ...]
    unexplained: NDArray[np.float32]


def align_words(heard: HeardRecording, words: Sequence[WrittenWord], table: TokenTable) -> LongAlignment:
    """Return which words of a text were said in a recording, and when.

    Args:
        heard: what the model hears in it.
        words: of the text, in order.
        table: the model's tokens. Of a word, characters that have no token are left out.
    """
    words, spelled = _spelled(words, table)
    text, word_of = _as_text(words)
    places = _place(heard, _blocks(anchor_runs(text, heard.text), word_of, heard), spelled)
    unexplained = heard.unexplained()
    for place in places:
        unexplained[place.start : place.end] = 0.0
    return LongAlignment(tuple(words), tuple(_timed(places, heard)), unexplained)


def _spelled(words: Sequence[WrittenWord], table: TokenTable) -> tuple[list[WrittenWord], list[list[int]]]:
    """Return words and the tokens of each; units whose pieces cannot be told apart are one word."""
    known = table.characters
    units: list[WrittenWord] = []
    tokens: list[list[int]] = []
    for _, group in groupby(zip(words, accumulate(word.space_before for word in words), strict=True), lambda at: at[1]):
        parts = [word for word, _ in group]
        kept = ["".join(filter(known.__contains__, part.spelled)) for part in parts]
        encoded = table.encode("".join(kept))
        if not isinstance(table, PieceTable):
            units += parts
            tokens += [table.encode(part) for part in kept]
            continue
        ends = list(accumulate(len(table.texts[token].strip()) for token in encoded))
        begin = start = 0
        for number, end in enumerate(accumulate(map(len, kept)), 1):
            if number == len(parts) or end in ends:
                beyond = len(ends) if number == len(parts) else ends.index(end) + 1
                whole = "".join(part.spelled for part in parts[begin:number])
                units.append(replace(parts[begin], spelled=whole, end=parts[number - 1].end))
                tokens.append(encoded[start:beyond])
                begin, start = number, beyond
    return units, tokens


def _as_text(words: Sequence[WrittenWord]) -> tuple[str, NDArray[np.int64]]:
    """Return the words as one string, and of each character the number of its word; of a space, the word after it."""
    parts = [(SPACE if word.space_before and number else "") + word.spelled for number, word in enumerate(words)]
    return "".join(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])


@dataclass(frozen=True)
class _Point:
    """The word `word` begins at `frame` or later, and the one before it has ended there."""

    frame: int
    word: int


@dataclass(frozen=True)
class _Stretch:
    """Frames, and the words that may have been said there."""

    first: int
    end: int
    words: tuple[int, ...]


def _blocks(runs: Iterable[Run], word_of: NDArray[np.int64], heard: HeardRecording) -> list[list[_Point]]:
    """Return the points of each run, in order of time; a run without a point is left out."""
    blocks: list[list[_Point]] = []
    frame = 0
    least = _LEAST_STRETCH_S / heard.frame_shift_s
    for run in runs:
        points = [point for point in _points(run, word_of, heard) if point.frame >= frame]
        if not points:
            continue
        kept = [points[0]]
        for point in points[1:]:
            if point.frame >= kept[-1].frame + least or (point is points[-1] and point.frame > kept[-1].frame):
                kept.append(point)
        blocks.append(kept)
        frame = kept[-1].frame
    return blocks


def _points(run: Run, word_of: NDArray[np.int64], heard: HeardRecording) -> Iterator[_Point]:
    """Yield where words begin in a run: between two characters that are equal, as are some before and after them."""
    for match in run.matches:
        inside = range(match.text + _SURE_CHARACTERS, match.text + match.length - _SURE_CHARACTERS + 1)
        for place in inside:
            at = match.heard + place - match.text
            if heard.text[at - 1] == SPACE and place >= 2 and word_of[place] == word_of[place - 1]:
                before = at - 2
            elif heard.text[at] != SPACE and word_of[place] != word_of[place - 1]:
                before = at - 1
            else:
                continue
            last, first = int(heard.text_frames[before]), int(heard.text_frames[at])
            if last >= first:
                continue
            of_last, of_first = heard.segment_of(np.array([last, first]))
            middle = (last + first + 1) // 2 if of_last == of_first else heard.segments[of_first].first
            yield _Point(middle, int(word_of[place]))


def _stretches(blocks: Sequence[Sequence[_Point]], words: int, frames: int) -> Iterator[_Stretch]:
    """Yield the stretches between points, in order of time.

    Where text and speech have another order, the words between two blocks of the text may have been said after the
    first of them or before the second. They are offered to both places.
    """
    owned = np.zeros(words, bool)
    for block in blocks:
        owned[block[0].word : block[-1].word] = True
    in_text = sorted(blocks, key=lambda block: (block[0].word, block[-1].word))
    place_of = {id(block): place for place, block in enumerate(in_text)}
    for before, after in pairwise([None, *blocks, None]):
        tail = head = range(0)
        if before is not None:  # the words after the one block, up to the next one in the text
            place = place_of[id(before)] + 1
            tail = range(before[-1].word, in_text[place][0].word if place < len(in_text) else words)
        if after is not None:  # and those before the other block
            place = place_of[id(after)] - 1
            head = range(in_text[place][-1].word if place >= 0 else 0, after[0].word)
        if before is None and after is None:
            tail = range(words)
        chosen = [word for word in dict.fromkeys([*tail, *head]) if not owned[word]]
        yield _Stretch(before[-1].frame if before else 0, after[0].frame if after else frames, tuple(chosen))
        for one, other in pairwise(after or ()):
            yield _Stretch(one.frame, other.frame, tuple(range(one.word, other.word)))


def _place(heard: HeardRecording, blocks: Sequence[Sequence[_Point]], spelled: Sequence[Sequence[int]]) -> list[Placed]:
    """Return the words that are found, in order of time, with their frames in the recording."""
    found: list[Placed] = []
    for whole in _stretches(blocks, len(spelled), len(heard.tokens)):
        for stretch in _searchable(whole, spelled, heard.frame_shift_s):
            words = [word for word in stretch.words if spelled[word]]
            breaks = [
                segment.first - stretch.first
                for segment in heard.segments
                if segment.skipped and stretch.first < segment.first < stretch.end
            ]
            dense = heard.log_posteriors(stretch.first, stretch.end)
            placed = place_words(dense, [spelled[word] for word in words], heard.silent, breaks)
            found += [_moved(one, words[one.word], stretch.first) for one in placed]
    return _once(found)


def _once(found: Sequence[Placed]) -> list[Placed]:
    """Return each word once: where more of its neighbours in the text are beside it, or else where it fits better."""
    best: dict[int, tuple[int, float, int]] = {}
    for place, one in enumerate(found):
        beside = sum(
            0 <= place + step < len(found) and found[place + step].word == one.word + step for step in (-2, -1, 1, 2)
        )
        best[one.word] = min(best.get(one.word, (0, math.inf, 0)), (-beside, one.loss, place))
    return [found[place] for place in sorted(place for _, _, place in best.values())]


def _searchable(stretch: _Stretch, spelled: Sequence[Sequence[int]], frame_shift_s: float) -> list[_Stretch]:
    """Return a stretch, or what can be searched at its two ends if it is too large."""
    frames = stretch.end - stretch.first
    if frames * states_of([spelled[word] for word in stretch.words]) <= MOST_CELLS:
        return [stretch]
    some = min(round(_END_S / frame_shift_s), frames // 2)
    words = min(_END_WORDS, len(stretch.words) // 2)
    return [
        _Stretch(stretch.first, stretch.first + some, stretch.words[:words]),
        _Stretch(stretch.end - some, stretch.end, stretch.words[len(stretch.words) - words :]),
    ]


def _moved(placed: Placed, word: int, first: int) -> Placed:
    spans = (TokenSpan(span.token, span.start + first, span.end + first, span.probability) for span in placed.spans)
    return Placed(word, tuple(spans), placed.loss)


def _timed(places: Sequence[Placed], heard: HeardRecording) -> Iterator[FoundWord]:
    """Yield the words with their times: those of a segment together, as the recogniser does."""
    of_word = heard.segment_of(np.array([place.start for place in places], np.int64)) if places else ()
    for number, group in groupby(zip(of_word, places, strict=True), lambda pair: int(pair[0])):
        segment, members = heard.segments[number], [place for _, place in group]
        spans = [_moved(member, member.word, -segment.first).spans for member in members]
        speech = Extent(segment.speech.start_s - segment.start_s, segment.speech.end_s - segment.start_s)
        extents = word_extents(spans, heard.frame_shift_s, speech)
        for place, extent in zip(members, extents, strict=True):
            yield FoundWord(
                place.word,
                segment.start_s + extent.start_s,
                segment.start_s + extent.end_s,
                place.start,
                place.end,
                len(place.spans),
                place.loss,
                math.exp(acoustic_value(place.spans)),
            )
