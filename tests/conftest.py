"""Fixtures shared by all tests: real corpora where they are, synthesised audio where they are not."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# No test measures time: the first example of a law pays for imports, and any may meet a busy machine.
settings.register_profile("asr", deadline=None)
settings.load_profile("asr")

# One thread, here and in the processes that tests start: several tests may run on a busy machine, where threads that
# wait for each other take many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
torch.set_num_threads(1)


def _corpus(name: str) -> Path:
    root = os.environ.get("ASR_CORPORA")
    if not root:
        pytest.skip(f"needs the {name} corpus: set ASR_CORPORA to the folder that holds {name}/")
    folder = Path(root).resolve() / name
    if not folder.is_dir():
        pytest.skip(f"needs the {name} corpus: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def an4_dir() -> Path:
    return _corpus("an4")


@pytest.fixture(scope="session")
def yesno_dir() -> Path:
    return _corpus("yesno")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's headless Chromium, driven by playwright; pages in it reach this machine only."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which drives the pages, is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def onnxruntime_web(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder node_modules with onnxruntime-web, which npm gets, and node to run it."""
    from asr.exporting.web import ONNXRUNTIME_WEB

    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm, which run what is exported for browsers")
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"private": true}')
    package = f"onnxruntime-web@{ONNXRUNTIME_WEB}"
    command = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", package]
    try:
        subprocess.run(command, cwd=folder, check=True, timeout=120, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm does not get {package} within 2 minutes")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"npm cannot get {package}: {error.stderr.strip()[-300:]}")
    return folder / "node_modules"


@pytest.fixture(scope="session")
def call() -> Callable[..., tuple[str | int | None, str, str]]:
    """Run `asr` with arguments, in 80 columns; return exit status, stdout and stderr."""

    def call(*arguments: object) -> tuple[str | int | None, str, str]:
        from asr.cli.main import run

        out, err = io.StringIO(), io.StringIO()
        with (
            mock.patch.object(sys, "argv", ["asr", *map(str, arguments)]),
            mock.patch.dict(os.environ, COLUMNS="80"),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as exit_,
        ):
            run()
        return exit_.value.code, out.getvalue(), err.getvalue()

    return call


@pytest.fixture(scope="session")
def succeed(call: Callable[..., tuple[str | int | None, str, str]]) -> Callable[..., str]:
    """Run `asr` with arguments, see that it succeeds, and return stdout."""

    def succeed(*arguments: object) -> str:
        status, out, err = call(*arguments)
        assert status == 0, err
        return out

    return succeed


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums of floats depend on how many threads share them: runs that are compared to the bit have the same number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@contextmanager
def pipe_of(*writes: bytes) -> Iterator[int]:
    """A pipe into which a thread writes these, and its reading end."""
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb", buffering=0) as file, suppress(BrokenPipeError):
            for data in writes:
                file.write(data)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield reading
    finally:
        os.close(reading)
        thread.join()


LETTER_HZ = {" ": 200.0, "a": 400.0, "b": 700.0, "c": 1100.0, "d": 1700.0}


def tone_speech(text: str, rng: np.random.Generator, rate_hz: int = 16000) -> np.ndarray:
    """Synthesise `text` as tones, one pitch a letter (a space hums), with jitter and a little noise."""
    pieces = [np.zeros(int(0.08 * rate_hz))]
    for letter in text:
        samples = int(rate_hz * rng.uniform(0.10, 0.16))
        pitch_hz = LETTER_HZ[letter] * rng.uniform(0.96, 1.04)
        pieces.append(0.3 * np.hanning(samples) * np.sin(2 * np.pi * pitch_hz * np.arange(samples) / rate_hz))
        pieces.append(np.zeros(int(0.03 * rate_hz)))
    pieces.append(np.zeros(int(0.08 * rate_hz)))
    clean = np.concatenate(pieces)
    return (clean + 0.003 * rng.standard_normal(len(clean))).astype(np.float32)


def syllables(rng: np.random.Generator, seconds: float, rate_hz: int) -> np.ndarray:
    """Noise that comes and goes three times a second, and begins and ends quietly."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    loudness = 0.01 + np.clip(np.sin(2 * np.pi * 3 * time_s), 0, 1)
    return rng.uniform(-0.5, 0.5, len(time_s)) * loudness


def voice_like(rng: np.random.Generator, seconds: float = 3.0) -> np.ndarray:
    """Harmonics that come and go like syllables, in noise of changing loudness."""
    time_s = np.arange(round(seconds * 16000)) / 16000
    harmonics = sum(np.sin(2 * np.pi * 120 * k * time_s + rng.uniform(0, 6)) / k for k in range(1, 25))
    loudness = np.clip(np.sin(2 * np.pi * 3 * time_s), 0, 1) * (time_s % 1.5 < 1)
    noise = rng.standard_normal(len(time_s)) * 10 ** rng.uniform(-4, -1)
    return (0.1 * loudness * harmonics + noise).astype(np.float32)


class LoudnessDetector:
    """Takes what is loud for speech, in place of the speech detector, which knows that tones are none."""

    def __init__(self, rate_hz: int, network: object = None, resampler: object = None) -> None:
        self.window = round(0.032 * rate_hz)
        self.rest = np.zeros(0)

    def __call__(self, block: np.ndarray, *, last: bool = False) -> np.ndarray:
        self.rest = np.concatenate([self.rest, block])
        if last:
            self.rest = np.pad(self.rest, (0, -len(self.rest) % self.window))
        windows = len(self.rest) // self.window
        heard, self.rest = np.split(self.rest, [windows * self.window])
        return (np.abs(heard.reshape(windows, self.window)).max(1, initial=0.0) > 0.1).astype(np.float32)


@pytest.fixture
def loud_is_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.audio.speech_detector.SpeechDetector", LoudnessDetector)


@pytest.fixture(scope="session")
def tone_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of manifests of tone speech: 96 training, 12 dev and 12 test utterances of two-letter words."""
    return make_tone_corpus(tmp_path_factory.mktemp("tones"))


def make_tone_corpus(folder: Path, most_pause_s: float = 0.0) -> Path:
    """Write the tone corpus; each utterance begins and ends with silence of up to `most_pause_s`."""
    import soundfile

    from asr.corpus.manifest import make_cut, write_manifest

    rng = np.random.default_rng(7)
    for split, count in (("train", 96), ("dev", 12), ("test", 12)):
        cuts = []
        for index in range(count):
            words = ["".join(rng.choice(list("abcd"), 2)) for _ in range(rng.integers(1, 4))]
            text = " ".join(words)
            path = folder / "audio" / f"{split}-{index:03d}.wav"
            path.parent.mkdir(exist_ok=True)
            waveform = tone_speech(text, rng)
            if most_pause_s:
                waveform = np.pad(waveform, rng.integers(0, round(most_pause_s * 16000), 2))
            soundfile.write(path, waveform, 16000)
            cuts.append(make_cut(f"{split}-{index:03d}", path, text, f"{split}-speaker-{index % 4}"))
        write_manifest(cuts, folder / f"{split}.jsonl.gz")
    return folder


TINY = (
    "model.layers=1",
    "model.hidden_size=32",
    "model.subsampling_channels=8",
    "features.mel_bins=40",
    "training.batch_s=8",
    "training.precision=fp32",
    "training.accelerator=cpu",
)

# With these, TINY recognises tone speech after some seconds of training.
LEARNS_FAST = (
    "training.epochs=10",
    "training.learning_rate=0.01",
    "training.ema_decay=0.9",
    "training.consistency_weight=0",
    "model.dropout=0",
    "model.subsampling=2",
    "augment.time_masks=0",
    "augment.frequency_masks=0",
    "augment.noise_share=0.5",  # or long pauses, of which the corpus has none, become letters
)
