"""Recordings that arrive in blocks → segments short enough for the network, cut where nobody speaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr.audio import speech_detector
from asr.audio.speech_detector import WINDOW_S, Detector, is_speech

Segmentation: TypeAlias = Literal["vad", "fixed", "none"]
Waveform: TypeAlias = NDArray[np.float32]

# No segment is longer, but for the segmentation `none`.
LONGEST_SEGMENT_S = 30.0

# A pause this long ends a segment. Of the pauses around it each segment keeps these parts: in truth a quarter of a
# second of either, since the detector is some 0.06 s late at both ends. Shorter recordings are cut there too: models
# are trained on utterances, and two of them in one file cost AN4's model almost twice as many word errors, six thrice,
# three seconds of silence before or after an utterance almost twice as many.
_PAUSE_S = 0.6
_BEFORE_S, _AFTER_S = 0.3, 0.2

_STEP_S = 0.02
_QUIET_S = 0.2


class Segment(NamedTuple):
    """A part of a recording; segments come in order and do not overlap."""

    start: int
    """Samples from the start of the recording."""
    waveform: Waveform
    """`(sample,)`, mono."""
    skipped: int
    """Samples between the segment before, or the start of the recording, and this one: nobody speaks there."""


def segments(
    blocks: Iterable[Waveform],
    rate_hz: int,
    segmentation: Segmentation = "vad",
    detector: Detector | None = None,
) -> Iterator[Segment]:
    """Yield a recording's segments as soon as they are known.

    Args:
        blocks: the recording, `(sample,)` each, mono.
        rate_hz: its sample rate.
        segmentation: `vad` cuts in pauses and leaves long ones out, those at the ends too, and everything if nobody
            speaks; `fixed` leaves nothing out, cuts at the quietest fifth of a second between 15 and 30 s; `none` keeps
            the recording whole.
        detector: of speech, for `vad`, at its beginning; by default that of the package silero-vad.
    """
    detector = (detector or speech_detector.SpeechDetector(rate_hz)) if segmentation == "vad" else None
    rest = iter(blocks)
    head: list[Waveform] = []
    while segmentation == "none" or sum(map(len, head)) <= LONGEST_SEGMENT_S * rate_hz:
        block = next(rest, None)
        if block is None:
            if head:
                whole = Segment(0, np.concatenate(head), 0)
                found = list(_speech_segments([whole.waveform], rate_hz, detector)) if detector else [whole]
                yield from [_with_short_silence(whole, found[0], rate_hz)] if len(found) == 1 else found
            return
        head.append(block)
    blocks = chain(head, rest)
    yield from _speech_segments(blocks, rate_hz, detector) if detector else _fixed_segments(blocks, rate_hz)


def _with_short_silence(whole: Segment, only: Segment, rate_hz: int) -> Segment:
    """Return a recording's only segment with the silence at either end of the recording, unless that is a pause.

    Nothing is cut off needlessly: the detector may come too late for a word.
    """
    start, end = only.start, only.start + len(only.waveform)
    if start < (_PAUSE_S - _BEFORE_S) * rate_hz:
        start = 0
    if len(whole.waveform) - end < (_PAUSE_S - _AFTER_S) * rate_hz:
        end = len(whole.waveform)
    return Segment(start, whole.waveform[start:end], start)


class Counted:
    """Passes a recording's blocks on, as they are asked for, and counts their samples."""

    def __init__(self, blocks: Iterable[Waveform]) -> None:
        """Begin with none."""
        self._blocks = blocks
        self.samples = 0

    def __iter__(self) -> Iterator[Waveform]:
        for block in self._blocks:
            self.samples += len(block)
            yield block


class _Tape:
    """The samples of a recording from `start` on; what was cut off is forgotten."""

    def __init__(self) -> None:
        self._samples = np.zeros(0, np.float32)
        self.start = 0
        self._cut_to = 0

    @property
    def end(self) -> int:
        return self.start + len(self._samples)

    def append(self, block: Waveform) -> None:
        self._samples = np.concatenate([self._samples, block])

    def forget(self, until: int) -> None:
        """Drop what lies before the sample `until`."""
        if until > self.start:
            self._samples = self._samples[until - self.start :]
            self.start = until

    def cut(self, start: int, end: int) -> Segment:
        """Return a segment and forget all before its end."""
        segment = Segment(start, self.part(start, end).copy(), start - self._cut_to)
        self.forget(end)
        self._cut_to = end
        return segment

    def part(self, start: int, end: int) -> Waveform:
        return self._samples[start - self.start : end - self.start]


