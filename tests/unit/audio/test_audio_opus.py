"""Samples → Opus: the sound is the same, in its place, and small."""

import io

import numpy as np
import pytest
import soundfile
from conftest import voice_like

from asr.audio.opus import RATE_HZ, ogg_opus


def decoded(data: bytes) -> np.ndarray:
    samples, rate_hz = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate_hz == RATE_HZ
    return samples


def test_the_sound_keeps_its_length_its_place_and_its_shape(rng):
    waveform = voice_like(rng, 6.0)
    heard = decoded(ogg_opus(np.array_split(waveform, 7)))
    assert len(heard) == len(waveform)
    shifts = range(-80, 81)  # 5 ms to either side
    likeness = [np.corrcoef(np.roll(heard, -shift), waveform)[0, 1] for shift in shifts]
    assert abs(shifts[int(np.argmax(likeness))]) <= 8
    assert max(likeness) > 0.9


def test_even_noise_takes_at_most_24_kbit_a_second(rng):
    noise = rng.uniform(-0.9, 0.9, 20 * RATE_HZ).astype(np.float32)
    assert len(ogg_opus([noise])) * 8 / 20 < 24_000


@pytest.mark.parametrize("samples", [0, 1, 10])
def test_next_to_nothing_is_a_file_too(samples):
    data = ogg_opus([np.zeros(samples, np.float32)])
    assert data.startswith(b"OggS")
    if samples:
        assert len(decoded(data)) == samples


def test_what_is_louder_than_full_scale_is_clipped(rng):
    loud = 4 * voice_like(rng, 2.0)
    assert np.corrcoef(decoded(ogg_opus([loud])), np.clip(loud, -1, 1))[0, 1] > 0.9
