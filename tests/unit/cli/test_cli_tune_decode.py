"""`asr tune` and `asr decode`: what they refuse. What they find, tests/integration shows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY

from asr.bundle.bundle import ModelBundle
from asr.corpus.manifest import read_manifest, write_manifest
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable

Call = Callable[..., tuple[str | int | None, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exp") / "model"
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["ab cd"])
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(folder)
    return folder


def test_what_is_tuned_cannot_be_set_as_well(model: Path, tone_corpus: Path, call: Call) -> None:
    status, _, err = call(
        "tune", model, tone_corpus / "dev.jsonl.gz", "--set", "lm_weight=0.4", "--set", "blank_skip=0.9"
    )
    assert status == 2
    assert "lm_weight" in err
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
    monkeypatch.setattr("asr.tuning.tune.run_network", lambda *_: pytest.fail("the network ran"))
    before = (model / "decoder.yaml").read_text()
    status, _, err = call("tune", model, tone_corpus / "dev.jsonl.gz", *given)
    assert status == 1
    assert command in err
    assert (model / "decoder.yaml").read_text() == before


def test_without_a_word_on_dev_nothing_is_chosen(model: Path, tone_corpus: Path, tmp_path: Path, call: Call) -> None:
    cuts = list(read_manifest(tone_corpus / "dev.jsonl.gz"))
    for cut in cuts:
        cut.supervisions[0].text = " "
    write_manifest(cuts, tmp_path / "dev.jsonl.gz")
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    assert call("lm", "ngram", tone_corpus / "train.jsonl.gz", "--model", folder)[0] == 0
    before = (folder / "decoder.yaml").read_text()
    status, _, err = call("tune", folder, tmp_path / "dev.jsonl.gz")
    assert status == 1
    assert "no transcript holds a word" in err
    assert (folder / "decoder.yaml").read_text() == before


def test_an_id_that_no_trn_file_holds_is_refused_before_decoding(
    model: Path, tone_corpus: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.inference.decode_corpus.decode_cuts", lambda *_: pytest.fail("it was decoded"))
    cuts = [cut.with_id(f"talk ({n})") for n, cut in enumerate(read_manifest(tone_corpus / "dev.jsonl.gz"))]
    write_manifest(cuts, tmp_path / "dev.jsonl.gz")
    status, _, err = call("decode", model, tmp_path / "dev.jsonl.gz", "--out", tmp_path / "decode_dev")
    assert status == 1
    assert "'talk (0)' cannot be written to a trn file" in " ".join(err.split())
    assert not (tmp_path / "decode_dev").exists()
