"""An exported model that hears the tones of `conftest.tone_speech` without training, and a page around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import LETTER_HZ

from asr.audio.speech_detector import CONTEXT, WINDOW
from asr.exporting.export import _write_speech_detector
from asr.exporting.graph import Graph
from asr.exporting.web import write_page
from asr.runtime.description import Description

RATE_HZ = 16000
FRAME_SAMPLES = 320


def write_tone_page(folder: Path, title: str = "tones") -> None:
    """Write a web export; its speech detector takes what is loud for speech, because tones are no speech."""
    model = folder / "model"
    model.mkdir(parents=True)
    (model / "model.onnx").write_bytes(_pitches().SerializeToString())
    (model / "speech_detector.onnx").write_bytes(_loudness().SerializeToString())
    _write_speech_detector(model)  # for the runtime
    Description(RATE_HZ, FRAME_SAMPLES / RATE_HZ, ("<blank>", *sorted(LETTER_HZ)), text=TEXT).save(model)
    write_page(folder, title)


TEXT = dict.fromkeys(("case", "language", "apostrophes", "numbers", "space", "remove"), "") | {
    "case": "lower",
    "apostrophes": "straight",
    "clean": False,
    "replace": {},
}


def _pitches():
    """Return a network that emits the letter of a pitch while it is heard, else blanks."""
    time_s = np.arange(FRAME_SAMPLES) / RATE_HZ
    window = np.pad(np.hanning(200), 60)  # short, because pitches waver
    window /= window.sum()
    angles = 2 * np.pi * np.array([LETTER_HZ[letter] for letter in sorted(LETTER_HZ)])[:, None] * time_s
    kernel = (np.concatenate([np.cos(angles), np.sin(angles)]) * window).astype(np.float32)[:, None]
    graph, count = Graph(int8=False), len(LETTER_HZ)
    half = FRAME_SAMPLES // 2
    padded = graph.add("Pad", "waveform", np.array([half, half]), mode="edge")
    waves = graph.add("Conv", graph.add("Unsqueeze", padded, np.array([0, 1])), kernel, strides=[FRAME_SAMPLES])
    parts = [
        graph.add("Slice", waves, np.array([first]), np.array([first + count]), np.array([1])) for first in (0, count)
    ]
    power = graph.add("Add", *(graph.add("Mul", part, part) for part in parts))
    level = graph.add("Log", graph.add("Max", power, np.float32(1e-12)))
    letters = graph.add("Mul", graph.add("Sub", level, np.float32(2 * np.log(0.05))), np.float32(2))
    letters = graph.add("Transpose", graph.add("Squeeze", letters, np.array([0])), perm=[1, 0])
    blank = graph.add("Mul", graph.add("ReduceMean", letters, axes=[1]), np.float32(0))
    graph.add("LogSoftmax", graph.add("Concat", blank, letters, axis=1), name="log_posteriors", axis=-1)
    return graph.finished("tones", {"waveform": ["sample"]}, {"log_posteriors": ["frame", count + 1]})


def _loudness():
    graph = Graph(int8=False)
    power = graph.add("ReduceMean", graph.add("Mul", "windows", "windows"), axes=[1], keepdims=0)
    # Windows come at the level 10⁻²·⁸.
    above = graph.add("Mul", graph.add("Sub", power, np.float32(0.05 * 10**-2.8)), np.float32(1e6))
    graph.add("Sigmoid", above, name="probabilities")
    for state in ("hidden", "cell"):
        graph.add("Mul", state, np.float32(1), name=f"next_{state}")
    size = [1, 1, 128]
    return graph.finished(
        "loudness",
        {"windows": ["window", CONTEXT + WINDOW], "hidden": size, "cell": size},
        {"probabilities": ["window"], "next_hidden": size, "next_cell": size},
    )
