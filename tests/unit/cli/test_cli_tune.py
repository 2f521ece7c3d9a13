"""`asr tune`: what it refuses. What it finds, tests/integration shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY

from asr.config import load_config
from asr.data.tokens import TokenTable
from asr.model.acoustic import AcousticModel
from asr.model.bundle import ModelBundle

Call = Callable[..., tuple[str | int | None, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exp") / "model"
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["ab cd"])
    ModelBundle(config, tokens, AcousticModel(config, len(tokens)), config.decode).save(folder)
    return folder


def test_what_is_tuned_cannot_be_set_as_well(model: Path, tone_corpus: Path, call: Call) -> None:
    status, _, err = call(
        "tune", model, tone_corpus / "dev.jsonl.gz", "--set", "beam_size=4", "--set", "blank_skip=0.9"
    )
    assert status == 2
    assert "beam_size" in err
    assert "blank_skip" not in err


@pytest.mark.parametrize(("given", "command"), [((), "asr lm ngram"), (("--set", "lm=words"), "--words")])
def test_a_model_without_the_language_model_is_an_error_that_says_how_to_get_it_before_the_network_runs(
    model: Path,
    tone_corpus: Path,
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, ...],
    command: str,
) -> None:
    monkeypatch.setattr("asr.inference.dev_search.run_network", lambda *_: pytest.fail("the network ran"))
    before = (model / "decoder.yaml").read_text()
    status, _, err = call("tune", model, tone_corpus / "dev.jsonl.gz", *given)
    assert status == 1
    assert command in err
    assert (model / "decoder.yaml").read_text() == before
