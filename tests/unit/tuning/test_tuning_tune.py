"""`asr.tune` writes what it chose into the model folder; log-posteriors are given, so no network is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY

import asr
from asr.bundle.bundle import ModelBundle
from asr.bundle.files import LANGUAGE_MODEL
from asr.bundle.settings import load_calibration, load_decode_settings
from asr.lm.arpa import write_arpa
from asr.lm.estimate import token_ngram
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.tuning.dev_search import DevBatch

TEXTS = ["ab cd", "ab ab", "dc"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder with an n-gram; what the network hears leans towards the transcripts, but not enough."""
    config, tokens = load_config(None, [*TINY, "decode.lm_order=3"]), TokenTable.from_texts(TEXTS)
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(tmp_path / "model")
    write_arpa(token_ngram(TEXTS, tokens, 3), tmp_path / "model" / LANGUAGE_MODEL)
    frames = [[frame for token in tokens.encode(text) for frame in (token, 0)] for text in TEXTS]
    scores = torch.randn(len(TEXTS), max(map(len, frames)), len(tokens), generator=torch.Generator().manual_seed(5))
    for row, path in enumerate(frames):
        scores[row, range(len(path)), path] += 1.6
    heard = DevBatch(TEXTS, scores.log_softmax(-1), torch.tensor([len(path) for path in frames]))
    monkeypatch.setattr("asr.tuning.tune.run_network", lambda *_: iter([heard]))
    return tmp_path / "model"


def test_what_is_chosen_is_written_into_the_folder_and_reported(model: Path, tone_corpus: Path) -> None:
    report = asr.tune(model, str(tone_corpus / "dev.jsonl.gz"), decode={"blank_skip": 0.9})
    assert report.folder == model
    assert report.words == 5
    assert load_decode_settings(model) == report.choice.best
    assert yaml.safe_load((model / "decoder.yaml").read_text())["blank_skip"] == 0.9
    assert report.choice.best.lm_order == 3
    assert load_calibration(model) == report.calibration
    assert asr.load(model).decoder.bundle.calibration == report.calibration
    trials = json.loads((model / "tune.json").read_text())["trials"]
    assert report.wer in [trial["wer"] for trial in trials]
    without = [trial for trial in trials if (trial["lm_weight"], trial["insertion_bonus"]) == (0, 0)]
    assert report.wer_without_lm in [trial["wer"] for trial in without]
    assert min(trial["wer"] for trial in trials) <= report.wer <= report.wer_without_lm
    assert report.confidences is not None
    assert 0 <= report.confidences.ece <= 1
    assert (model / "tune.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_chosen_cannot_be_given(model: Path, tone_corpus: Path) -> None:
    before = (model / "decoder.yaml").read_text()
    with pytest.raises(asr.ConfigError, match=r"decode: lm_weight, beam_size: this is what tune chooses"):
        asr.tune(model, tone_corpus / "dev.jsonl.gz", decode={"beam_size": 4, "lm_weight": 0.3})
    assert (model / "decoder.yaml").read_text() == before
