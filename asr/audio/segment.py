"""Recordings that arrive in blocks → segments, cut where nobody speaks.

`Segmenter` is the one rule for where an utterance ends. `segments` cuts files with it, for the recogniser and for the
runtime without torch; `asr.decoding.streaming` cuts streams. Only the times differ: `FILE_RULE` and `STREAM_RULE`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from asr.audio import speech_detector
from asr.audio.speech_detector import WINDOW_S, Detector, is_speech
from asr.errors import AudioWarning, ConfigError

Segmentation: TypeAlias = Literal["vad", "fixed", "none"]
Waveform: TypeAlias = NDArray[np.float32]

_LEAST_LONGEST_S = 1.0
_STEP_S = 0.02
_QUIET_S = 0.2
_EARLY_FROM_S = 1.0
_MUCH_SILENCE = 0.2  # a recording with this share of silence is worth a word, if silence is not left out


@dataclass(frozen=True)
class EndRule:
    """When a segment ends, and how much of the silence around its speech it keeps.

    Attributes:
        pause_s: a pause of this length ends a segment.
        longest_s: no segment is longer. One that would be is cut at the quietest place of its second half.
        before_s: silence that is kept before the speech.
        after_s: silence that is kept after the speech; never more than `pause_s`.
        early_pause_s: a pause of this length, at least `after_s`, ends a segment that is at least `_EARLY_FROM_S` long;
            None: only `pause_s` does.
    """

    pause_s: float
    longest_s: float
    before_s: float
    after_s: float
    early_pause_s: float | None = None

    def __post_init__(self) -> None:
        """Refuse times that no segment can have.

        Raises:
            ConfigError: `pause_s` is not above 0, or `longest_s` is below 1.
        """
        if not 0 < self.pause_s < math.inf:
            raise ConfigError(f"the pause that ends an utterance is {self.pause_s!r} s, not a number above 0")
        if not _LEAST_LONGEST_S <= self.longest_s < math.inf:
            raise ConfigError(
                f"the longest utterance is {self.longest_s!r} s, not a number of at least {_LEAST_LONGEST_S:g}"
            )


# The detector is about 0.06 s late at both ends of speech, so a quarter of a second is in truth kept on either side.
# Short recordings are cut by the same rule. Models are trained on utterances: AN4's model made almost twice as many
# word errors with two utterances in one file, three times as many with six, and almost twice as many with three seconds
# of silence before or after an utterance.
# Speakers often take turns after pauses of less than 0.6 s, and several voices in a segment cost many words. With 0.4 s
# between six utterances the quickstart's model made 42 % word errors, with `early_pause_s` 7.7 %; AN4's 15.5 and 9.9 %.
# Single utterances have hardly more errors than before (AN4's 7.9 % for 7.8 %). What hurts them is a part of less than
# a second: with 0.3 s everywhere AN4's had 9.3 %.
FILE_RULE = EndRule(pause_s=0.6, longest_s=30.0, before_s=0.3, after_s=0.2, early_pause_s=0.3)
# Somebody waits for the words of a stream, so it ends earlier.
STREAM_RULE = EndRule(pause_s=0.5, longest_s=20.0, before_s=0.25, after_s=0.25)


class Segment(NamedTuple):
    """A part of a recording; segments come in order and do not overlap."""

    start: int
    """Samples from the start of the recording."""
    waveform: Waveform
    """`(sample,)`, mono."""
    skipped: int
    """Samples between the segment before, or the start of the recording, and this one: nobody speaks there."""


class Segmenter:
    """Cuts one recording, which arrives in blocks, into the segments in which somebody speaks.

    A segment begins a little before its first window with speech. It ends a little after its last one, once the pause
    of the rule has passed. Or it ends at the quietest place of its second half, before it gets too long; the next
    segment then begins there, if somebody still speaks.
    """

    def __init__(self, rate_hz: int, rule: EndRule, detector: Detector | None = None) -> None:
        """Begin a recording.

        Args:
            rate_hz: sample rate of the blocks.
            rule: where segments end.
            detector: finds speech, nothing heard yet; by default that of the package silero-vad.
        """
        self._rate_hz = rate_hz
        self._pause = max(1, int(rule.pause_s * rate_hz))
        self._early_pause = min(self._pause, int((rule.early_pause_s or rule.pause_s) * rate_hz))
        self._early_from = int(_EARLY_FROM_S * rate_hz)
        self._longest, self._before, self._after = (
            int(s * rate_hz) for s in (rule.longest_s, rule.before_s, min(rule.after_s, rule.pause_s))
        )
        self._detect = detector or speech_detector.SpeechDetector(rate_hz)
        self._tape = _Tape()
        self._windows = 0  # of the detector, so far
        self._in_speech = False
        self._start: int | None = None  # of the segment that is open, if one is
        self._spoken_end = 0  # where its last window with speech ended

    def hear(self, block: Waveform, *, last: bool = False) -> list[Segment]:
        """Return the segments that have ended by now and had not before.

        Args:
            block: `(sample,)`, the next samples of the recording; there may be none.
            last: whether the recording ends with them.
        """
        self._tape.append(block)
        ended = []
        for probability in self._detect(block, last=last).tolist():
            self._in_speech = is_speech(probability, self._in_speech)
            begin = round(self._windows * WINDOW_S * self._rate_hz)
            self._windows += 1
            end = min(round(self._windows * WINDOW_S * self._rate_hz), self._tape.end)
            cut = self._place_of_cut(begin, end)
            if cut is not None:
                ended.append(self._cut(cut))
        if last and self._start is not None:
            ended.append(self._cut(self._certain_end))
        return ended

    @property
    def open(self) -> Segment | None:
        """The segment that has begun but not ended, as far as it was heard; None while nobody speaks.

        It reaches to the silence that is kept after its last word. It may still lose a part of its second half to the
        next segment, if it gets too long.
        """
        if self._start is None:
            return None
        return self._tape.segment(self._start, self._certain_end)

    @property
    def _certain_end(self) -> int:
        return min(self._spoken_end + self._after, self._tape.end)

    @property
    def _long_enough(self) -> bool:
        """Whether a short pause ends the open segment."""
        return self._start is not None and self._spoken_end - self._start >= self._early_from

    def _place_of_cut(self, begin: int, end: int) -> int | None:
        """Take in the window from sample `begin` to `end`; return where the open segment ends, if it does."""
        if self._in_speech:
            self._start = max(begin - self._before, self._tape.start) if self._start is None else self._start
            self._spoken_end = end
        if self._start is None:
            self._tape.forget(end - self._before)
        elif end - self._spoken_end >= (self._early_pause if self._long_enough else self._pause):
            return self._spoken_end + self._after
        elif end + self._after - self._start > self._longest:
            return _quietest(self._tape, self._start + self._longest // 2, end, self._rate_hz)
        return None

    def _cut(self, end: int) -> Segment:
        assert self._start is not None
        segment = self._tape.cut(self._start, end)
        self._start = end if self._spoken_end > end else None
        return segment


def segments(
    blocks: Iterable[Waveform],
    rate_hz: int,
    segmentation: Segmentation = "vad",
    detector: Detector | None = None,
    *,
    name: str | None = None,
) -> Iterator[Segment]:
    """Return a recording's segments, each as soon as it is known.

    Args:
        blocks: the recording, `(sample,)` each, mono.
        rate_hz: its sample rate.
        segmentation: `vad` cuts in pauses. It leaves out long pauses, silence at the ends, and everything if nobody
            speaks. `fixed` leaves nothing out and cuts at the quietest fifth of a second between 15 and 30 s. `none`
            keeps the recording whole. Models often hear words in the silence that both keep: an `AudioWarning` at the
            end says how much it is, if it is much.
        detector: finds speech, for `vad`, nothing heard yet; by default that of the package silero-vad.
        name: the recording's, in warnings.

    Raises:
        ConfigError: there is no such segmentation.
    """
    if segmentation == "vad":
        return _speech_segments(blocks, rate_hz, detector)
    if segmentation == "fixed":
        return _with_silence(_fixed_segments(blocks, rate_hz), rate_hz, name or "the recording")
    if segmentation == "none":
        return _with_silence(_one_segment(blocks), rate_hz, name or "the recording")
    raise ConfigError(f"segment={segmentation!r}: it is one of {', '.join(get_args(Segmentation))}")


def _speech_segments(blocks: Iterable[Waveform], rate_hz: int, detector: Detector | None) -> Iterator[Segment]:
    segmenter = Segmenter(rate_hz, FILE_RULE, detector)
    end = np.zeros(0, np.float32)
    rest = iter(blocks)
    head: list[Waveform] = []  # as much as shows whether the recording is longer than a segment may be
    while sum(map(len, head)) <= FILE_RULE.longest_s * rate_hz:
        block = next(rest, None)
        if block is None:
            whole = np.concatenate([*head, end])
            found = segmenter.hear(whole) + segmenter.hear(end, last=True)
            yield from [_with_short_silence(whole, found[0], rate_hz)] if len(found) == 1 else found
            return
        head.append(block)
    for block in chain(head, rest):
        yield from segmenter.hear(block)
    yield from segmenter.hear(end, last=True)


def _with_short_silence(whole: Waveform, only: Segment, rate_hz: int) -> Segment:
    """Return a recording's only segment, extended to the recording's ends where the silence there is no pause.

    The detector may come too late for a word, so nothing is cut off without need.
    """
    start, end = only.start, only.start + len(only.waveform)
    if start < (FILE_RULE.pause_s - FILE_RULE.before_s) * rate_hz:
        start = 0
    if len(whole) - end < (FILE_RULE.pause_s - FILE_RULE.after_s) * rate_hz:
        end = len(whole)
    return Segment(start, whole[start:end], start)


def _fixed_segments(blocks: Iterable[Waveform], rate_hz: int) -> Iterator[Segment]:
    longest = int(FILE_RULE.longest_s * rate_hz)
    tape = _Tape()
    for block in blocks:
        tape.append(block)
        while tape.end - tape.start > longest:
            yield tape.cut(tape.start, _quietest(tape, tape.start + longest // 2, tape.start + longest, rate_hz))
    if tape.end > tape.start:
        yield tape.cut(tape.start, tape.end)


def _one_segment(blocks: Iterable[Waveform]) -> Iterator[Segment]:
    waveform = np.concatenate([np.zeros(0, np.float32), *blocks])
    if len(waveform):
        yield Segment(0, waveform, 0)


def _with_silence(found: Iterable[Segment], rate_hz: int, name: str) -> Iterator[Segment]:
    """Yield segments in which silence was left, and say at the end if it was much."""
    silent = whole = 0.0
    for segment in found:
        yield segment
        silent += silence_s(segment.waveform, rate_hz)
        whole += len(segment.waveform) / rate_hz
    if silent > _MUCH_SILENCE * whole:
        message = (
            f"{name}: {100 * silent / whole:.0f} % of it is silence, in which models often hear words; segmentation by "
            "vad leaves it out"
        )
        warnings.warn(message, AudioWarning, stacklevel=2)


class _Tape:
    """The samples of a recording from `start` on; earlier ones are forgotten."""

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
        """Drop everything before the sample `until`."""
        if until > self.start:
            self._samples = self._samples[until - self.start :]
            self.start = until

    def segment(self, start: int, end: int) -> Segment:
        return Segment(start, self.part(start, end), start - self._cut_to)

    def cut(self, start: int, end: int) -> Segment:
        """Return a segment, with samples of its own, and forget all before its end."""
        segment = self.segment(start, end)
        self.forget(end)
        self._cut_to = end
        return segment._replace(waveform=segment.waveform.copy())

    def part(self, start: int, end: int) -> Waveform:
        return self._samples[start - self.start : end - self.start]


def _quietest(tape: _Tape, start: int, end: int, rate_hz: int) -> int:
    """Return the middle of the quietest fifth of a second between two samples of the tape."""
    step = int(_STEP_S * rate_hz)
    waveform = tape.part(start, end)
    energies = waveform[: len(waveform) // step * step].reshape(-1, step).var(axis=1, dtype=np.float64)
    width = round(_QUIET_S / _STEP_S)
    sums = np.convolve(energies, np.ones(width), mode="valid")
    return start + int((np.argmin(sums) + width / 2) * step)


# Speech is found in two ways because there are two tasks: the detector tells speech from noise, which cutting needs,
# but it is late; loudness tells to 0.01 s where the sound of an utterance begins and ends, which word times need.
LOUDNESS_STEP_S = 0.01
_LOUD_SHARE = 0.25  # loud begins at this share of the way, in dB, from the quiet to the loud parts of an utterance
_DEPTH_DB = 34  # the quiet parts count as at most this far below the loud ones, or digital silence makes noise loud
_BURST_S, _APART_S = 0.05, 0.1  # a sound shorter than this, and this far from all others, is a click
_FADE_IN_S = 0.03  # speech begins softly, below the loudness that counts as loud
_LEAST_POWER = 1e-14  # -140 dB of full scale; there is no logarithm of 0
_SILENCE_S = 1.0  # what is not loud for this long is silence


class Extent(NamedTuple):
    """Where something begins and ends, in seconds."""

    start_s: float
    end_s: float


def speech_extent(waveform: NDArray[np.floating], rate_hz: int) -> Extent:
    """Return where in an utterance's waveform `(sample,)` the speech starts and ends, by its loudness alone."""
    whole = Extent(0.0, len(waveform) / rate_hz)
    _, loud = loudness(waveform, rate_hz)
    if len(loud) == 0:
        return whole
    runs = np.split(loud, np.flatnonzero(np.diff(loud) > _APART_S / LOUDNESS_STEP_S) + 1)
    runs = [run for run in runs if len(run) >= _BURST_S / LOUDNESS_STEP_S] or runs
    first, last = int(runs[0][0]), int(runs[-1][-1])
    return Extent(max(first * LOUDNESS_STEP_S - _FADE_IN_S, 0.0), min((last + 1) * LOUDNESS_STEP_S, whole.end_s))


