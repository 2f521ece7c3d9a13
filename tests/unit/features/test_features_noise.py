import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchaudio.functional import add_noise as torchaudio_add_noise

from asr.errors import AudioError
from asr.features.noise import add_noise, coloured_noise, generated_noise, recorded_noise

RATE_HZ = 16000


def tone(samples: int, amplitude: float = 0.3) -> np.ndarray:
    return (amplitude * np.sin(0.3 * np.arange(samples))).astype(np.float32)


def density_exponent(noise: np.ndarray, low_hz: float, high_hz: float) -> float:
    """Fit power density ~ 1 / frequency^exponent between two frequencies."""
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency_hz = np.fft.rfftfreq(len(noise), 1 / RATE_HZ)
    edges = np.geomspace(low_hz, high_hz, 11)
    centres = np.sqrt(edges[:-1] * edges[1:])
    bands = [power[(low <= frequency_hz) & (frequency_hz < high)].mean() for low, high in pairwise(edges)]
    return -np.polyfit(np.log(centres), np.log(bands), 1)[0]


@given(snr_db=st.floats(-20, 40), level=st.floats(1e-3, 10), seed=st.integers(0, 1000))
def test_noise_is_mixed_in_as_torchaudio_does_it(snr_db: float, level: float, seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal(4000).astype(np.float32) * np.float32(level)
    speech = tone(4000)
    speech, noise = speech - speech.mean(), noise - noise.mean()
    expected = torchaudio_add_noise(torch.from_numpy(speech), torch.from_numpy(noise), torch.tensor(snr_db))
    np.testing.assert_allclose(add_noise(speech, noise, snr_db), expected, atol=1e-4)


def test_at_0_db_noise_has_the_power_of_the_whole_utterance_pauses_included(rng: np.random.Generator) -> None:
    speech = np.concatenate([np.zeros(3000, np.float32), tone(1000)])  # power a quarter of the tone's 0.3² / 2
    added = add_noise(speech, rng.standard_normal(4000).astype(np.float32), 0.0) - speech
    assert np.mean(added**2) == pytest.approx(0.3**2 / 2 / 4, rel=0.01)


def test_an_offset_is_no_power(rng: np.random.Generator) -> None:
    speech, noise = tone(4000), rng.standard_normal(4000).astype(np.float32)
    with_offset = add_noise(speech + np.float32(0.5), noise + np.float32(3), 10.0)
    np.testing.assert_allclose(with_offset - 0.5, add_noise(speech, noise, 10.0), atol=1e-5)


@pytest.mark.parametrize(
    "silence",
    [np.zeros(4000), np.full(4000, 0.1), 1e-8 * np.sin(np.arange(4000)), 1e-42 * np.sin(np.arange(4000))],
    ids=["zeros", "constant", "rounding", "denormal"],
)
def test_silence_gets_no_noise_and_makes_none(silence: np.ndarray, rng: np.random.Generator) -> None:
    silence = silence.astype(np.float32)
    noise = rng.standard_normal(4000).astype(np.float32)
    np.testing.assert_array_equal(add_noise(silence, noise, 5.0), silence)
    np.testing.assert_array_equal(add_noise(noise, silence, 5.0), noise)


def test_loud_noise_is_not_clipped(rng: np.random.Generator) -> None:
    assert np.abs(add_noise(tone(4000, 0.9), rng.standard_normal(4000).astype(np.float32), -10.0)).max() > 1.5


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_the_spectrum_falls_by_the_exponent_and_is_flat_where_speech_has_nothing(
    exponent: float, rng: np.random.Generator
) -> None:
    noise = coloured_noise(20 * RATE_HZ, RATE_HZ, exponent=exponent, wavering_db=0.0, rng=rng)
    assert density_exponent(noise, 100, 7000) == pytest.approx(exponent, abs=0.1)
    assert density_exponent(noise, 2, 40) == pytest.approx(0, abs=0.4)
    assert noise.dtype == np.float32


def test_wavering_noise_changes_its_level_and_steady_noise_does_not(rng: np.random.Generator) -> None:
    def deviation_db(wavering_db: float) -> float:
        noise = coloured_noise(100 * RATE_HZ, RATE_HZ, exponent=0.0, wavering_db=wavering_db, rng=rng)
        # Over 50 ms, a fifth of the time between two levels.
        return float(np.std(10 * np.log10(np.mean(noise.reshape(-1, RATE_HZ // 20) ** 2, axis=1))))

    assert deviation_db(0.0) < 0.5
    # Between two independent levels the interpolated variance falls to a half, and is two thirds on average.
    assert deviation_db(6.0) == pytest.approx(6.0 * np.sqrt(2 / 3), rel=0.1)


@given(samples=st.integers(1, 3000))
def test_generated_noise_has_any_length_and_is_finite(samples: int) -> None:
    noise = generated_noise(samples, RATE_HZ, np.random.default_rng(samples))
    assert noise.shape == (samples,)
    assert np.isfinite(noise).all()


def counting(tmp_path: Path, samples: int, rate_hz: int = RATE_HZ, channels: int = 1) -> Path:
    """Write a recording whose sample number i is i / 2^15, so that an excerpt says whence it comes."""
    path = tmp_path / "noise.wav"
    ramp = (np.arange(samples) / 2**15).astype(np.float32)
    soundfile.write(path, np.tile(ramp[:, None], channels), rate_hz, subtype="FLOAT")
    return path


def test_a_long_recording_gives_an_excerpt_from_anywhere(tmp_path: Path) -> None:
    path = counting(tmp_path, 1000, channels=2)
    starts = set()
    for seed in range(200):
        noise = recorded_noise(path, 995, RATE_HZ, np.random.default_rng(seed)) * 2**15
        starts.add(int(noise[0]))
        np.testing.assert_array_equal(noise, noise[0] + np.arange(995))
    assert starts == {0, 1, 2, 3, 4, 5}


def test_a_short_recording_is_repeated_from_a_random_place_on(tmp_path: Path) -> None:
    path = counting(tmp_path, 7)
    starts = set()
    for seed in range(200):
        noise = recorded_noise(path, 40, RATE_HZ, np.random.default_rng(seed)) * 2**15
        starts.add(int(noise[0]))
        np.testing.assert_array_equal(noise, (noise[0] + np.arange(40)) % 7)
    assert starts == set(range(7))


@pytest.mark.parametrize(("rate_hz", "seconds"), [(8000, 3.0), (44100, 3.0), (44100, 0.5)])
def test_a_recording_at_another_rate_keeps_its_pitch(tmp_path: Path, rate_hz: int, seconds: float) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 500 * np.arange(round(seconds * rate_hz)) / rate_hz), rate_hz)
    noise = recorded_noise(path, RATE_HZ, RATE_HZ, np.random.default_rng(1))
    assert noise.shape == (RATE_HZ,)
    assert np.abs(np.fft.rfft(noise)).argmax() == 500


def test_an_excerpt_of_a_long_recording_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    with soundfile.SoundFile(path, "w", RATE_HZ, 1, "PCM_16") as file:
        for _ in range(60):
            file.write(np.ones(20 * RATE_HZ, np.int16))
    tracemalloc.start()
    recorded_noise(path, RATE_HZ, RATE_HZ, np.random.default_rng(0))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**20  # all of it would be 77 MB


def test_a_recording_that_is_not_audio_is_named(tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    path.write_text("hum")
    with pytest.raises(AudioError, match=r"noise\.wav"):
        recorded_noise(path, 100, RATE_HZ, np.random.default_rng(0))
