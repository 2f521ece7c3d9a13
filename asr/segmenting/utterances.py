"""A long recording's aligned text → utterances cut in pauses.

A word is trusted if its sound fits it. Two words go together if they follow each other in the text and nothing else was
said between them. A row of such words becomes utterances, each from a pause to a pause. All else is skipped: better a
clean minute lost than a wrong word learnt.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.audio.segment import LOUDNESS_STEP_S
from asr.inference.heard import HeardRecording
from asr.inference.long_alignment import FoundWord, LongAlignment

SHORTEST_S, LONGEST_S = 1.0, 20.0
_ENOUGH_TOKENS = 6  # of an utterance that is certain by itself
_PAUSE_S = 0.15  # a shorter one is no place to cut at
_LONG_PAUSE_S = 0.5  # ends an utterance of at least `SHORTEST_S`
_KEPT_BEFORE_S, _KEPT_AFTER_S = 0.15, 0.1  # of the silence around an utterance
_BURST_S, _APART_S = 0.05, 0.1  # a shorter sound, this far from others, is a click
_BRIDGE_S = 0.03  # a shorter silence is within a sound
_NEAR = 1.0  # nats of sound that may be between a word and the pause beside it


class Pause(NamedTuple):
    """A silence, in seconds from the start of the recording."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """How long it is."""
        return self.end_s - self.start_s

    @property
    def utterance_ends_s(self) -> float:
        """Where an utterance before it ends."""
        return self.start_s + min(_KEPT_AFTER_S, self.length_s / 2)

    @property
    def utterance_begins_s(self) -> float:
        """Where an utterance after it begins."""
        return self.end_s - min(_KEPT_BEFORE_S, self.length_s / 2)


@dataclass(frozen=True)
class CutUtterance:
    """An utterance of a recording: times in seconds, and its first and last word, counted in the text."""

    start_s: float
    end_s: float
    first_word: int
    last_word: int


@dataclass(frozen=True)
class Strictness:
    """How well words need to fit their sound; a smaller scale accepts fewer.

    `asr.segmenting.planted` finds the scale that suits a recording.
    """

    scale: float = 1.0

    @property
    def most_unexplained(self) -> float:
        """Nats of sound between two words that belong together."""
        return 2.5 * self.scale

    @property
    def most_mean_loss(self) -> float:
        """Nats that an utterance gives away for each of its tokens."""
        return 1.5 * self.scale

    def trusts(self, word: FoundWord) -> bool:
        """Whether a word fits its sound: by the nats that it gives away, and by its tokens' posteriors."""
        return word.loss <= 5.0 * self.scale * word.tokens and word.fit >= 0.006**self.scale


USUAL = Strictness()


def cut_utterances(edges: Edges, strictness: Strictness = USUAL) -> list[CutUtterance]:
    """Return the utterances of a recording, in order of time.

    Args:
        edges: of the words of its text that were found.
        strictness: how well words need to fit.
    """
    trusted = frozenset(word.index for word in edges.found if strictness.trusts(word))
    utterances: list[CutUtterance] = []
    for first, end in _trusted_rows(edges, trusted, strictness):
        utterances += _cut_row(edges, first, end, trusted, strictness)
    return utterances


