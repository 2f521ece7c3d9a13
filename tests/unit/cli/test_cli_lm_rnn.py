"""`asr lm rnn`: words by default, a model's tokens with --model."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from asr.bundle.files import RNN_LM, RNN_LM_WEIGHTS
from asr.lm.rnnlm import RnnLm
from asr.settings_file import parse_config, save_config
from asr.text.tokens import TokenTable

Train = Callable[..., tuple[str | int | None, str, str]]
TINY = ["--set", "hidden_size=8", "--set", "layers=1", "--set", "epochs=1", "--set", "accelerator=cpu"]


@pytest.fixture
def train(call: Train) -> Train:
    """Run `asr lm rnn` with arguments; return exit status, stdout and stderr."""
    return partial(call, "lm", "rnn")


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("One two\nTWO three\n\none one\n" * 10, encoding="utf-8")
    return path


def test_without_a_model_it_reads_words_and_reports_units_and_oovs(train: Train, text: Path, tmp_path: Path) -> None:
    dev, out = tmp_path / "dev.txt", tmp_path / "out"
    dev.write_text("one four\n", encoding="utf-8")
    status, printed, _ = train(text, "--dev", dev, "--out", out, *TINY)
    assert status == 0
    assert RnnLm.load(out / RNN_LM_WEIGHTS).units.symbols == ("</s>", "<unk>", "one", "One", "TWO", "three", "two")
    assert "30 sentences, 90 units" in printed
    assert re.search(
        r"^dev       2 words, 1 OOV\nepoch   1/1  .* dev perplexity +\d+\.\d\d \*  +\d+\.\d s  ▁$", printed, re.M
    )
    status, _, err = train(text, "--dev", dev, "--out", out, *TINY)
    assert status == 1
    assert "--resume" in err


def test_with_a_model_it_predicts_its_tokens_and_writes_into_its_folder(
    train: Train, text: Path, tmp_path: Path
) -> None:
    model, tokens = tmp_path / "model", TokenTable.from_texts(["ONE TWO THREE"])
    save_config(parse_config({"text": {"case": "upper"}}, "test"), model / "config.yaml")
    tokens.save(model / "tokens.json")
    status, printed, _ = train(text, "--model", model, *TINY)
    assert status == 0
    RnnLm.load(model / RNN_LM).units.require_tokens(tokens)
    assert "29 sentences" in printed  # the twentieth is for dev
    text.write_text("one 2\n..\n" + text.read_text().replace("three", "three."))
    save_config(parse_config({"text": {"case": "upper", "remove": "."}}, "test"), model / "config.yaml")
    status, printed, _ = train(text, "--model", model, "--out", tmp_path / "more", *TINY)
    assert status == 0
    printed = " ".join(printed.split())
    assert "left out 1 sentence; 'ONE 2': no token for '2'" in printed
    assert "29 sentences" in printed


def test_words_of_a_model_are_in_the_spelling_of_its_transcripts(train: Train, text: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    save_config(parse_config({"text": {"case": "upper"}}, "test"), model / "config.yaml")
    TokenTable.from_texts(["ONE TWO THREE"]).save(model / "tokens.json")
    assert train(text, "--model", model, "--words", *TINY)[0] == 0
    assert RnnLm.load(model / RNN_LM).units.symbols == ("</s>", "<unk>", "ONE", "TWO", "THREE")


def test_without_a_model_there_must_be_a_place_to_write_to(train: Train, text: Path) -> None:
    status, _, err = train(text)
    assert status == 2
    assert "--out" in err
