"""When words begin and end: cases worked by hand, and laws."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.segment import Extent, speech_extent
from asr.transcript.words import GROWTH_S, TokenSpan, word_extents

ALWAYS = Extent(0.0, 1000.0)


def word(*frames: tuple[int, int]) -> list[TokenSpan]:
    return [TokenSpan(1, start, end, 1.0) for start, end in frames]


def test_neighbours_meet_in_the_middle_less_the_lateness() -> None:
    # Frames of 0.04 s: the last of the first word is 29, the first of the second 34; the middle, 31.5, is at 1.26 s.
    first, second = word_extents([word((25, 26), (28, 30)), word((34, 35))], 0.04, ALWAYS)
    assert first.end_s == second.start_s == pytest.approx(1.26 - 0.07)


def test_a_pause_belongs_to_neither_word() -> None:
    first, second = word_extents([word((25, 26)), word((75, 76))], 0.04, ALWAYS)
    assert first.end_s == pytest.approx(25 * 0.04 - 0.07 + GROWTH_S)
    assert second.start_s == pytest.approx(75 * 0.04 - 0.07 - GROWTH_S)


def test_a_word_emitted_before_the_speech_begins_starts_with_it() -> None:
    # Emitted from 0 s on, spoken from 0.5 s on. At 0.5 + 0.7 s the clocks agree again, but for the lateness.
    first, second, third = word_extents([word((0, 1)), word((20, 21)), word((50, 51))], 0.04, Extent(0.5, 2.1))
    assert first.start_s == 0.5
    middle_s = 10 * 0.04
    assert first.end_s <= 0.5 + (middle_s + 0.02) / (1.2 + 0.02) * (1.14 - 0.5) + 1e-9
    assert 0.5 < first.end_s <= second.start_s < 1.14
    assert third.end_s == 2.1


def test_a_word_begins_where_the_speech_does_if_that_is_near() -> None:
    near, far = (word_extents([word((25, 26))], 0.04, Extent(start_s, 50.0))[0].start_s for start_s in (0.8, 0.4))
    assert near == 0.8
    assert far == pytest.approx(24.5 * 0.04 - 0.07)


def test_the_last_word_grows_towards_the_end_of_the_speech() -> None:
    ends_s = [word_extents([word((25, 26))], 0.04, Extent(0.0, end_s))[0].end_s for end_s in (1.0, 1.1, 1.11, 50.0)]
    assert ends_s == pytest.approx([1.0, 1.1, 25.5 * 0.04 - 0.07 + GROWTH_S, 25.5 * 0.04 - 0.07 + GROWTH_S])


@given(
    st.lists(st.integers(1, 12), min_size=2, max_size=40),
    st.floats(0, 5),
    st.floats(0, 5),
)
def test_words_follow_each_other_whatever_is_heard(steps: list[int], start_s: float, length_s: float) -> None:
    frames = np.cumsum(steps).tolist()
    words = [word((frame - 1, frame)) for frame in frames]
    extents = word_extents(words, 0.04, Extent(start_s, start_s + length_s))
    times = [time for extent in extents for time in extent]
    assert len(extents) == len(words)
    assert all(a <= b + 1e-9 for a, b in pairwise(times))
    assert times[0] >= 0


def test_no_words_have_no_extents() -> None:
    assert word_extents([], 0.04, ALWAYS) == []


def test_speech_is_where_it_is_loud(rng: np.random.Generator) -> None:
    waveform = 0.001 * rng.standard_normal(32000)
    waveform[8000:24000] += 0.3 * np.sin(0.1 * np.arange(16000))
    extent = speech_extent(waveform.astype(np.float32), 16000)
    assert extent.start_s == pytest.approx(0.5, abs=0.05)
    assert extent.end_s == pytest.approx(1.5, abs=0.05)


def test_a_click_is_no_speech_nor_is_the_background_after_digital_silence(rng: np.random.Generator) -> None:
    waveform = 0.001 * rng.standard_normal(48000)
    waveform[16000:32000] += 0.3 * np.sin(0.1 * np.arange(16000))
    waveform[:8000] = 0.0
    waveform[[*range(3200, 3520), *range(44800, 45120)]] = 0.5
    extent = speech_extent(waveform.astype(np.float32), 16000)
    assert extent.start_s == pytest.approx(1.0, abs=0.05)
    assert extent.end_s == pytest.approx(2.0, abs=0.05)
    alone = np.zeros(16000, np.float32)
    alone[8000] = 0.9
    click = speech_extent(alone, 16000)
    assert click.start_s <= 0.5 <= click.end_s < 0.6


@pytest.mark.parametrize("samples", [0, 10, 16000])
def test_of_silence_all_may_be_speech(samples: int) -> None:
    assert speech_extent(np.zeros(samples, np.float32), 16000) == (0.0, samples / 16000)
