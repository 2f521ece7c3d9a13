"""`asr.check` with a model: transcripts that are probably wrong, by hand-worked posteriors."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import syllables

import asr
from asr.config import Config
from asr.corpus.check import check_cuts
from asr.corpus.limits import training_limits
from asr.corpus.manifest import make_cut
from asr.errors import ConfigError
from asr.inference.check_corpus import wrong_transcripts
from asr.text.tokens import TokenTable

TABLE = TokenTable.from_texts(["abc"])
HEARD = "ab"
SURE = 0.9


def posteriors() -> torch.Tensor:
    """Ten frames: blank, a, blank, b, blank …, each with probability 0.9; the other tokens share the rest."""
    path = [0, TABLE.encode("a")[0], 0, TABLE.encode("b")[0], *[0] * 6]
    table = torch.full((len(path), len(TABLE)), (1 - SURE) / (len(TABLE) - 1))
    table[range(len(path)), path] = SURE
    return table.log()


def decoder() -> Any:
    def look_up(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rows = len(batch.lengths)
        return posteriors().expand(rows, -1, -1), torch.full((rows,), 10)

    bundle = SimpleNamespace(config=Config(), tokens=TABLE)
    return SimpleNamespace(bundle=bundle, log_posteriors=look_up)


def found(tmp_path: Path, rng: np.random.Generator, texts: dict[str, str]) -> list[Any]:
    soundfile.write(tmp_path / "a.wav", syllables(rng, 1.0, 16000), 16000)
    cuts = [make_cut(name, tmp_path / "a.wav", text, "anna") for name, text in texts.items()]
    report = check_cuts({"train": cuts}, training_limits(Config()))
    return wrong_transcripts(decoder(), {"train": cuts}, report)


def test_wrong_transcripts_are_named_worst_first_with_what_is_heard(tmp_path: Path, rng: np.random.Generator) -> None:
    right = {f"right-{place}": HEARD for place in range(20)}
    findings = found(tmp_path, rng, {"c": "c", **right, "cc": "ccc", "unknown": "xyz", "empty": ""})
    assert {(finding.name, finding.place) for finding in findings} == {("c", 0), ("cc", 21)}
    assert {finding.kind for finding in findings} == {"wrong-transcript"}
    assert findings[0].value > findings[1].value
    assert "'ab'" in findings[0].reason


def test_the_distance_is_the_difference_of_log_probabilities_by_token(tmp_path: Path, rng: np.random.Generator) -> None:
    """By brute force: all paths of ten frames that spell a text."""
    right = {f"right-{place}": HEARD for place in range(20)}
    (finding,) = found(tmp_path, rng, {**right, "c": "c"})

    def probability(text: str) -> float:
        table = posteriors().exp().double().tolist()
        tokens = TABLE.encode(text)
        states = {(0, 0): 1.0}  # tokens spelled, last symbol of the path
        for frame in table:
            following: dict[tuple[int, int], float] = {}
            for (spelled, last), mass in states.items():
                for symbol, share in enumerate(frame):
                    adds = symbol not in (0, last)
                    if adds and (spelled == len(tokens) or tokens[spelled] != symbol):
                        continue
                    key = (spelled + adds, symbol)
                    following[key] = following.get(key, 0.0) + mass * share
            states = following
        return sum(mass for (spelled, _), mass in states.items() if spelled == len(tokens))

    expected = (math.log(probability(HEARD)) - math.log(probability("c"))) / 2  # of the longer text's two tokens
    assert finding.value == pytest.approx(expected, rel=1e-5)


def test_a_model_that_fits_no_transcript_accuses_nobody(tmp_path: Path, rng: np.random.Generator) -> None:
    texts = {f"u{place}": text for place, text in enumerate(["c", "cc", "cac", "bcb", "ccb", "ba", "bb", "acb"] * 4)}
    findings = found(tmp_path, rng, texts)
    assert len(findings) < len(texts) / 4


def test_a_kind_that_does_not_exist_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'cliped'; known: unreadable-audio"):
        asr.check(tmp_path, keep=["clipped", "cliped"])
