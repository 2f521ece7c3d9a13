"""The segments of files against an earlier form of the algorithm, which is kept here as it was."""

from itertools import chain
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.segment import FILE_RULE, Segmenter, segments

LONGEST_S, PAUSE_S, EARLY_S, BEFORE_S, AFTER_S = 30.0, 0.6, 0.3, 0.3, 0.2
WINDOW_S, STEP_S, QUIET_S = 0.032, 0.02, 0.2


class Part(NamedTuple):
    start: int
    waveform: np.ndarray
    skipped: int


def reference_segments(blocks, rate_hz, segmentation, detector):
    rest, head = iter(blocks), []
    while segmentation == "none" or sum(map(len, head)) <= LONGEST_S * rate_hz:
        block = next(rest, None)
        if block is None:
            if head:
                whole = Part(0, np.concatenate(head), 0)
                found = (
                    list(reference_speech([whole.waveform], rate_hz, detector)) if segmentation == "vad" else [whole]
                )
                yield from [with_short_silence(whole, found[0], rate_hz)] if len(found) == 1 else found
            return
        head.append(block)
    blocks = chain(head, rest)
    yield from (
        reference_speech(blocks, rate_hz, detector) if segmentation == "vad" else reference_fixed(blocks, rate_hz)
    )


def with_short_silence(whole, only, rate_hz):
    start, end = only.start, only.start + len(only.waveform)
    if start < (PAUSE_S - BEFORE_S) * rate_hz:
        start = 0
    if len(whole.waveform) - end < (PAUSE_S - AFTER_S) * rate_hz:
        end = len(whole.waveform)
    return Part(start, whole.waveform[start:end], start)


class Tape:
    def __init__(self):
        self.samples, self.start, self.cut_to = np.zeros(0, np.float32), 0, 0

    @property
    def end(self):
        return self.start + len(self.samples)

    def append(self, block):
        self.samples = np.concatenate([self.samples, block])

    def forget(self, until):
        if until > self.start:
            self.samples = self.samples[until - self.start :]
            self.start = until

    def cut(self, start, end):
        part = Part(start, self.samples[start - self.start : end - self.start].copy(), start - self.cut_to)
        self.forget(end)
        self.cut_to = end
        return part


