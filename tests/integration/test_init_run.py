"""Speech of two languages that no recipe knows → table → manifests → `asr.init` → `asr.run_recipe`, nothing edited.

The training is short, so that no figure means anything. `benchmarks/init_corpora.py` makes the whole corpora.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
from conftest import TINY

import asr

pytest.importorskip("espeakng_loader", reason="the speech engine is not installed: pip install '.[quickstart]'")
sys.path.append(str(Path(asr.__file__).parents[1] / "benchmarks"))  # last: names of tests come first
corpora = importlib.import_module("init_corpora")


@pytest.mark.parametrize(
    ("language", "rate_hz", "last_stage", "figures"),
    [("ru", 16000, "train", []), ("cmn", 8000, "score", ["CER", "WER"])],
)
def test_a_table_of_recordings_becomes_a_model_without_an_edited_file(
    tmp_path: Path, language: str, rate_hz: int, last_stage: str, figures: list[str]
) -> None:
    table = corpora.make_corpus(language, tmp_path / "corpus", minutes=0.7, variants=("f1", "f2", "m1", "m2"))
    asr.import_csv(table, out=tmp_path / "manifests", split=asr.SplitRule(dev_share=0.2, test_share=0.2))
    report = asr.init(language, tmp_path / "manifests", home=tmp_path)
    assert report.config.features.sample_rate_hz == rate_hz
    shown: list[str] = []
    done = asr.run_recipe(
        language,
        home=tmp_path,
        overrides=[*TINY, "training.epochs=1"],
        last_stage=last_stage,
        on_event=lambda event: shown.append(event.text),
    )
    assert done.stopped is None
    assert done.model == tmp_path / "exp" / language
    tokens = json.loads((done.model / "tokens.json").read_text(encoding="utf-8"))["symbols"]
    assert tokens[1:] == sorted(report.characters)
    rates = [line for line in "".join(shown).splitlines() if line[:4] in ("WER ", "CER ") and " … " in line]
    scored = [line.split()[0] for line in rates]
    assert scored == figures * 2, "the CER is first where words are not written apart"
