from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import AudioError
from asr.features.noise import generated_room, recorded_room, reverberate, synthetic_room

RATE_HZ = 16000


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


@given(samples=st.integers(1, 300), taps=st.integers(1, 400), seed=st.integers(0, 100))
def test_reverberation_is_the_convolution_from_the_direct_path_on_at_the_same_power(
    samples: int, taps: int, seed: int
) -> None:
    waveform, response = noise(samples, seed), noise(taps, seed + 1)
    response[taps // 3] = 8.0  # the direct path
    expected = np.convolve(waveform.astype(np.float64), response[taps // 3 :].astype(np.float64))[:samples]
    expected *= np.sqrt(np.sum(waveform.astype(np.float64) ** 2) / np.sum(expected**2))
    np.testing.assert_allclose(reverberate(waveform, response), expected, atol=1e-4)


def test_a_click_stays_where_it_is_and_is_followed_by_the_room(rng: np.random.Generator) -> None:
    click = np.zeros(RATE_HZ, np.float32)
    click[5000] = 0.5
    wet = reverberate(click, np.concatenate([np.zeros(321, np.float32), synthetic_room(0.3, 0.0, RATE_HZ, rng)]))
    assert np.abs(wet).argmax() == 5000
    assert np.abs(wet[:5000]).max() < 1e-6
    assert np.sum(wet**2) == pytest.approx(np.sum(click**2), rel=1e-5)
    # As much energy in the direct path as in the echoes.
    assert wet[5000] ** 2 == pytest.approx(np.sum(wet[5001:] ** 2), rel=1e-3)


def test_a_room_without_echoes_changes_nothing_whatever_its_level_and_polarity() -> None:
    waveform = noise(1000)
    np.testing.assert_allclose(reverberate(waveform, np.float32([0, 0, -0.01, 0])), waveform, atol=1e-5)


def test_silence_stays_silent(rng: np.random.Generator) -> None:
    assert not reverberate(np.zeros(1000, np.float32), generated_room(RATE_HZ, rng)).any()


@pytest.mark.parametrize("rt60_s", [0.1, 0.3, 0.6])
@pytest.mark.parametrize("direct_to_reverberant_db", [-3.0, 12.0])
def test_a_synthetic_room_has_the_reverberation_time_and_the_direct_path_asked_for(
    rt60_s: float, direct_to_reverberant_db: float, rng: np.random.Generator
) -> None:
    response = synthetic_room(rt60_s, direct_to_reverberant_db, RATE_HZ, rng).astype(np.float64)
    assert response.argmax() == 0
    assert response[0] == 1
    assert -10 * np.log10(np.sum(response[1:] ** 2)) == pytest.approx(direct_to_reverberant_db, abs=0.01)
    # ISO 3382: the line through the backward integrated energy between -5 and -25 dB, prolonged to -60 dB.
    decay_db = 10 * np.log10(np.cumsum(response[:0:-1] ** 2)[::-1] / np.sum(response[1:] ** 2))
    part = (decay_db < -5) & (decay_db > -25)
    slope_db_per_s = np.polyfit(np.arange(1, len(response))[part] / RATE_HZ, decay_db[part], 1)[0]
    assert -60 / slope_db_per_s == pytest.approx(rt60_s, rel=0.15)


@given(seed=st.integers(0, 10_000), rate_hz=st.sampled_from([4000, 16000, 48000]))
def test_the_direct_path_of_a_generated_room_is_its_largest_sample(seed: int, rate_hz: int) -> None:
    response = generated_room(rate_hz, np.random.default_rng(seed))
    assert np.abs(response).argmax() == 0
    assert 0.1 * rate_hz - 1 <= len(response) <= 0.6 * rate_hz + 1


def test_a_recorded_room_is_its_first_microphone_at_the_models_rate(tmp_path: Path) -> None:
    path = tmp_path / "room.wav"
    left, right = np.zeros(4800, np.float32), np.ones(4800, np.float32)
    left[480] = 0.5
    soundfile.write(path, np.stack([left, right], axis=1), 48000, subtype="FLOAT")
    response = recorded_room(path, RATE_HZ)
    assert len(response) == 1600
    assert np.abs(response).argmax() == 160
    assert abs(response[800]) < 0.01


def test_what_follows_a_rooms_last_echo_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "room.wav"
    soundfile.write(path, noise(60 * RATE_HZ).clip(-1, 1), RATE_HZ)
    assert len(recorded_room(path, RATE_HZ)) == 4 * RATE_HZ


def test_a_silent_room_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "room.wav"
    soundfile.write(path, np.zeros(1000), RATE_HZ)
    with pytest.raises(AudioError, match=r"room\.wav.*remove the file"):
        recorded_room(path, RATE_HZ)
