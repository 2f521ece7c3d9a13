"""A long recording's aligned text → utterances cut in pauses, and what is skipped, with the reason.

A word is trusted if its sound fits it. Two words go together if they follow each other in the text and nothing else was
said between them. A row of such words becomes utterances, each from a pause to a pause. All else is skipped: better a
clean minute lost than a wrong word learnt.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.audio.segment import LOUDNESS_STEP_S
from asr.inference.heard import LEVEL_STEP_S, HeardRecording, HeardSegment
from asr.inference.long_alignment import FoundWord, LongAlignment

Reason = Literal[
    "said but not written",
    "written but not said",
    "text and speech differ",
    "no speech recognised",
    "not certain enough",
    "too short",
]

_MUSIC: Reason = "no speech recognised"  # music, noise, another language
SHORTEST_S, LONGEST_S = 1.0, 20.0
# Nats of a word for each of its tokens, and nats of sound between two words, that are still trusted, chosen on AN4's
# dev set with `benchmarks/segment.py`: 98 % of the clean utterances were found, and 1 % of what was accepted was wrong.
_MOST_LOSS, _MOST_UNEXPLAINED = 5.0, 2.5
_LEAST_FIT = 0.006
_MOST_MEAN_LOSS = 1.5  # nats of an utterance for each of its tokens
_ENOUGH_TOKENS = 6  # of an utterance that is certain by itself
_PAUSE_S = 0.15  # a shorter one is no place to cut at
_LONG_PAUSE_S = 0.5  # ends an utterance of at least `SHORTEST_S`
_KEPT_BEFORE_S, _KEPT_AFTER_S = 0.15, 0.1  # of the silence around an utterance
_BURST_S, _APART_S = 0.05, 0.1  # a shorter sound, this far from others, is a click
_BRIDGE_S = 0.03  # a shorter silence is within a sound
_LEAST_MUSIC_S, _BREATH_S = 2.0, 0.5  # a shorter stretch is no music; a shorter silence is within it
_QUIETER_DB, _ABOVE_FLOOR_DB = 20.0, 10.0  # music is at most so much quieter than speech, and above the noise
_LEAST_TOKENS_PER_S, _LEAST_CERTAINTY = 1.0, 0.6  # of speech that is recognised
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
class Skipped:
    """A stretch of a recording, or of its text, that became no utterance.

    Attributes:
        start_s: its start, in seconds from the start of the recording.
        end_s: its end.
        words: those of the text, by number.
        reason: why it was skipped.
    """

    start_s: float
    end_s: float
    words: tuple[int, ...]
    reason: Reason


def cut_utterances(heard: HeardRecording, alignment: LongAlignment) -> tuple[list[CutUtterance], list[Skipped]]:
    """Return the utterances of a recording, in order of time, and what was skipped.

    Args:
        heard: what the model hears in the recording.
        alignment: which words of its text were found.
    """
    edges = _Edges(heard, alignment)
    utterances: list[CutUtterance] = []
    for first, end in _trusted_rows(edges):
        utterances += _cut_row(edges, first, end)
    return utterances, list(_skipped(edges, utterances))


class _Edges:
    """The places between the words that were found: place i is before word i, and the last one is after all words."""

    def __init__(self, heard: HeardRecording, alignment: LongAlignment) -> None:
        self.heard, self.alignment = heard, alignment
        self.found: Sequence[FoundWord] = alignment.found
        self._sound = np.concatenate([[0.0], np.cumsum(alignment.unexplained, dtype=np.float64)])
        self._quiet = _quiet(heard)
        self._quiet_ends = [pause.end_s for pause in self._quiet]
        count = len(self.found)
        self.trusted = [_is_trusted(word) for word in self.found]
        self.trusted_of = {word.index: trusted for word, trusted in zip(self.found, self.trusted, strict=True)}
        self.sounds = [self._sound_between(place) for place in range(count + 1)]
        self.after = [self._pause(place, after=True) for place in range(count + 1)]  # beside the word before
        self.before = [self._pause(place, after=False) for place in range(count + 1)]  # beside the word after

    def joined(self, place: int) -> bool:
        """Whether the words before and after a place belong together."""
        return self.found[place].index == self.found[place - 1].index + 1 and self.sounds[place] <= _MOST_UNEXPLAINED

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
        """Return the times of the tokens before and after a place."""
        start, end = self.frames(place)
        start_s = frame_time_s(self.heard, start - 1) if place else 0.0
        end_s = frame_time_s(self.heard, end) if place < len(self.found) else self.heard.duration_s
        return start_s, end_s

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


def _is_trusted(word: FoundWord) -> bool:
    return word.loss <= _MOST_LOSS * word.tokens and word.fit >= _LEAST_FIT


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
    for start, end in _runs(loud):
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


def _runs(loud: NDArray[np.bool_]) -> list[tuple[int, int]]:
    changes = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(np.int8)))
    return [(int(start), int(end)) for start, end in changes.reshape(-1, 2)]


def _trusted_rows(edges: _Edges) -> Iterator[tuple[int, int]]:
    """Yield rows of trusted words that belong together, each from its first word to the one after its last."""
    start: int | None = None
    for place, trusted in enumerate([*edges.trusted, False]):
        if start is not None and not (trusted and edges.joined(place)):
            yield start, place
            start = None
        if trusted and start is None:
            start = place


def _cut_row(edges: _Edges, first: int, end: int) -> Iterator[CutUtterance]:
    """Yield the utterances of a row. Words before its first pause and after its last one are left out."""
    pauses: dict[int, Pause] = {}
    for place in range(first, end + 1):
        pause = edges.before[place] if place == first else edges.after[place]
        if pause is not None:
            pauses[place] = pause
    places = sorted(pauses)
    begin = 0
    while begin < len(places) - 1:
        stop = _end_of_utterance(pauses, places, begin)
        if stop is None:
            begin += 1
            continue
        start_s, end_s = _extent(pauses[places[begin]], pauses[places[stop]])
        if _fits(edges, places[begin], places[stop]):
            yield CutUtterance(start_s, end_s, edges.found[places[begin]].index, edges.found[places[stop] - 1].index)
        begin = stop


def _fits(edges: _Edges, first: int, end: int) -> bool:
    """Return whether a row of words fits its sound as a whole, and is no chance.

    Every word of a poor model fits a little. And a few tokens are somewhere in any text, so a short row needs a trusted
    neighbour.
    """
    words = edges.found[first:end]
    tokens = sum(word.tokens for word in words)
    loss = sum(word.loss for word in words) + sum(edges.sounds[first + 1 : end])
    beside = (words[0].index - 1, words[-1].index + 1)
    is_supported = tokens >= _ENOUGH_TOKENS or any(edges.trusted_of.get(index, False) for index in beside)
    return loss <= _MOST_MEAN_LOSS * tokens and is_supported


def _end_of_utterance(pauses: dict[int, Pause], places: Sequence[int], begin: int) -> int | None:
    """Return where an utterance ends: at its first long pause, or else at the longest one that is not too late."""
    best: int | None = None
    for stop in range(begin + 1, len(places)):
        pause = pauses[places[stop]]
        start_s, end_s = _extent(pauses[places[begin]], pause)
        if end_s - start_s > LONGEST_S:
            break
        if end_s - start_s < SHORTEST_S:
            continue
        if pause.length_s >= _LONG_PAUSE_S or stop == len(places) - 1:
            return stop
        if best is None or pause.length_s >= pauses[places[best]].length_s:
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


def _skipped(edges: _Edges, utterances: Sequence[CutUtterance]) -> Iterator[Skipped]:
    """Yield what stands between the utterances, in order of time. Each word that is in none of them occurs once."""
    heard = edges.heard
    borders = [0.0, *(time_s for one in utterances for time_s in (one.start_s, one.end_s)), heard.duration_s]
    music = _loud_without_words(edges)
    for words, start_s, end_s in zip(_words_of_gaps(edges, utterances), borders[::2], borders[1::2], strict=True):
        inside = [Pause(max(one.start_s, start_s), min(one.end_s, end_s)) for one in music]
        inside = [one for one in inside if one.length_s >= _LEAST_MUSIC_S]
        sound = edges.nats(frame_at(heard, start_s), frame_at(heard, end_s))
        sound -= sum(edges.nats(frame_at(heard, one.start_s), frame_at(heard, one.end_s)) for one in inside)
        if words or sound > _MOST_UNEXPLAINED:
            yield Skipped(start_s, end_s, tuple(words), _reason(edges, words, sound, end_s - start_s))
        yield from (Skipped(one.start_s, one.end_s, (), _MUSIC) for one in inside)


def _reason(edges: _Edges, words: Sequence[int], sound: float, length_s: float) -> Reason:
    """Return why a stretch was skipped: its words, and the nats of sound that none of them explains, say it."""
    trusted = [edges.trusted_of[word] for word in words if word in edges.trusted_of]
    if not words:
        return "said but not written"
    if sound > _MOST_UNEXPLAINED or not all(trusted):
        return "text and speech differ"
    if len(trusted) < len(words):
        return "written but not said"
    return "not certain enough" if length_s > SHORTEST_S else "too short"


def _words_of_gaps(edges: _Edges, utterances: Sequence[CutUtterance]) -> list[list[int]]:
    """Return the words before each utterance, and after the last one, that are in none.

    A word that was not found belongs where the word before it in the text is.
    """
    starts = [one.start_s for one in utterances]
    gap_of = {word.index: bisect_left(starts, word.start_s) for word in edges.found}
    for number, one in enumerate(utterances):
        gap_of |= dict.fromkeys(range(one.first_word, one.last_word + 1), -1 - number)
    gaps: list[list[int]] = [[] for _ in range(len(utterances) + 1)]
    last = 0
    for word in range(len(edges.alignment.words)):
        gap = gap_of.get(word, last)
        if gap >= 0:
            gaps[gap].append(word)
        last = gap if gap >= 0 else -gap
    return gaps


def _loud_without_words(edges: _Edges) -> list[Pause]:
    """Return the stretches that are about as loud as speech, but in which no words are recognised."""
    heard = edges.heard
    levels = heard.levels_db
    speech, spoken = np.zeros(len(levels), bool), np.zeros(len(levels), bool)
    firsts = [word.first for word in edges.found]
    for segment in heard.segments:
        speech[_steps(segment.start_s, segment.end_s)] = True
        has_words = bisect_left(firsts, segment.first + segment.frames) > bisect_left(firsts, segment.first)
        if has_words or _is_recognised(heard, segment):
            spoken[_steps(segment.start_s, segment.end_s)] = True
    if len(levels) == 0 or spoken.all():
        return []
    of_speech = float(np.median(levels[speech])) if speech.any() else -_QUIETER_DB
    loud = levels > max(of_speech - _QUIETER_DB, float(np.percentile(levels, 5)) + _ABOVE_FLOOR_DB)
    stretches: list[Pause] = []
    for start, end in _runs(loud & ~spoken):
        start_s, end_s = start * LEVEL_STEP_S, end * LEVEL_STEP_S
        if (
            stretches
            and start_s - stretches[-1].end_s <= _BREATH_S
            and not spoken[_steps(stretches[-1].end_s, start_s)].any()
        ):
            stretches[-1] = Pause(stretches[-1].start_s, end_s)
        else:
            stretches.append(Pause(start_s, end_s))
    return [one for one in stretches if one.length_s >= _LEAST_MUSIC_S]


def _steps(start_s: float, end_s: float) -> slice:
    return slice(round(start_s / LEVEL_STEP_S), round(end_s / LEVEL_STEP_S))


def _is_recognised(heard: HeardRecording, segment: HeardSegment) -> bool:
    """Return whether the model recognises speech in a segment: enough tokens, and surely enough."""
    inside = slice(segment.first, segment.first + segment.frames)
    best = heard.logs[inside][~np.isin(heard.tokens[inside, 0], heard.silent), 0].astype(np.float64)
    if len(best) < _LEAST_TOKENS_PER_S * (segment.end_s - segment.start_s):
        return False
    return bool(np.exp(best.mean()) >= _LEAST_CERTAINTY)
