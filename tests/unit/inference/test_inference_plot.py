"""The figure of a recording shows what the network sees and what it recognises, where it is in time."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

import asr
from asr.bundle.bundle import ModelBundle
from asr.config import FeatureSettings
from asr.errors import AsrError, AudioError, ConfigError, ModelError
from asr.features.batch import collate
from asr.inference import plot as plotting
from asr.inference.plot import _apart, _draw_words, _Recording, _WordLabels
from asr.model.acoustic import AcousticModel
from asr.model.logmel import LogMel
from asr.plotting import styled_figure
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.transcript.words import Word
from tests.conftest import TINY, tone_speech

Call = Callable[..., tuple[str | int | None, str, str]]


@pytest.fixture
def speech(tmp_path: Path, rng: np.random.Generator) -> Path:
    path = tmp_path / "it costs $5 or $6.wav"
    soundfile.write(path, tone_speech("ab cd abc", rng), 16000)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["abcd "])
    network = AcousticModel(config, len(tokens))
    with torch.no_grad():
        network.output.weight.mul_(30)  # else all tokens are about as probable, and it recognises nothing
    ModelBundle(config, tokens, network).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = plotting.save_figure
    monkeypatch.setattr(plotting, "save_figure", lambda figure, path: figures.append(figure) or save(figure, path))
    return figures


def test_the_spectrogram_shows_what_the_network_sees(speech: Path, tmp_path: Path, drawn: list[Figure]) -> None:
    asr.plot(speech, tmp_path / "a.png")
    samples, _ = soundfile.read(speech, dtype="float32")
    features, _ = LogMel(FeatureSettings())(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    seen_db = 10 / math.log(10) * features[0].T.numpy()
    seen_db -= seen_db.max()
    _, spectrogram = drawn[0].axes
    (mesh,) = spectrogram.collections
    shown_db = np.asarray(mesh.get_array()).reshape(seen_db.shape)
    loud = seen_db > -40  # the network's floor and the figure's are different ones
    np.testing.assert_allclose(shown_db[loud], seen_db[loud], atol=0.01)
    assert spectrogram.get_xlim() == pytest.approx((0, len(samples) / 16000))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("loud_is_speech")
def test_posteriors_and_words_are_those_of_the_recogniser(
    speech: Path, model: Path, tmp_path: Path, drawn: list[Figure]
) -> None:
    plotted = asr.plot(speech, tmp_path / "a.svg", model=model)
    recognizer = asr.load(model)
    assert plotted.words == recognizer.transcribe(speech).words
    assert plotted.words
    samples, _ = soundfile.read(speech, dtype="float32")
    batch = collate([torch.from_numpy(samples)], [[]], [""])
    log_posteriors, _ = recognizer.decoder.log_posteriors(batch)
    posteriors = log_posteriors[0].exp().numpy()
    axes = drawn[0].axes[2]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[-1] == "blank"
    blank, tokens = [image.get_array() for image in axes.images]
    rows = [recognizer.decoder.bundle.tokens.texts.index(" " if name == "space" else name) for name in names[:-1]]
    np.testing.assert_allclose(blank[0], posteriors[:, 0], atol=1e-5)
    np.testing.assert_allclose(tokens, posteriors[:, rows].T, atol=1e-5)
    left, right, *_ = axes.images[0].get_extent()
    assert (left, right) == pytest.approx((-0.02, (len(posteriors) - 0.5) * 0.04))  # frame i is centred on i · 40 ms
    written = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert ">it costs $5 or $6.wav<" in written  # and no formula
    assert all(f">{word.text}<" in written for word in plotted.words)


def test_a_part_of_a_recording_keeps_its_times(speech: Path, model: Path, tmp_path: Path, drawn: list[Figure]) -> None:
    plotted = asr.plot(speech, tmp_path / "a.png", model=model, start_s=0.5, duration_s=0.75)
    assert (plotted.start_s, plotted.end_s) == (0.5, 1.25)
    assert drawn[0].axes[-1].get_xlim() == pytest.approx((0.5, 1.25))
    assert plotted.words is not None
    assert all(0.5 <= word.start_s <= word.end_s <= 1.25 for word in plotted.words)


def test_a_recording_too_long_for_a_figure_is_refused_with_the_way_out(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.wav", np.zeros(61 * 8000), 8000)
    with pytest.raises(AudioError, match=r"long\.wav: more than 60 s .* --start and --duration"):
        asr.plot(tmp_path / "long.wav", tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
    assert asr.plot(tmp_path / "long.wav", tmp_path / "a.png", start_s=59).end_s == 61
    assert asr.plot(tmp_path / "long.wav", tmp_path / "a.png", duration_s=2).end_s == 2
    with pytest.raises(AudioError, match=r"lasts 61\.00 s, so nothing is left from 70 s on"):
        asr.plot(tmp_path / "long.wav", tmp_path / "a.png", start_s=70)


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.05])
def test_even_the_shortest_silence_can_be_plotted(model: Path, tmp_path: Path, seconds: float) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(1 + round(seconds * 16000)), 16000)
    plotted = asr.plot(tmp_path / "short.wav", tmp_path / "a.png", model=model)
    assert plotted.end_s == pytest.approx(seconds, abs=1e-4)


def test_what_cannot_be_plotted_is_refused_before_any_work(speech: Path, tmp_path: Path) -> None:
    with pytest.raises(AsrError, match=r"a\.jpg: a figure's name ends in \.png, \.svg or \.pdf"):
        asr.plot(speech, tmp_path / "a.jpg")
    with pytest.raises(ConfigError, match="start_s=-1"):
        asr.plot(speech, tmp_path / "a.png", start_s=-1)
    with pytest.raises(ConfigError, match="duration_s=61"):
        asr.plot(speech, tmp_path / "a.png", duration_s=61)
    with pytest.raises(ModelError):
        asr.plot(speech, tmp_path / "a.png", model=tmp_path / "nowhere")
    with pytest.raises(AudioError, match="no such file"):
        asr.plot(tmp_path / "nowhere.wav", tmp_path / "a.png")


def words_of(*texts: str) -> tuple[Word, ...]:
    """Return words of a tenth of a second, one after the other."""
    return tuple(Word(text, 0.1 * place, 0.1 * (place + 1), 1.0) for place, text in enumerate(texts))


@pytest.mark.parametrize(
    ("texts", "upright"),
    [
        (("a", "b"), False),
        (("a", "considerably", "longer"), True),
        (("mm",) * 30, True),
        (("one",), False),
        ((), False),
    ],
)
def test_words_are_written_without_overlaps_and_within_the_figure(texts: tuple[str, ...], upright: bool) -> None:
    words = words_of(*texts)
    recording = _Recording("x", np.zeros(max(1, 1600 * len(texts)), np.float32), FeatureSettings(), 0.0)
    inches_per_s = 7 / (recording.end_s - recording.start_s) if len(texts) > 10 else 4.0
    labels = _WordLabels.fitting(words, recording, inches_per_s)
    assert labels.upright == upright
    width_in = inches_per_s * (recording.end_s - recording.start_s)
    with styled_figure(width_in, labels.height_in) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(recording.start_s, recording.end_s)
        _draw_words(axes, words, labels)
        boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == list(texts or ["no words recognised"])
    assert not any(one.overlaps(other) for one, other in pairwise(boxes))
    if upright:
        assert all(box.y0 >= 0 for box in boxes)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(0.1, 10))
def test_labels_are_moved_no_further_than_needed(middles: list[float], gap: float) -> None:
    """Against a general solver of the same least-squares problem."""
    from scipy.optimize import minimize

    rising = np.sort(np.array(middles))
    spread = _apart(rising, gap)
    assert (np.diff(spread) >= gap - 1e-9).all()
    apart = {"type": "ineq", "fun": lambda x: np.diff(x) - gap}
    start = rising + gap * np.arange(len(rising))
    best = minimize(lambda x: np.square(x - rising).sum(), start, method="SLSQP", constraints=apart)
    assert np.square(spread - rising).sum() <= best.fun + 1e-4 * (1 + best.fun)


def test_the_command_says_what_it_wrote(speech: Path, model: Path, tmp_path: Path, call: Call) -> None:
    status, out, _ = call("plot", speech, "--model", model, "--out", tmp_path / "a.pdf", "--start", 0.25)
    assert status == 0
    assert out.startswith(f"{tmp_path / 'a.pdf'}: 0.25 to ")
    assert out.endswith(" words\n")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")
    status, _, err = call("plot", speech, "--out", tmp_path / "a.bmp")
    assert status == 1
    assert "a.bmp" in err


def test_without_a_model_no_torch_is_loaded(speech: Path, tmp_path: Path) -> None:
    code = f"import sys, asr; asr.plot({str(speech)!r}, {str(tmp_path / 'a.png')!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
