"""What stands between the utterances of a long recording, and why it became none."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from asr.inference.heard import LEVEL_STEP_S, HeardRecording, HeardSegment
from asr.segmenting.utterances import SHORTEST_S, USUAL, CutUtterance, Edges, Pause, Strictness, frame_at, runs

Reason = Literal[
    "said but not written",
    "written but not said",
    "text and speech differ",
    "no speech recognised",
    "not certain enough",
    "too short",
]

_MUSIC: Reason = "no speech recognised"  # music, noise, another language
_LEAST_MUSIC_S, _BREATH_S = 2.0, 0.5  # a shorter stretch is no music; a shorter silence is within it
_QUIETER_DB, _ABOVE_FLOOR_DB = 20.0, 10.0  # music is at most so much quieter than speech, and above the noise
_LEAST_TOKENS_PER_S, _LEAST_CERTAINTY = 1.0, 0.6  # of speech that is recognised


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


def skipped_stretches(
    edges: Edges, utterances: Sequence[CutUtterance], strictness: Strictness = USUAL
) -> Iterator[Skipped]:
    """Yield what stands between the utterances, in order of time. Each word that is in none of them occurs once."""
    heard = edges.heard
    borders = [0.0, *(time_s for one in utterances for time_s in (one.start_s, one.end_s)), heard.duration_s]
    music = _loud_without_words(edges)
    for words, start_s, end_s in zip(_words_of_gaps(edges, utterances), borders[::2], borders[1::2], strict=True):
        inside = [Pause(max(one.start_s, start_s), min(one.end_s, end_s)) for one in music]
        inside = [one for one in inside if one.length_s >= _LEAST_MUSIC_S]
        sound = edges.nats(frame_at(heard, start_s), frame_at(heard, end_s))
        sound -= sum(edges.nats(frame_at(heard, one.start_s), frame_at(heard, one.end_s)) for one in inside)
        if words or sound > strictness.most_unexplained:
            yield Skipped(start_s, end_s, tuple(words), _reason(edges, words, sound, end_s - start_s, strictness))
        yield from (Skipped(one.start_s, one.end_s, (), _MUSIC) for one in inside)


def _reason(edges: Edges, words: Sequence[int], sound: float, length_s: float, strictness: Strictness) -> Reason:
    """Return why a stretch was skipped: its words, and the nats of sound that none of them explains, say it."""
    found = [edges.word_of[word] for word in words if word in edges.word_of]
    if not words:
        return "said but not written"
    if sound > strictness.most_unexplained or not all(map(strictness.trusts, found)):
        return "text and speech differ"
    if len(found) < len(words):
        return "written but not said"
    return "not certain enough" if length_s > SHORTEST_S else "too short"


def _words_of_gaps(edges: Edges, utterances: Sequence[CutUtterance]) -> list[list[int]]:
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


def _loud_without_words(edges: Edges) -> list[Pause]:
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
    for start, end in runs(loud & ~spoken):
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