class Edges:
    """The places between the words that were found: place i is before word i, and the last one is after all words."""

    def __init__(self, heard: HeardRecording, alignment: LongAlignment) -> None:
        """Measure the sound and the silence at each place."""
        self.heard, self.alignment = heard, alignment
        self.found: Sequence[FoundWord] = alignment.found
        self._sound = np.concatenate([[0.0], np.cumsum(alignment.unexplained, dtype=np.float64)])
        self._quiet = _quiet(heard)
        self._quiet_ends = [pause.end_s for pause in self._quiet]
        count = len(self.found)
        self.word_of = {word.index: word for word in self.found}
        self.sounds = [self._sound_between(place) for place in range(count + 1)]
        self.after = [self._pause(place, after=True) for place in range(count + 1)]  # beside the word before
        self.before = [self._pause(place, after=False) for place in range(count + 1)]  # beside the word after

    def joined(self, place: int, strictness: Strictness) -> bool:
        """Whether the words before and after a place belong together."""
        follows = self.found[place].index == self.found[place - 1].index + 1
        return follows and self.sounds[place] <= strictness.most_unexplained

    def _within_one(self, number: int, step: int) -> bool:
        """Return whether a word that was found is written as one with its neighbour in the text."""
        words = self.alignment.words
        if not 0 <= number < len(self.found):
            return False
        index = self.found[number].index
        if not 0 <= index + step < len(words):
            return False
        one, other = words[index], words[index + step]
        return (one.start, one.end) == (other.start, other.end)

    def frames(self, place: int) -> tuple[int, int]:
        """Return the frames between the words before and after a place."""
        start = self.found[place - 1].end if place else 0
        end = self.found[place].first if place < len(self.found) else len(self.heard.tokens)
        return start, end

    def nats(self, start: int, end: int) -> float:
        """Return how much sound no word explains, in nats."""
        return float(self._sound[max(start, end)] - self._sound[start])

    def _sound_between(self, place: int) -> float:
        return self.nats(*self.frames(place))

    def times(self, place: int) -> tuple[float, float]:
        """Return the times of the last sound before a place and the first one after it.

        A token that the model hears before its word's sound begins is no sound.
        """
        start, end = self.frames(place)
        start_s = frame_time_s(self.heard, start - 1) if place else 0.0
        if place == len(self.found):
            return start_s, self.heard.duration_s
        return start_s, max(frame_time_s(self.heard, end), self.found[place].start_s)

    def _pause(self, place: int, *, after: bool) -> Pause | None:
        """Return the longest pause at a place with hardly any unexplained sound between it and the word beside it.

        Between words that are written as one there is none.
        """
        if self._within_one(place - 1, 1) if after else self._within_one(place, -1):
            return None
        start_s, end_s = self.times(place)
        first, beyond = self.frames(place)
        best: Pause | None = None
        for pause in self._quiet[bisect_right(self._quiet_ends, start_s) :]:
            if pause.start_s >= end_s:
                break
            pause = Pause(max(pause.start_s, start_s), min(pause.end_s, end_s))
            if pause.length_s < _PAUSE_S or (best and pause.length_s <= best.length_s):
                continue
            beside = frame_at(self.heard, pause.start_s if after else pause.end_s)
            beside = min(max(beside, first), beyond)
            if self.nats(*((first, beside) if after else (beside, beyond))) > _NEAR:
                continue
            best = pause
        return best


def frame_time_s(heard: HeardRecording, frame: int) -> float:
    """Return when a frame is, in seconds from the start of the recording."""
    if not heard.segments:
        return 0.0
    segment = heard.segments[int(heard.segment_of(np.array([frame]))[0])]
    return segment.start_s + (frame - segment.first) * heard.frame_shift_s


def frame_at(heard: HeardRecording, time_s: float) -> int:
    """Return the first frame that is not before a time."""
    place = bisect_right(heard.segments, time_s, key=lambda segment: segment.start_s) - 1
    if place < 0:
        return 0
    segment = heard.segments[place]
    return segment.first + min(round((time_s - segment.start_s) / heard.frame_shift_s), segment.frames)


def _quiet(heard: HeardRecording) -> list[Pause]:
    """Return the silences of a recording, by loudness; what the speech detector leaves out is silence."""
    sounds = [
        (segment.start_s + start_s, segment.start_s + end_s)
        for segment in heard.segments
        for start_s, end_s in _sounds(segment.loud)
    ]
    edges = [(0.0, 0.0), *sounds, (heard.duration_s, heard.duration_s)]
    return [Pause(one[1], other[0]) for one, other in pairwise(edges) if other[0] > one[1]]


