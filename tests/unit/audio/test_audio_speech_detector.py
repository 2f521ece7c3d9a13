"""The speech detector against the package whose weights it reads, and on words with pauses between."""

from importlib.util import find_spec
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from asr.audio import speech_detector
from asr.audio.segment import segments
from asr.audio.speech_detector import SpeechDetector
from asr.errors import DependencyError
from tests.conftest import voice_like

RATE_HZ = 16000


def in_blocks(detector, waveform, *sizes):
    places = [0, *np.cumsum(sizes), len(waveform)]
    found = [detector(waveform[start:end]) for start, end in pairwise(places)]
    return np.concatenate([*found, detector(waveform[:0], last=True)])


def test_the_probabilities_are_those_of_silero_vads_own_network(rng, monkeypatch):
    data = Path(find_spec("silero_vad").origin).parent / "data"
    theirs = torch.jit.load(data / "silero_vad.jit")
    weights = load_file(data / "silero_vad_16k.safetensors")
    names = {"stft.forward_basis_buffer": "stft_conv.weight"}
    names |= {f"decoder.rnn.{part}": f"lstm_cell.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    for part in ("weight", "bias"):
        names |= {f"encoder.{k}.reparam_conv.{part}": f"conv{k + 1}.{part}" for k in range(4)}
        names[f"decoder.decoder.2.{part}"] = f"final_conv.{part}"
    own = theirs.state_dict()
    assert {f"_model.{name}" for name in names} == {name for name in own if name.startswith("_model.")}
    with torch.no_grad():
        for name, source in names.items():
            own[f"_model.{name}"].copy_(weights[source])
    waveform = np.concatenate([voice_like(rng), voice_like(rng)])[:-100]
    waveform[[0, -1]] = 0  # theirs is silent before the first sample and after the last
    expected = theirs.audio_forward(torch.from_numpy(waveform)[None], RATE_HZ)[0].numpy()
    detector = SpeechDetector(RATE_HZ)
    monkeypatch.setattr(detector, "_levelled", lambda heard: heard)
    found = detector(waveform, last=True)
    assert expected.max() > 0.5 > expected.min()
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("rate_hz", [16000, 8000, 22050])
def test_blocks_of_any_size_give_the_same_probabilities(rng, rate_hz):
    waveform = voice_like(rng)[:-77]
    whole = SpeechDetector(rate_hz)(waveform, last=True)
    assert len(whole) == np.ceil(len(waveform) / rate_hz / speech_detector.WINDOW_S)
    parts = in_blocks(SpeechDetector(rate_hz), waveform, 1, 511, 512, 0, 513, 10_000)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


@pytest.mark.corpus
def test_what_is_loud_in_a_telephone_call_is_speech_and_the_pauses_are_not(yesno_dir):
    missed, stretches = [], []
    for path in sorted(yesno_dir.rglob("*.wav"))[:12]:
        waveform, rate_hz = soundfile.read(path, dtype="float32")
        assert rate_hz == 8000
        speech = SpeechDetector(rate_hz)(waveform, last=True) > 0.5
        windows = len(waveform) // 256
        level_db = 10 * np.log10(np.square(waveform[: windows * 256]).reshape(windows, 256).mean(1))
        loud = level_db > np.percentile(level_db, [5, 97]).mean()
        missed.append(np.mean(~speech[:windows][loud]))
        stretches.append(sum(speaks for speaks, _ in groupby(speech)))
    assert np.median(missed) == 0.0
    assert np.mean(np.array(missed) < 0.1) >= 0.9  # one caller is noisy between the words
    assert 4 <= min(stretches) <= np.median(stretches) == 8 == max(stretches)  # each says eight words


def test_a_missing_package_is_named_with_the_way_out(monkeypatch):
    speech_detector._shipped_network.cache_clear()
    monkeypatch.setattr(speech_detector, "find_spec", lambda name: None)
    with pytest.raises(DependencyError, match="silero-vad is missing: pip install silero-vad"):
        SpeechDetector(RATE_HZ)


def test_weights_that_cannot_be_read_are_named(monkeypatch, tmp_path):
    speech_detector._shipped_network.cache_clear()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "silero_vad_16k.safetensors").write_bytes(b"damaged")
    monkeypatch.setattr(speech_detector, "find_spec", lambda name: type("Spec", (), {"origin": tmp_path / "x.py"}))
    with pytest.raises(DependencyError, match=r"silero_vad_16k\.safetensors: cannot be read .* install silero-vad"):
        SpeechDetector(RATE_HZ)