def silence_s(waveform: NDArray[np.floating], rate_hz: int) -> float:
    """Return how many seconds of a waveform `(sample,)` are in silences of at least a second, by its loudness alone."""
    steps, loud = loudness(waveform, rate_hz)
    if len(loud) == 0:
        return 0.0
    gaps = np.diff(np.concatenate([[-1], loud, [steps]])) - 1
    return float(gaps[gaps * LOUDNESS_STEP_S >= _SILENCE_S].sum() * LOUDNESS_STEP_S)


def loudness(waveform: NDArray[np.floating], rate_hz: int) -> tuple[int, NDArray[np.intp]]:
    """Return the number of steps of `LOUDNESS_STEP_S` in a waveform `(sample,)`, and which of them are loud."""
    step = round(LOUDNESS_STEP_S * rate_hz)
    steps = len(waveform) // step
    if steps == 0:
        return 0, np.zeros(0, np.intp)
    power = waveform[: steps * step].reshape(steps, step).var(axis=1, dtype=np.float64)  # an offset is no sound
    level_db = 10 * np.log10(power + _LEAST_POWER)
    level_db = np.convolve(np.pad(level_db, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")
    quiet_db, loud_db = np.percentile(level_db, [5, 95])
    quiet_db = max(quiet_db, loud_db - _DEPTH_DB)
    return steps, np.flatnonzero(level_db > quiet_db + _LOUD_SHARE * (loud_db - quiet_db))
