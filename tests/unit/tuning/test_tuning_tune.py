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
from asr.scoring.expected_errors import ExpectedErrors
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.tuning.dev_search import DevBatch, UtteranceFigures
from asr.tuning.tune import _dev_set, _measured

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
    heard = DevBatch(["a", "b", "c"], TEXTS, scores.log_softmax(-1), torch.tensor([len(path) for path in frames]))
    monkeypatch.setattr("asr.tuning.tune.run_network", lambda *_: iter([heard]))
    return tmp_path / "model"


def test_what_is_chosen_is_written_into_the_folder_and_reported(model: Path, tone_corpus: Path) -> None:
    report = asr.tune(model, str(tone_corpus / "dev.jsonl.gz"), decode={"blank_skip": 0.9})
    assert report.folder == model
    assert (report.choice.dev.length, report.choice.dev.unit, report.choice.dev.drawn) == (5, "word", "utterances")
    assert load_decode_settings(model) == report.choice.best
    assert yaml.safe_load((model / "decoder.yaml").read_text())["blank_skip"] == 0.9
    assert report.choice.best.lm_order == 3
    assert load_calibration(model) == report.calibration
    assert asr.load(model).decoder.bundle.calibration == report.calibration
    assert ExpectedErrors.load(model) == report.expected_errors
    assert report.expected_errors is not None
    assert report.expected_errors.dev_words == 5
    assert report.expected_errors.dev_errors == round(5 * report.rate)
    trials = json.loads((model / "tune.json").read_text())["trials"]
    assert report.rate in [trial["wer"] for trial in trials]
    without = [trial for trial in trials if (trial["lm_weight"], trial["insertion_bonus"]) == (0, 0)]
    assert report.rate_without_lm in [trial["wer"] for trial in without]
    assert min(trial["wer"] for trial in trials) <= report.rate <= report.rate_without_lm
    assert report.confidences is not None
    assert 0 <= report.confidences.ece <= 1
    assert (model / "tune.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_chosen_cannot_be_given(model: Path, tone_corpus: Path) -> None:
    before = (model / "decoder.yaml").read_text()
    with pytest.raises(asr.ConfigError, match=r"decode: lm_weight: this is what tune chooses"):
        asr.tune(model, tone_corpus / "dev.jsonl.gz", decode={"beam_size": 4, "lm_weight": 0.3})
    assert (model / "decoder.yaml").read_text() == before


def test_speakers_are_drawn_where_five_are_known_and_characters_counted_where_words_are_sentences() -> None:
    references = ["天 地", "天", "地", "天地", "地 天", "天天"]
    batches = [
        DevBatch(list("abc"), references[:3], torch.zeros(3, 1, 3), torch.ones(3)),
        DevBatch(list("def"), references[3:], torch.zeros(3, 1, 3), torch.ones(3)),
    ]
    speakers = {"a": "s1", "b": "s2", "c": "s3", "d": "s4", "e": "s5", "f": "s2"}
    dev, group_of = _dev_set(batches, speakers)
    assert (dev.unit, dev.drawn, dev.length) == ("character", "speakers", 12)
    assert dev.lengths.tolist() == [3, 3, 1, 2, 3]
    assert group_of.tolist() == [0, 1, 2, 3, 4, 1]
    figures = [UtteranceFigures(n, 0.5 * n) for n in range(6)]
    errors, losses = _measured(figures, group_of)
    assert (errors, losses.tolist()) == (15, [0.0, 3.0, 1.0, 1.5, 2.0])
    dev, _ = _dev_set(batches, {**speakers, "e": "s1"})
    assert (dev.drawn, dev.lengths.tolist()) == ("utterances", [3, 1, 1, 2, 3, 2])
