"""The runtime's resampling against soxr's."""

import math

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.blocks import resampled as resampled_by
from asr.audio.resample import FourierResampler

RATES = [(8000, 16000), (11025, 16000), (22050, 16000), (44100, 16000), (48000, 16000), (44100, 8000), (16001, 16000)]


def resampled(blocks, from_hz, to_hz):
    return resampled_by(blocks, from_hz, to_hz, FourierResampler(from_hz, to_hz))


def at_once(waveform, from_hz, to_hz):
    return np.concatenate(list(resampled([waveform.astype(np.float32)], from_hz, to_hz)))


@pytest.mark.parametrize("rates_hz", RATES)
def test_a_sweep_comes_out_as_from_soxr(rates_hz):
    from_hz, to_hz = rates_hz
    time_s = np.arange(2 * from_hz + 17) / from_hz
    sweep = 0.5 * np.sin(2 * np.pi * (50 * time_s + 0.9 * min(rates_hz) / 8 * time_s**2))  # to 0.9 of the lower band
    expected = soxr.resample(sweep, from_hz, to_hz, "HQ")
    result = at_once(sweep, from_hz, to_hz)
    assert len(result) == math.ceil(len(sweep) * to_hz / from_hz)
    edge = to_hz // 50  # where the sweep breaks off, each filter rings in its own way
    np.testing.assert_allclose(result[edge : len(expected) - edge], expected[edge:-edge], atol=1e-3)


def test_what_the_lower_rate_cannot_hold_is_gone():
    tone = np.sin(2 * np.pi * 9000 / 44100 * np.arange(44100) + 1) * np.hanning(44100)
    assert np.abs(at_once(tone, 44100, 16000)).max() < 1e-5


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 15000), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_blocks_of_any_size_give_the_same_samples(sizes, seed):
    blocks = [block.astype(np.float32) for block in map(np.random.default_rng(seed).standard_normal, sizes)]
    results = list(resampled(blocks, 1000, 1600))  # so low that a recording takes several stretches
    assert sum(map(len, results)) == math.ceil(sum(sizes) * 1.6)
    if sum(sizes):
        whole = at_once(np.concatenate(blocks), 1000, 1600)
        np.testing.assert_array_equal(np.concatenate(results), whole)


def test_where_two_stretches_meet_nothing_is_heard():
    from_hz, to_hz, seconds = 8000, 16000, 31
    at_8, at_16 = (np.sin(2 * np.pi * 440 * np.arange(seconds * rate_hz) / rate_hz) for rate_hz in (from_hz, to_hz))
    inside = slice(to_hz // 2, -to_hz // 2)
    np.testing.assert_allclose(at_once(at_8, from_hz, to_hz)[inside], at_16[inside], atol=1e-5)


def test_equal_rates_leave_the_blocks_alone():
    blocks = [np.ones(3, np.float32), np.zeros(2, np.float32)]
    assert list(resampled(blocks, 16000, 16000)) == blocks
