import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio.blocks import load_audio
from asr.config import FeatureSettings
from asr.model.logmel import LOG_FLOOR, Cmvn, LogMel


def librosa_logmel(waveform: np.ndarray, rate_hz: int = 16000) -> np.ndarray:
    mel = librosa.feature.melspectrogram(
        y=waveform, sr=rate_hz, n_fft=512, win_length=400, hop_length=160, n_mels=80, pad_mode="constant"
    )
    return np.log(np.maximum(mel, LOG_FLOOR)).T


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
@given(lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_a_waveform_has_the_same_features_alone_and_in_a_batch_whatever_the_padding(
    lengths: list[int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logmel = LogMel(FeatureSettings())
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