def test_of_silence_noise_and_hum_nothing_is_left():
    rng = np.random.default_rng(0)
    hum = np.sin(2 * np.pi * 50 * np.arange(5 * 16000) / 16000)
    for waveform in (0 * hum, 0.1 * hum, 0.01 * rng.standard_normal(len(hum)), 1e-4 * rng.standard_normal(len(hum))):
        assert list(segments([waveform.astype(np.float32)], 16000)) == []


def test_a_block_as_long_as_the_recording_gives_what_short_ones_give(rng, monkeypatch):
    monkeypatch.setattr(speech_detector, "_AT_ONCE", 7)
    waveform = voice_like(rng)
    whole = SpeechDetector(RATE_HZ)(waveform, last=True)
    monkeypatch.setattr(speech_detector, "_AT_ONCE", 1000)
    np.testing.assert_allclose(whole, SpeechDetector(RATE_HZ)(waveform, last=True), atol=1e-6)


def in_16_bits(waveform):
    return (np.rint(waveform * 2**15) / 2**15).astype(np.float32)


@pytest.mark.parametrize(("level_db", "offset"), [(-50, 0), (-50, 0.5), (-25, -0.5), (0, 0.5), (20, 0)])
def test_neither_level_nor_offset_matters(rng, level_db, offset):
    waveform = voice_like(rng)
    expected = SpeechDetector(RATE_HZ)(waveform, last=True)
    found = SpeechDetector(RATE_HZ)((waveform * 10 ** (level_db / 20) + offset).astype(np.float32), last=True)
    assert expected.max() > 0.5 > expected.min()
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.corpus
@pytest.mark.parametrize(("level_db", "offset"), [(-20, 0), (-40, 0), (-50, 0), (-10, 0.5)])
def test_in_files_of_16_bits_speech_is_found_at_any_level(an4_dir, level_db, offset):
    differ = windows = 0
    for path in sorted((an4_dir / "wav" / "an4test_clstk").rglob("*.wav"))[::13]:
        waveform, rate_hz = soundfile.read(path, dtype="float32")
        other = in_16_bits(waveform * 10 ** (level_db / 20) + offset)
        expected, found = (SpeechDetector(rate_hz)(w, last=True) > 0.5 for w in (waveform, other))
        differ, windows = differ + (found != expected).sum(), windows + len(expected)
    assert differ < 0.08 * windows


@pytest.mark.corpus
def test_a_quiet_speaker_is_heard_after_a_loud_one(an4_dir, rng):
    heard = windows = 0
    for path in sorted((an4_dir / "wav" / "an4test_clstk").rglob("*.wav"))[::13]:
        waveform, rate_hz = soundfile.read(path, dtype="float32")
        alone = SpeechDetector(rate_hz)(waveform, last=True) > 0.5
        both = np.concatenate([waveform, np.zeros(2 * rate_hz, np.float32), waveform * 10 ** (-30 / 20)])
        speech = SpeechDetector(rate_hz)(in_16_bits(both), last=True) > 0.5
        heard, windows = heard + speech[-len(alone) :].sum(), windows + alone.sum()
    assert heard > 0.8 * windows


@pytest.mark.parametrize("level_db", [-80, -60, -40])
def test_noise_alone_is_no_speech_however_far_it_is_raised(rng, level_db):
    noise = in_16_bits(10 ** (level_db / 20) * rng.standard_normal(20 * RATE_HZ))
    after = np.concatenate([voice_like(rng) * 0.3, noise])
    assert not (SpeechDetector(RATE_HZ)(noise, last=True) > 0.5).any()
    assert not (SpeechDetector(RATE_HZ)(after, last=True)[-550:] > 0.5).any()
