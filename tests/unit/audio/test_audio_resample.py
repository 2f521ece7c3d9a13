"""Changing the sample rate, at once and block by block, against librosa."""

import librosa
import numpy as np
import pytest

from asr.audio.blocks import resampled
from asr.audio.resample import FourierResampler, StreamResampler, resample

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


@pytest.mark.parametrize("kind", [StreamResampler, FourierResampler])
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
