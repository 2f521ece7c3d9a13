"""A recogniser that hears the tones of `conftest.tone_speech` without training, and recordings of phrases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch
from conftest import LETTER_HZ, tone_speech

from asr.config import Config
from asr.text.tokens import TokenTable

RATE_HZ = 16000
FRAME_S = 0.02
SURE = 0.98


class ToneDecoder:
    """Stands for a loaded model: where a tone begins, it emits the letter of the nearest pitch, else blanks."""

    def __init__(self, letters: str = "abcd ") -> None:
        table = TokenTable.from_texts([letters])
        self.bundle = SimpleNamespace(config=Config(), tokens=table, folder=None)
        self.model = SimpleNamespace(frame_shift_s=FRAME_S)
        self.sample_rate_hz = RATE_HZ
        self._pitches = [(table.symbols.index(letter), hz) for letter, hz in LETTER_HZ.items() if letter in letters]
        self.longest = 0

    def of_one_speaker(self, segments: Any) -> tuple[Any, None]:
        """Return the segments of a recording as they are: it normalises by no speaker."""
        return segments, None

    def log_posteriors(self, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log-posteriors of a batch; `longest` is the longest batch so far, in samples."""
        self.longest = max(self.longest, batch.waveforms.numel())
        rows = [
            self._row(waveform[:length].numpy())
            for waveform, length in zip(batch.waveforms, batch.lengths, strict=True)
        ]
        lengths = torch.tensor([len(row) for row in rows])
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), lengths

    def _row(self, waveform: np.ndarray) -> torch.Tensor:
        step = round(FRAME_S * RATE_HZ)
        frames = waveform[: len(waveform) // step * step].reshape(-1, step)
        heard = [self._token(frame) for frame in frames]
        tokens = [0 if token == before else token for before, token in zip([0, *heard], heard, strict=False)]
        size = len(self.bundle.tokens)
        probabilities = torch.full((len(frames), size), (1 - SURE) / (size - 1))
        probabilities[torch.arange(len(frames)), torch.tensor(tokens, dtype=torch.int64)] = SURE
        return probabilities.log()

    def _token(self, frame: np.ndarray) -> int:
        if np.abs(frame).max() < 0.08:
            return 0
        spectrum = np.abs(np.fft.rfft(frame * np.hanning(len(frame)), 4096))
        pitch_hz = spectrum.argmax() * RATE_HZ / 4096
        return min(self._pitches, key=lambda pair: abs(np.log(pair[1] / pitch_hz)))[0]


def record(
    path: Path, phrases: Sequence[str], rng: np.random.Generator, pause_s: float = 0.8
) -> list[tuple[float, float]]:
    """Write a recording of phrases with pauses around them; return where the sound of each begins and ends."""
    parts: list[np.ndarray] = [silence(pause_s, rng)]
    extents = []
    for phrase in phrases:
        start = sum(map(len, parts))
        parts += [tone_speech(phrase, rng), silence(pause_s, rng)]
        extents.append((start / RATE_HZ + 0.08, (sum(map(len, parts)) - len(parts[-1])) / RATE_HZ - 0.11))
    soundfile.write(path, np.concatenate(parts), RATE_HZ)
    return extents


def silence(seconds: float, rng: np.random.Generator) -> np.ndarray:
    return (0.003 * rng.standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


def draw_phrases(count: int, rng: np.random.Generator) -> list[str]:
    """Draw phrases of three to five words of two to four letters."""
    return [
        " ".join("".join(rng.choice(list("abcd"), rng.integers(2, 5))) for _ in range(rng.integers(3, 6)))
        for _ in range(count)
    ]
