"""A corpus to train on where there is none: the quickstart's, or tones. For `gpu.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asr.corpus.manifest import make_cut, write_manifest
from asr.errors import AsrError
from asr.preparing.recipes import CorpusRequest, load_recipe, recipes_folder


def corpus(folder: Path, utterances: Mapping[str, int], *, speech: bool) -> Path:
    """Make the quickstart's corpus, or tones where there is no speech engine; return its folder."""
    if speech:
        try:
            prepare: Any = load_recipe("quickstart", recipes_folder()).prepare
            prepare(CorpusRequest(folder, folder), utterances=utterances)
            return folder
        except (AsrError, ImportError) as error:
            print(f"the quickstart's speech engine is not there ({error}); tones in its place", flush=True)
    rng = np.random.default_rng(0)
    for split, count in utterances.items():
        cuts = []
        for number in range(count):
            text = "".join(rng.choice(list("abcdefgh "), 12)).strip() or "a"
            path = folder / f"{split}-{number:04d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tones(text, rng), 16000)
            cuts.append(make_cut(path.stem, path, " ".join(text.split()), f"{split}-{number % 6}"))
        write_manifest(cuts, folder / f"{split}.jsonl.gz")
    return folder


def tones(text: str, rng: np.random.Generator) -> np.ndarray:
    """Return a tone of 0.12 s for each letter."""
    time_s = np.arange(1920) / 16000
    pitches_hz = [300 + 150 * (ord(letter) % 32) for letter in text]
    waves = [0.3 * np.hanning(1920) * np.sin(2 * np.pi * pitch_hz * time_s) for pitch_hz in pitches_hz]
    return (np.concatenate(waves) + 0.003 * rng.standard_normal(1920 * len(text))).astype(np.float32)