def reference_fixed(blocks, rate_hz):
    longest, tape = int(LONGEST_S * rate_hz), Tape()
    for block in blocks:
        tape.append(block)
        while tape.end - tape.start > longest:
            yield tape.cut(tape.start, quietest(tape, tape.start + longest // 2, tape.start + longest, rate_hz))
    yield tape.cut(tape.start, tape.end)


def reference_speech(blocks, rate_hz, detector):
    longest, pause, early, before, after = (int(s * rate_hz) for s in (LONGEST_S, PAUSE_S, EARLY_S, BEFORE_S, AFTER_S))
    tape, start, last = Tape(), None, 0
    for begin, end, speech in windows(blocks, rate_hz, detector, tape):
        if speech:
            start = max(begin - before, tape.start) if start is None else start
            last = end
        if start is None:
            tape.forget(end - before)
        elif end - last >= (early if last - start >= rate_hz else pause):
            yield tape.cut(start, last + after)
            start = None
        elif end + after - start > longest:
            cut = quietest(tape, start + longest // 2, end, rate_hz)
            yield tape.cut(start, cut)
            start = cut if last > cut else None
    if start is not None:
        yield tape.cut(start, min(last + after, tape.end))


def windows(blocks, rate_hz, detector, tape):
    speech, window = False, 0
    for block in chain(blocks, [None]):
        if block is None:
            probabilities = detector(np.zeros(0, np.float32), last=True)
        else:
            tape.append(block)
            probabilities = detector(block)
        for probability in probabilities.tolist():
            speech = probability >= (0.35 if speech else 0.5)
            begin, window = round(window * WINDOW_S * rate_hz), window + 1
            yield begin, min(round(window * WINDOW_S * rate_hz), tape.end), speech


def quietest(tape, start, end, rate_hz):
    step = int(STEP_S * rate_hz)
    waveform = tape.samples[start - tape.start : end - tape.start]
    energies = waveform[: len(waveform) // step * step].reshape(-1, step).var(axis=1, dtype=np.float64)
    width = round(QUIET_S / STEP_S)
    sums = np.convolve(energies, np.ones(width), mode="valid")
    return start + int((np.argmin(sums) + width / 2) * step)


class ScriptedDetector:
    """Gives the probabilities that were written down, window by window, some windows late."""

    def __init__(self, probabilities, rate_hz, late=0):
        self.probabilities, self.rate_hz, self.late = probabilities, rate_hz, late
        self.samples = self.given = 0

    def __call__(self, block, *, last=False):
        self.samples += len(block)
        windows = self.samples / (WINDOW_S * self.rate_hz)
        known = int(np.ceil(windows)) if last else max(int(windows) - self.late, self.given)
        given, self.given = self.given, known
        return np.resize(self.probabilities, known)[given:].astype(np.float32)


SHORT = st.tuples(st.sampled_from([0.1, 0.4, 0.9]), st.integers(1, 12) | st.integers(12, 40))
LONG = st.tuples(st.sampled_from([0.1, 0.9, 0.9]), st.integers(400, 1800))  # 30 s are 937 windows
stretches = st.lists(SHORT | SHORT | LONG, min_size=1, max_size=30)


def recording(stretches, seconds, rate_hz, seed):
    probabilities = np.concatenate([np.full(count, probability) for probability, count in stretches])
    waveform = np.random.default_rng(seed).standard_normal(max(1, round(seconds * rate_hz))).astype(np.float32)
    return probabilities, waveform


@pytest.mark.parametrize("segmentation", ["vad", "fixed", "none"])
@settings(max_examples=150)
@given(
    stretches,
    st.floats(0, 100) | st.floats(25, 35) | st.sampled_from([29.999, 30.0, 30.001]),
    st.sampled_from([1000, 1102, 4000]),
    st.integers(0, 2),
    st.lists(st.floats(0, 1), max_size=20),
    st.integers(0, 2**32 - 1),
)
def test_the_segments_of_files_are_what_they_were_to_the_bit(
    segmentation, stretches, seconds, rate_hz, late, cuts, seed
) -> None:
    probabilities, waveform = recording(stretches, seconds, rate_hz, seed)
    blocks = np.split(waveform, sorted(round(cut * len(waveform)) for cut in cuts))
    found, expected = (
        list(cut(iter(blocks), rate_hz, segmentation, ScriptedDetector(probabilities, rate_hz, late)))
        for cut in (segments, reference_segments)
    )
    assert [(part.start, part.skipped) for part in found] == [(part.start, part.skipped) for part in expected]
    for part, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(part.waveform, other.waveform)


@settings(max_examples=50)
@given(
    stretches,
    st.floats(0, 60),
    st.integers(0, 2),
    st.lists(st.floats(0, 1), max_size=50),
    st.integers(0, 2**32 - 1),
)
def test_the_open_segment_grows_until_it_is_the_one_that_ends(stretches, seconds, late, cuts, seed) -> None:
    probabilities, waveform = recording(stretches, seconds, 1000, seed)
    segmenter = Segmenter(1000, FILE_RULE, ScriptedDetector(probabilities, 1000, late))
    blocks = np.split(waveform, sorted(round(cut * len(waveform)) for cut in cuts))
    before, ends = None, []
    for block in blocks:
        for segment in segmenter.hear(block):
            end = segment.start + len(segment.waveform)
            if before is not None:
                assert (segment.start, segment.skipped) == (before.start, before.skipped)
                cut_for_length = len(segment.waveform) >= 15_000
                assert end >= before.start + len(before.waveform) or cut_for_length
            before = None
            ends.append(end)
        now = segmenter.open
        if before is not None:
            assert now.start == before.start
            assert len(now.waveform) >= len(before.waveform)
        if now is not None:
            assert now.start >= max([0, *ends])
            np.testing.assert_array_equal(now.waveform, waveform[now.start : now.start + len(now.waveform)])
        before = now
    last = segmenter.hear(waveform[:0], last=True)
    assert segmenter.open is None
    if before is not None:
        assert last[0].start == before.start
