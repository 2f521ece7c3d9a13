import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY

from asr.bundle.bundle import ModelBundle
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.training import diagnostics


@pytest.fixture
def model_dir(tmp_path: Path) -> Path:
    config = load_config(None, [*TINY, "model.layers=2"])
    tokens = TokenTable.from_texts(["abcd "])
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(tmp_path / "model")
    return tmp_path / "model"


def test_a_table_a_picture_and_json_come_out(
    succeed: Callable[..., str], model_dir: Path, tone_corpus: Path, tmp_path: Path
) -> None:
    lines = succeed("diagnose", model_dir, "--data", tone_corpus, "--out", tmp_path / "out").splitlines()
    rows = [line for line in lines if re.match(r" [12] (forward|backward)", line)]
    assert len(rows) == 8  # two layers, two directions, fresh and trained
    assert len({len(line) for line in [lines[0], *rows]}) == 1  # aligned
    assert len(rows[0]) <= 80
    assert lines[-1] == f"picture  {tmp_path / 'out' / 'diagnosis.png'}"
    values = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert values["cell"] == "lstm"
    assert all(name.startswith("dev-") for name in values["utterances"])
    assert f"halves in {values['trained'][3]['half_life_frames']:.1f}" in rows[7]
    assert rows[7].endswith(f" {values['trained'][3]['whole']:.1e}")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"diagnosis.png", "diagnosis.json"}


def test_without_data_the_network_hears_noise_and_the_model_folder_takes_the_files(
    succeed: Callable[..., str], model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "UTTERANCES", 2)
    succeed("diagnose", model_dir)
    values = json.loads((model_dir / "diagnosis.json").read_text())
    assert values["utterances"] == ["noise-0", "noise-1"]
    assert (model_dir / "diagnosis.png").is_file()
