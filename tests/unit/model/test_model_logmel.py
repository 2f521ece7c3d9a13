import math

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.audio.blocks import load_audio
from asr.config import FeatureSettings
from asr.model.logmel import FLOOR, QUIETEST, Cmvn, LogMel, running_level

CMVN = ("utterance", "global")


def librosa_logmel(waveform: np.ndarray, rate_hz: int = 16000) -> np.ndarray:
    """Frame by frame: without its weighted mean, through librosa's filters, relative to the mean of all energies."""
    window = librosa.filters.get_window("hann", 400)
    padded = np.pad(waveform.astype(np.float64), 256, mode="edge")
    frames = librosa.util.frame(padded, frame_length=512, hop_length=160).T[:, 56:456]
    frames = frames - (frames @ window / window.sum())[:, None]
    mel = np.abs(np.fft.rfft(frames * window, 512)) ** 2 @ librosa.filters.mel(sr=rate_hz, n_fft=512, n_mels=80).T
    return np.log(np.maximum(mel / mel.mean(), FLOOR))


def assert_agrees_with_librosa(waveform: np.ndarray) -> None:
    expected = librosa_logmel(waveform)
    features, lengths = LogMel(FeatureSettings())(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))
    assert lengths.item() == len(expected)
    tolerance = 1e-3 * (expected.max() - expected.min())
    np.testing.assert_allclose(features[0].numpy(), expected, rtol=0, atol=tolerance)


def test_logmel_agrees_with_librosa_on_noise_and_tones(rng: np.random.Generator) -> None:
    time_s = np.arange(24000) / 16000
    waveform = 0.1 * rng.standard_normal(24000) + 0.4 * np.sin(2 * np.pi * 440 * time_s)
    assert_agrees_with_librosa(waveform.astype(np.float32))


@pytest.mark.corpus
def test_logmel_agrees_with_librosa_on_real_speech(an4_dir) -> None:
    for path in sorted((an4_dir / "wav" / "an4test_clstk").rglob("*.wav"))[::13]:
        assert_agrees_with_librosa(load_audio(path, 16000))


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=5), seed=st.integers(0, 99), cmvn=st.sampled_from(CMVN)
)
def test_a_waveform_has_the_same_features_alone_and_in_a_batch_whatever_the_padding(
    lengths: list[int], seed: int, cmvn: str
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logmel = LogMel(FeatureSettings(cmvn=cmvn))
    batch = torch.randn(len(lengths), max(lengths), generator=generator)  # padding is noise, not zeros
    together, counts = logmel(batch, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone, count = logmel(batch[row : row + 1, :length], torch.tensor([length]))
        assert count.item() == counts[row].item() == alone.shape[1] == length // 160 + 1
        torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
def test_a_pure_tone_peaks_in_the_band_around_its_frequency(rate_hz: int) -> None:
    logmel = LogMel(FeatureSettings(sample_rate_hz=rate_hz))
    waveform = torch.sin(2 * torch.pi * 1000 * torch.arange(rate_hz) / rate_hz)
    features, _ = logmel(waveform[None], torch.tensor([rate_hz]))
    centres_hz = librosa.mel_frequencies(n_mels=82, fmin=0, fmax=rate_hz / 2)[1:-1]
    loudest = features[0, 50].argmax().item()
    assert abs(centres_hz[loudest] - 1000) < 100


def test_utterance_cmvn_gives_each_band_mean_0_and_deviation_1_over_the_valid_frames() -> None:
    features = 5 + 3 * torch.randn(2, 50, 8)
    lengths = torch.tensor([50, 20])
    normalised = Cmvn(8, "utterance")(features, lengths)
    for row, length in enumerate(lengths):
        valid = normalised[row, :length]
        torch.testing.assert_close(valid.mean(0), torch.zeros(8), rtol=0, atol=1e-5)
        torch.testing.assert_close(valid.std(0, correction=0), torch.ones(8), rtol=0, atol=1e-4)
    assert normalised[1, 20:].count_nonzero() == 0


def test_global_cmvn_applies_the_stored_moments() -> None:
    cmvn = Cmvn(3, "global")
    cmvn.set_moments(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 4.0]))
    normalised = cmvn(torch.tensor([[[2.0, 6.0, 3.0], [9.0, 9.0, 9.0]]]), torch.tensor([1]))
    assert normalised.tolist() == [[[1.0, 2.0, 0.0], [0.0, 0.0, 0.0]]]


