"""The player and the pictures of sound that pages share, in a browser."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soundfile
import torch

import asr.pages
from asr.audio.opus import ogg_opus
from asr.config import FeatureSettings
from asr.model.logmel import LogMel
from tests.conftest import voice_like

TEMPLATES = Path(asr.pages.__file__).parent / "templates"


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """An empty page with the shared scripts and style."""
    page = browser.new_page(viewport={"width": 800, "height": 600})
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    names = ("page.css", "element.js", "fourier.js", "spectrogram.js", "player.js")
    style, *scripts = ((TEMPLATES / name).read_text() for name in names)
    page.set_content(f"<style>{style}</style><main></main><script>{''.join(scripts)}</script>")
    yield page
    page.close()
    assert complaints == []


@pytest.mark.parametrize(("rate_hz", "bins"), [(16000, 80), (8000, 40)])
def test_the_filters_of_the_page_are_librosas(page: Any, rate_hz: int, bins: int) -> None:
    found = page.evaluate("([rate, bins]) => melFilters(rate, 512, bins)", [rate_hz, bins])
    filters = np.zeros((bins, 257))
    for row, one in zip(filters, found, strict=True):
        row[one["first"] : one["first"] + len(one["weights"])] = one["weights"]
    np.testing.assert_allclose(filters, librosa.filters.mel(sr=rate_hz, n_fft=512, n_mels=bins), atol=1e-7)


def test_the_page_computes_the_features_that_the_network_computes(page: Any, rng: np.random.Generator) -> None:
    samples = voice_like(rng, 0.7)
    found = page.evaluate(
        """(samples) => {
            const {frames, bins, values} = logMel(Float32Array.from(samples), 16000);
            return {frames, bins, values: [...values]};
        }""",
        samples.tolist(),
    )
    expected, _ = LogMel(FeatureSettings())(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    assert (1, found["frames"], found["bins"]) == tuple(expected.shape)
    values = np.reshape(found["values"], (found["frames"], found["bins"]))
    np.testing.assert_allclose(values, expected[0].numpy(), atol=2e-3)


def test_of_silence_and_of_no_samples_there_are_features_too(page: Any) -> None:
    for samples in ([], [0.0] * 4000):
        found = page.evaluate("(samples) => [...logMel(Float32Array.from(samples), 16000).values]", samples)
        np.testing.assert_allclose(found, np.log(3e-4), rtol=1e-6)


def in_base64(samples: np.ndarray, form: str = "WAV", subtype: str | None = None) -> str:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16000, format=form, subtype=subtype)
    return base64.b64encode(buffer.getvalue()).decode()


VIEW = """async (text) => {
    window.player = new Player();
    window.view = new SoundView(player);
    document.querySelector('main').append(view.element);
    await player.open(bytesOfBase64(text));
}"""


def test_what_is_opened_has_the_samples_of_the_file(page: Any, rng: np.random.Generator) -> None:
    samples = voice_like(rng, 0.5)
    page.evaluate(VIEW, in_base64(samples, subtype="FLOAT"))
    assert page.evaluate("player.durationS") == pytest.approx(0.5)
    np.testing.assert_allclose(page.evaluate("[...player.samples]"), samples, atol=1e-6)


def test_opus_in_ogg_is_decoded_in_time(page: Any, rng: np.random.Generator) -> None:
    click = np.zeros(16000, np.float32)
    click[8000:8040] = 0.9
    page.evaluate(VIEW, in_base64(click, "OGG", "OPUS"))
    samples = np.abs(page.evaluate("[...player.samples]"))
    assert len(samples) == pytest.approx(16000, abs=160)
    assert np.argmax(samples) == pytest.approx(8020, abs=80)  # 5 ms


def test_the_opus_of_a_page_is_played_by_an_audio_element_too(page: Any, rng: np.random.Generator) -> None:
    content = base64.b64encode(ogg_opus([voice_like(rng, 1.5)])).decode()
    page.mouse.click(5, 5)  # without a click or a key, a browser plays nothing
    played = page.evaluate(
        """(content) => new Promise((resolve) => {
            const audio = new Audio(`data:audio/ogg;base64,${content}`);
            audio.addEventListener('ended', () => resolve([audio.duration, audio.currentTime, audio.error]));
            audio.play();
        })""",
        content,
    )
    assert played == [pytest.approx(1.5, abs=0.02), pytest.approx(1.5, abs=0.02), None]


def test_a_click_on_the_button_plays_and_another_one_pauses(page: Any, rng: np.random.Generator) -> None:
    page.evaluate(VIEW, in_base64(voice_like(rng, 5.0)))
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("player.positionS > 0.2")
    page.get_by_role("button", name="Pause").click()
    stopped_s = page.evaluate("player.positionS")
    assert 0.2 < stopped_s < 5
    assert page.get_by_role("slider").input_value() == pytest.approx(f"{stopped_s:.2f}")
    assert not page.evaluate("player.playing")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("([s]) => player.positionS > s + 0.1", arg=[stopped_s])


def test_a_part_is_played_to_its_end_and_no_further(page: Any, rng: np.random.Generator) -> None:
    page.evaluate(VIEW, in_base64(voice_like(rng, 5.0)))
    page.mouse.click(5, 5)  # without a click or a key, a browser plays nothing
    furthest = page.evaluate(
        """() => new Promise((resolve) => {
            let furthest = 0;
            player.addEventListener('change', () => {
                furthest = Math.max(furthest, player.positionS);
                if (!player.playing) resolve(furthest);
            });
            player.play(1.5, 1.8);
        })"""
    )
    assert 1.6 < furthest <= 1.8
    assert page.evaluate("[...player.part, player.positionS]") == [1.5, 1.8, 1.5]


def test_a_click_on_the_pictures_plays_from_there(page: Any, rng: np.random.Generator) -> None:
    page.evaluate(VIEW, in_base64(voice_like(rng, 4.0)))
    page.wait_for_function("view.mel")
    box = page.locator(".pictures").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 4, box["y"] + 10)
    assert page.evaluate("player.part") == [pytest.approx(1.0, abs=0.02), 4.0]


def test_the_pictures_show_sound_where_it_is(page: Any) -> None:
    """A tone of 1 kHz in the second half: the waveform is high there, and the log-mel bright at one height only."""
    time_s = np.arange(32000) / 16000
    page.evaluate(VIEW, in_base64(np.where(time_s < 1, 0, 0.5 * np.sin(2000 * np.pi * time_s))))
    page.wait_for_function("view.mel")
    waveform, mel = (np.array(page.evaluate(PIXELS, name)) for name in ("waveform", "spectrogram"))
    drawn = (waveform[..., 3] > 0).sum(axis=0)
    half = drawn.shape[0] // 2
    assert drawn[: half - 2].max() <= 2
    assert drawn[half + 2 :].min() > 10
    bright = mel[..., :3].sum(axis=2)
    column = bright[:, int(1.5 * half)]
    assert bright[:, half // 2].max() < 100 < 500 < column.max()
    height = 1 - np.argmax(column) / len(column)
    assert height == pytest.approx(15 / 45.25, abs=0.03)  # 1 kHz is 15 mel, 8 kHz 45.25


PIXELS = """(name) => {
    const {width, height} = view[name];
    const {data} = view[name].getContext('2d').getImageData(0, 0, width, height);
    return Array.from({length: height}, (_, y) => Array.from({length: width}, (_, x) =>
        [...data.subarray((y * width + x) * 4, (y * width + x) * 4 + 4)]));
}"""


def test_a_recording_that_was_opened_later_stays_though_it_was_decoded_sooner(
    page: Any, rng: np.random.Generator
) -> None:
    long, short = in_base64(voice_like(rng, 30.0), "FLAC"), in_base64(voice_like(rng, 0.5))
    opened = page.evaluate(
        """async ([long, short]) => {
            const player = window.player = new Player();
            return Promise.all([player.open(bytesOfBase64(long)), player.open(bytesOfBase64(short))]);
        }""",
        [long, short],
    )
    assert opened == [False, True]
    assert page.evaluate("player.durationS") == pytest.approx(0.5)


def test_each_peak_of_a_token_is_named_once(page: Any) -> None:
    found = page.evaluate("peaks([[1, 0.2], [2, 0.9], [3, 0.9], [4, 0.1], [9, 0.5], [11, 0.3]])")
    assert found == [[2, 0.9], [9, 0.5], [11, 0.3]]