def _fixed_segments(blocks: Iterable[Waveform], rate_hz: int) -> Iterator[Segment]:
    longest = int(LONGEST_SEGMENT_S * rate_hz)
    tape = _Tape()
    for block in blocks:
        tape.append(block)
        while tape.end - tape.start > longest:
            yield tape.cut(tape.start, _quietest(tape, tape.start + longest // 2, tape.start + longest, rate_hz))
    yield tape.cut(tape.start, tape.end)


def _speech_segments(blocks: Iterable[Waveform], rate_hz: int, detector: Detector) -> Iterator[Segment]:
    """Yield the segments in which there is speech.

    A segment begins a little before its first window with speech. It ends a little after its last one, once no other
    has come for `_PAUSE_S`; or at the quietest place of its second half, before it is longer than `LONGEST_SEGMENT_S`.
    """
    longest, pause, before, after = (int(s * rate_hz) for s in (LONGEST_SEGMENT_S, _PAUSE_S, _BEFORE_S, _AFTER_S))
    tape = _Tape()
    start: int | None = None  # of the segment that is open, if one is
    last = 0  # where its last window with speech ended
    for begin, end, speech in _windows(blocks, rate_hz, detector, tape):
        if speech:
            start = max(begin - before, tape.start) if start is None else start
            last = end
        if start is None:
            tape.forget(end - before)
        elif end - last >= pause:
            yield tape.cut(start, last + after)
            start = None
        elif end + after - start > longest:
            cut = _quietest(tape, start + longest // 2, end, rate_hz)
            yield tape.cut(start, cut)
            start = cut if last > cut else None
    if start is not None:
        yield tape.cut(start, min(last + after, tape.end))


def _windows(
    blocks: Iterable[Waveform], rate_hz: int, detector: Detector, tape: _Tape
) -> Iterator[tuple[int, int, bool]]:
    """Put the blocks on the tape and yield where each window begins and ends, and whether there is speech in it."""
    speech, window = False, 0
    for block in chain(blocks, [None]):
        if block is None:
            probabilities = detector(np.zeros(0, np.float32), last=True)
        else:
            tape.append(block)
            probabilities = detector(block)
        for probability in probabilities.tolist():
            speech = is_speech(probability, speech)
            begin, window = round(window * WINDOW_S * rate_hz), window + 1
            yield begin, min(round(window * WINDOW_S * rate_hz), tape.end), speech


def _quietest(tape: _Tape, start: int, end: int, rate_hz: int) -> int:
    """Return the sample in the middle of the stretch with the least energy between two samples of the tape."""
    step = int(_STEP_S * rate_hz)
    waveform = tape.part(start, end)
    energies = np.square(waveform[: len(waveform) // step * step], dtype=np.float64).reshape(-1, step).sum(1)
    width = round(_QUIET_S / _STEP_S)
    sums = np.convolve(energies, np.ones(width), mode="valid")
    return start + int((np.argmin(sums) + width / 2) * step)


_LOUDNESS_STEP_S = 0.01
_LOUD_SHARE = 0.25  # of the way, in dB, from the quiet to the loud parts of an utterance
_DEPTH_DB = 34  # by which the quiet parts lie below the loud ones at most, lest digital silence make background loud
_BURST_S, _APART_S = 0.05, 0.1  # what is loud for less, and so far from all else, is a click
_FADE_IN_S = 0.03  # speech begins softly, below what counts as loud
_LEAST_POWER = 1e-8  # -80 dB re full scale


class Extent(NamedTuple):
    """Where something begins and ends, in seconds."""

    start_s: float
    end_s: float


def speech_extent(waveform: NDArray[np.floating], rate_hz: int) -> Extent:
    """Return where in a waveform `(sample,)` the speech starts and ends, told by its loudness alone."""
    step = round(_LOUDNESS_STEP_S * rate_hz)
    whole = Extent(0.0, len(waveform) / rate_hz)
    steps = len(waveform) // step
    if steps == 0:
        return whole
    power = np.square(waveform[: steps * step], dtype=np.float64).reshape(steps, step).mean(1)
    level_db = 10 * np.log10(power + _LEAST_POWER)
    level_db = np.convolve(np.pad(level_db, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    quiet_db, loud_db = np.percentile(level_db, [5, 95])
    quiet_db = max(quiet_db, loud_db - _DEPTH_DB)
    loud = np.flatnonzero(level_db > quiet_db + _LOUD_SHARE * (loud_db - quiet_db))
    if len(loud) == 0:
        return whole
    runs = np.split(loud, np.flatnonzero(np.diff(loud) > _APART_S / _LOUDNESS_STEP_S) + 1)
    runs = [run for run in runs if len(run) >= _BURST_S / _LOUDNESS_STEP_S] or runs
    first, last = int(runs[0][0]), int(runs[-1][-1])
    return Extent(max(first * _LOUDNESS_STEP_S - _FADE_IN_S, 0.0), min((last + 1) * _LOUDNESS_STEP_S, whole.end_s))
