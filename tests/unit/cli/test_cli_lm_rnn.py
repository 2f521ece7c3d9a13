"""`asr lm rnn`: words by default, a model's tokens with --model."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from asr.bundle.files import RNN_LM, RNN_LM_WEIGHTS
from asr.cli.main import run
from asr.lm.rnnlm import RnnLm
from asr.settings_file import parse_config, save_config
from asr.text.tokens import TokenTable

TINY = ["--set", "hidden_size=8", "--set", "layers=1", "--set", "epochs=1", "--set", "accelerator=cpu"]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["asr", "lm", "rnn", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        run()
    return exit_.value.code


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("One two\nTWO three\n\none one\n" * 10, encoding="utf-8")
    return path


def test_without_a_model_it_reads_words_and_reports_units_and_oovs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: Path, tmp_path: Path
) -> None:
    dev, out = tmp_path / "dev.txt", tmp_path / "out"
    dev.write_text("one four\n", encoding="utf-8")
    assert call(monkeypatch, text, "--dev", dev, "--out", out, *TINY) == 0
    assert RnnLm.load(out / RNN_LM_WEIGHTS).units.symbols == ("</s>", "<unk>", "one", "One", "TWO", "three", "two")
    printed = capsys.readouterr().out
    assert "30 sentences, 90 units" in printed
    assert re.search(r"dev perplexity \d+\.\d+ on 2 words, 1 OOV", printed)
    assert call(monkeypatch, text, "--dev", dev, "--out", out, *TINY) == 1
    assert "--resume" in capsys.readouterr().err


def test_with_a_model_it_predicts_its_tokens_and_writes_into_its_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: Path, tmp_path: Path
) -> None:
    model, tokens = tmp_path / "model", TokenTable.from_texts(["ONE TWO THREE"])
    save_config(parse_config({"text": {"case": "upper"}}, "test"), model / "config.yaml")
    tokens.save(model / "tokens.json")
    assert call(monkeypatch, text, "--model", model, *TINY) == 0
    RnnLm.load(model / RNN_LM).units.require_tokens(tokens)
    assert "29 sentences" in capsys.readouterr().out  # the twentieth is for dev
    text.write_text("one 2\n..\n" + text.read_text().replace("three", "three."))
    save_config(parse_config({"text": {"case": "upper", "remove": "."}}, "test"), model / "config.yaml")
    assert call(monkeypatch, text, "--model", model, "--out", tmp_path / "more", *TINY) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "left out 1 sentence; 'ONE 2': no token for '2'" in printed
    assert "29 sentences" in printed


def test_words_of_a_model_are_in_the_spelling_of_its_transcripts(
    monkeypatch: pytest.MonkeyPatch, text: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    save_config(parse_config({"text": {"case": "upper"}}, "test"), model / "config.yaml")
    TokenTable.from_texts(["ONE TWO THREE"]).save(model / "tokens.json")
    assert call(monkeypatch, text, "--model", model, "--words", *TINY) == 0
    assert RnnLm.load(model / RNN_LM).units.symbols == ("</s>", "<unk>", "ONE", "TWO", "THREE")


def test_without_a_model_there_must_be_a_place_to_write_to(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: Path
) -> None:
    assert call(monkeypatch, text) == 2
    assert "--out" in capsys.readouterr().err
