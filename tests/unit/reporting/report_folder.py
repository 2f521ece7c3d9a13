"""A decode folder of tone speech, as `asr decode` writes it, without a network: what the tests of its page open."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asr.scoring.score import write_trn
from asr.text.units import words_of
from asr.transcript.posteriors import SparsePosteriors, TokenFrames, write_posteriors
from tests.conftest import tone_speech

RATE_HZ = 16000
TOKENS = TokenFrames(tokens=["<blank>", " ", "a", "b", "c", "d"], frame_shift_s=0.04)


@dataclass(frozen=True)
class Spoken:
    """An utterance: what was said, what was recognised, by whom; `fields` are those of the manifest."""

    reference: str
    hypothesis: str
    speaker: str | None = "anna"
    fields: Mapping[str, Any] = field(default_factory=dict)


# In the order of the manifest. By number of errors: worst, two, one, right.
SPOKEN = {
    "right": Spoken("ab cd", "ab cd", "bob", {"noise": "none", "snr_db": 20}),
    "one": Spoken("ab cd", "ab cb", "anna", {"noise": "street", "snr_db": 5}),
    "worst": Spoken("a b c d", "b c b a b", "bob", {"noise": "street", "snr_db": 5}),
    "two": Spoken("dd aa", "dd ab ca", "anna", {"noise": "none", "snr_db": 20}),
}


def write_folder(folder: Path, spoken: Mapping[str, Spoken] = SPOKEN, part_s: float = 1.0) -> None:
    """Write a decode folder; recognised words follow each other, each for `part_s`, after 0.5 s of silence."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    write_trn({name: one.reference for name, one in spoken.items()}, folder / "ref.trn")
    write_trn({name: one.hypothesis for name, one in spoken.items()}, folder / "hyp.trn")
    lines, posteriors = [], {}
    for number, (name, one) in enumerate(spoken.items()):
        words = words_of(one.hypothesis)
        path = folder.parent / f"audio{number}.wav"
        duration_s = _write_audio(path, words, part_s, rng)
        confidences = [0.9, 0.5, 0.7]
        times = [
            {
                "text": word,
                "start_s": 0.5 + place * part_s,
                "end_s": 0.5 + (place + 1) * part_s,
                "confidence": confidences[place % 3],
            }
            for place, word in enumerate(words)
        ]
        audio = {"path": str(path), "channels": [0], "start_s": 0.0, "duration_s": duration_s}
        line = {"id": name, "speaker": one.speaker, "duration_s": duration_s, "audio": audio, "fields": one.fields}
        lines.append(json.dumps(line | {"text": one.hypothesis, "words": times}) + "\n")
        posteriors[name] = _peaks(words, duration_s, part_s)
    (folder / "hyp.jsonl").write_text("".join(lines), encoding="utf-8")
    write_posteriors(folder / "posteriors.safetensors", [TOKENS], posteriors)


def _write_audio(path: Path, words: Sequence[str], part_s: float, rng: np.random.Generator) -> float:
    samples = np.zeros(round((1 + len(words) * part_s) * RATE_HZ), np.float32)
    for place, word in enumerate(words):
        spoken = tone_speech("".join(letter for letter in word if letter in "abcd") or "a", rng)
        start = round((0.5 + place * part_s) * RATE_HZ)
        samples[start : start + len(spoken)] = spoken[: len(samples) - start]
    soundfile.write(path, samples, RATE_HZ)
    return len(samples) / RATE_HZ


def _peaks(words: Sequence[str], duration_s: float, part_s: float) -> SparsePosteriors:
    """Return posteriors with a peak for each letter and blanks elsewhere."""
    frames = round(duration_s / TOKENS.frame_shift_s)
    posteriors = np.full((frames, len(TOKENS.tokens)), 1e-6)
    posteriors[:, 0] = 1
    for place, word in enumerate(words):
        for letter, token in enumerate(TOKENS.tokens.index(one) for one in word if one in TOKENS.tokens):
            frame = round((0.5 + place * part_s + 0.1 + 0.15 * letter) / TOKENS.frame_shift_s)
            posteriors[frame, [0, token]] = 0.2, 0.8
    return SparsePosteriors.of(np.log(posteriors).astype(np.float32))