def _sounds(loud: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return where there is sound, in seconds, without clicks and without the silences within a sound."""
    merged: list[list[int]] = []
    for start, end in runs(loud):
        if merged and (start - merged[-1][1]) * LOUDNESS_STEP_S < _BRIDGE_S:
            merged[-1][1] = end
        else:
            merged.append([start, end])
    borders = [-len(loud), *(border for run in merged for border in run), 2 * len(loud)]
    return [
        (start * LOUDNESS_STEP_S, end * LOUDNESS_STEP_S)
        for before, start, end, after in zip(borders[::2], borders[1::2], borders[2::2], borders[3::2], strict=False)
        if (end - start) * LOUDNESS_STEP_S >= _BURST_S or min(start - before, after - end) * LOUDNESS_STEP_S < _APART_S
    ]


def runs(loud: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return where there are ones: of each row of them the first place, and the one after the last."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in changes.reshape(-1, 2)]


def _trusted_rows(edges: Edges, trusted: frozenset[int], strictness: Strictness) -> Iterator[tuple[int, int]]:
    """Yield rows of trusted words that belong together, each from its first word to the one after its last."""
    start: int | None = None
    for place in range(len(edges.found) + 1):
        is_trusted = place < len(edges.found) and edges.found[place].index in trusted
        if start is not None and not (is_trusted and edges.joined(place, strictness)):
            yield start, place
            start = None
        if is_trusted and start is None:
            start = place


def _cut_row(
    edges: Edges, first: int, end: int, trusted: frozenset[int], strictness: Strictness
) -> Iterator[CutUtterance]:
    """Yield the utterances of a row. Words before its first pause and after its last one are left out."""
    begins, ends = _pauses(edges, first, end)
    begin = first
    while begin < end:
        stop = _end_of_utterance(begins[begin], ends, begin) if begin in begins else None
        if stop is None:
            begin += 1
            continue
        if _is_certain(edges, begin, stop, trusted) and _mean_loss(edges, begin, stop) <= strictness.most_mean_loss:
            start_s, end_s = _extent(begins[begin], ends[stop])
            yield CutUtterance(start_s, end_s, edges.found[begin].index, edges.found[stop - 1].index)
        begin = stop


def _pauses(edges: Edges, first: int, end: int) -> tuple[dict[int, Pause], dict[int, Pause]]:
    """Return the pauses in which utterances of a row may begin, and those in which they may end, by place.

    They differ where a noise is in the pause. If only one side has a pause, it serves both sides.
    """
    inside = range(first + 1, end)
    begins = {first: edges.before[first], **{place: edges.before[place] or edges.after[place] for place in inside}}
    ends = {**{place: edges.after[place] or edges.before[place] for place in inside}, end: edges.after[end]}
    return (
        {place: pause for place, pause in begins.items() if pause is not None},
        {place: pause for place, pause in ends.items() if pause is not None},
    )


def _mean_loss(edges: Edges, first: int, end: int) -> float:
    """Return what a row of words gives away for each token: every word of a poor model fits a little."""
    words = edges.found[first:end]
    loss = sum(word.loss for word in words) + sum(edges.sounds[first + 1 : end])
    return loss / sum(word.tokens for word in words)


def _is_certain(edges: Edges, first: int, end: int, trusted: frozenset[int]) -> bool:
    """Return whether a row is no chance: a few tokens are somewhere in any text, so it needs a trusted neighbour."""
    words = edges.found[first:end]
    beside = (words[0].index - 1, words[-1].index + 1)
    return sum(word.tokens for word in words) >= _ENOUGH_TOKENS or any(index in trusted for index in beside)


def _end_of_utterance(start: Pause, ends: Mapping[int, Pause], begin: int) -> int | None:
    """Return where an utterance ends: at its first long pause, or else at the longest one that is not too late."""
    best: int | None = None
    last = max(ends, default=begin)
    for stop in range(begin + 1, last + 1):
        if stop not in ends:
            continue
        start_s, end_s = _extent(start, ends[stop])
        if end_s - start_s > LONGEST_S:
            break
        if end_s - start_s < SHORTEST_S:
            continue
        if ends[stop].length_s >= _LONG_PAUSE_S or stop == last:
            return stop
        if best is None or ends[stop].length_s >= ends[best].length_s:
            best = stop
    return best


def _extent(before: Pause, after: Pause) -> tuple[float, float]:
    """Return where an utterance between two pauses begins and ends; a short one gets more of the silence around it."""
    start_s, end_s = before.utterance_begins_s, after.utterance_ends_s
    missing_s = SHORTEST_S + 0.001 - (end_s - start_s)
    if missing_s > 0:
        room = (start_s - (before.start_s + before.end_s) / 2, (after.start_s + after.end_s) / 2 - end_s)
        left_s = min(max(missing_s / 2, missing_s - room[1]), room[0])
        start_s, end_s = start_s - left_s, end_s + min(missing_s - left_s, room[1])
    return start_s, end_s