def test_digital_silence_gives_finite_features() -> None:
    features, lengths = LogMel(FeatureSettings())(torch.zeros(1, 1600), torch.tensor([1600]))
    assert torch.isfinite(Cmvn(80, "utterance")(features, lengths)).all()


def speech_and_pauses(rng: np.random.Generator, seconds: float = 3.0) -> Tensor:
    """Noise whose loudness changes by 20 dB, at about -25 dBFS."""
    time_s = np.arange(round(16000 * seconds)) / 16000
    loudness = 10 ** -(np.sin(2 * np.pi * 1.3 * time_s) ** 2)
    return torch.from_numpy((0.1 * loudness * rng.standard_normal(len(time_s))).astype(np.float32))


def features_of(waveform: Tensor, cmvn: str) -> Tensor:
    features, _ = LogMel(FeatureSettings(cmvn=cmvn))(waveform[None], torch.tensor([len(waveform)]))
    return features[0]


@pytest.mark.parametrize("cmvn", CMVN)
@pytest.mark.parametrize("level_db", [-50, -20, 20])
def test_the_level_changes_no_feature(cmvn: str, level_db: float, rng: np.random.Generator) -> None:
    waveform = speech_and_pauses(rng)
    other = features_of(waveform * 10 ** (level_db / 20), cmvn)
    torch.testing.assert_close(other, features_of(waveform, cmvn), rtol=0, atol=1e-4)


@pytest.mark.parametrize("cmvn", CMVN)
@pytest.mark.parametrize("offset", [-0.5, 0.1, 0.5])
def test_an_offset_changes_no_feature(cmvn: str, offset: float, rng: np.random.Generator) -> None:
    waveform = speech_and_pauses(rng)
    torch.testing.assert_close(features_of(waveform + offset, cmvn), features_of(waveform, cmvn), rtol=0, atol=0.01)


@pytest.mark.parametrize("cmvn", CMVN)
def test_the_noise_of_16_bits_is_not_raised_to_the_level_of_speech(cmvn: str, rng: np.random.Generator) -> None:
    noise = torch.from_numpy(rng.uniform(-0.5, 0.5, 32000).astype(np.float32)) / 2**15
    assert features_of(noise, cmvn).mean() < -3  # -13 dB
    for constant in (0.0, 0.25):
        assert (features_of(torch.full((8000,), constant), cmvn) == math.log(FLOOR)).all()


def test_the_running_level_is_what_its_recursion_says(rng: np.random.Generator) -> None:
    energies = torch.from_numpy(10 ** rng.uniform(-11, 1, (2, 9000))).float()
    energies[:, 2000:8000] = 0
    level = running_level(energies, 0.03)
    for row in range(2):
        expected = 0.0
        for frame in range(9000):
            expected = max(energies[row, frame].item(), QUIETEST, expected * 10**-0.003)
            assert level[row, frame].item() == pytest.approx(expected, rel=1e-4)


def test_a_pause_after_speech_stays_quiet_and_a_quiet_speaker_is_heard_in_time() -> None:
    """The level falls by 3 dB a second: after speech, sound 25 dB below it is at -22 dB in a second, at 0 in 10."""
    loud, quiet = 0.3 * torch.randn(32000), 0.3 * 10 ** (-25 / 20) * torch.randn(16 * 16000)
    mean_db = 10 / math.log(10) * features_of(torch.cat([loud, quiet]), "global").logsumexp(1) - 10 * math.log10(80)
    assert mean_db[290:310].mean().item() == pytest.approx(-25 + 3, abs=2)
    assert mean_db[1200:].mean().item() == pytest.approx(0, abs=2)
