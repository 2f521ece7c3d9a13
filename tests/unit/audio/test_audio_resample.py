"""Changing the sample rate, at once and block by block, against librosa."""

import librosa
import numpy as np
import pytest

from asr.audio.blocks import resampled
from asr.audio.resample import FourierResampler, SincResampler, StreamResampler, resample

RATES = [(8000, 16000), (16000, 8000), (44100, 16000), (48000, 16000), (22050, 16000), (11025, 16000)]


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
@pytest.mark.parametrize("samples", [1, 7, 100, 33_333])
def test_resampling_is_librosas_to_the_bit(rng, from_hz, to_hz, samples):
    waveform = rng.uniform(-0.5, 0.5, (2, samples)).astype(np.float32)
    first = waveform[:, :1]  # is taken for what was before
    expected = librosa.resample(waveform - first, orig_sr=from_hz, target_sr=to_hz, res_type="soxr_hq") + first
    np.testing.assert_array_equal(resample(waveform, from_hz, to_hz), expected)
    waveform[:, 0] = 0
    expected = librosa.resample(waveform, orig_sr=from_hz, target_sr=to_hz, res_type="soxr_hq")
    np.testing.assert_array_equal(resample(waveform, from_hz, to_hz), expected)


@pytest.mark.parametrize("kind", [StreamResampler, FourierResampler, SincResampler])
@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_an_offset_stays_an_offset_to_the_ends(kind, from_hz, to_hz):
    blocks = [np.full(samples, 0.5, np.float32) for samples in (700, 0, 30_000)]
    found = np.concatenate(list(resampled(blocks, from_hz, to_hz, kind(from_hz, to_hz))))
    np.testing.assert_allclose(found, 0.5, atol=1e-5)


@pytest.mark.parametrize(("from_hz", "to_hz"), [*RATES, (16000, 16000)])
@pytest.mark.parametrize("sizes", [[1], [5, 1, 20_000], [3000] * 7])
def test_blocks_of_any_size_give_the_samples_of_the_whole(rng, from_hz, to_hz, sizes):
    waveform = rng.uniform(-0.5, 0.5, sum(sizes)).astype(np.float32)
    blocks = resampled(np.split(waveform, np.cumsum(sizes)[:-1]), from_hz, to_hz)
    np.testing.assert_array_equal(np.concatenate(list(blocks)), resample(waveform, from_hz, to_hz))


@pytest.mark.parametrize(("from_hz", "to_hz"), [*RATES, (12_347, 16_000), (16_000, 12_347)])
def test_numpy_s_resampler_for_streams_keeps_what_both_rates_have_and_stops_the_rest(from_hz, to_hz):
    time_s = np.arange(from_hz) / from_hz
    shared_hz, highest_hz = 0.45 * min(from_hz, to_hz), from_hz / 2
    for hz in (50.0, 0.3 * shared_hz, shared_hz):
        found = SincResampler(from_hz, to_hz)(np.sin(2 * np.pi * hz * time_s).astype(np.float32), last=True)
        expected = np.sin(2 * np.pi * hz * np.arange(to_hz) / to_hz)
        inside = slice(to_hz // 10, -to_hz // 10)
        np.testing.assert_allclose(found[inside], expected[inside], atol=1e-4)
        assert len(found) == to_hz
    if highest_hz > to_hz / 2:
        found = SincResampler(from_hz, to_hz)(np.sin(np.pi * 1.01 * to_hz * time_s).astype(np.float32), last=True)
        assert np.abs(found[to_hz // 10 : -to_hz // 10]).max() < 1e-4


@pytest.mark.parametrize(("from_hz", "to_hz"), RATES)
def test_numpy_s_resampler_for_streams_is_10_ms_late_at_most_and_gives_the_same_samples_in_any_blocks(
    rng, from_hz, to_hz
):
    waveform = rng.uniform(-0.5, 0.5, from_hz).astype(np.float32)
    whole = SincResampler(from_hz, to_hz)(waveform, last=True)
    change, given, taken = SincResampler(from_hz, to_hz), [], 0
    for block in np.split(waveform, np.sort(rng.integers(0, from_hz, 20))):
        given.append(change(block))
        taken += len(block)
        assert sum(map(len, given)) >= (taken / from_hz - 0.01) * to_hz - 1
    given.append(change(np.zeros(0, np.float32), last=True))
    np.testing.assert_array_equal(np.concatenate(given), whole)


def test_weights_that_are_too_many_to_be_kept_are_the_same(rng, monkeypatch):
    waveform = rng.uniform(-0.5, 0.5, 3000).astype(np.float32)
    kept = SincResampler(12_347, 16_000)(waveform, last=True)
    monkeypatch.setattr("asr.audio.resample._MOST_COEFFICIENTS", 0)
    np.testing.assert_array_equal(SincResampler(12_347, 16_000)(waveform, last=True), kept)
