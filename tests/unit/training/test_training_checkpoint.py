"""What a checkpoint holds is checked: a wrong value is named, a bit that changed is noticed."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from conftest import TINY
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from asr.errors import ModelError
from asr.settings_file import load_config
from asr.training.checkpoint import find_checkpoint
from asr.training.trainer import training_reports

SETTINGS = [*TINY, "training.epochs=1"]


def run(settings, corpus: Path, out: Path, *, resume: bool = False) -> list:
    return list(training_reports(load_config(None, settings), corpus, out, resume=resume))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda tensors, run: tensors["model.output.bias"].fill_(math.nan),
            "model.output.bias holds numbers that are not",
        ),
        (
            lambda tensors, run: tensors["model.output.bias"].resize_(1),
            r"model.output.bias has the shape \(1,\), \(\d+,\)",
        ),
        (lambda tensors, run: tensors.update({"model.output.bias": torch.zeros(6, dtype=torch.int64)}), "(shape|type)"),
        (lambda tensors, run: tensors.pop("average.output.bias"), "average.output.bias is missing"),
        (lambda tensors, run: tensors.pop("optimizer.0.exp_avg"), "optimizer.0.exp_avg is missing"),
        (lambda tensors, run: tensors.update({"optimizer.x.step": torch.zeros(())}), "'optimizer.x.step' is no tensor"),
        (lambda tensors, run: tensors["optimizer.0.exp_avg_sq"].fill_(-1), "counts steps or squares below 0"),
        (lambda tensors, run: run["state"].update(epoch=-1), "state: -1 is no number from 0 on"),
        (lambda tensors, run: run["state"].update(step="7"), "state: step: '7' is not a whole number"),
        (
            lambda tensors, run: run["state"].update(dev_scores=[0.5] * 9, improved=[True] * 9),
            "9 dev scores of 1 epochs",
        ),
        (lambda tensors, run: run["facts"].update(tokens=None), "facts.tokens: null is not a list"),
        (lambda tensors, run: run.pop("facts"), "facts is missing"),
    ],
)
def test_a_wrong_value_of_a_checkpoint_is_named(
    tone_corpus: Path, tmp_path: Path, one_epoch: Path, change, reason
) -> None:
    shutil.copytree(one_epoch, tmp_path / "out")
    path = tmp_path / "out" / "checkpoints" / "last.safetensors"
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["run"])
    tensors = load_file(path)
    change(tensors, header)
    del header["crc32"]
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"run": json.dumps(header)}
    )
    with pytest.raises(ModelError, match=rf"last\.safetensors: .*{reason}"):
        run(SETTINGS, tone_corpus, tmp_path / "out", resume=True)


def test_a_bit_that_changed_in_a_checkpoint_is_noticed_and_the_run_goes_on_from_the_one_before(
    tone_corpus: Path, tmp_path: Path, one_epoch: Path
) -> None:
    shutil.copytree(one_epoch, tmp_path / "out")
    last, previous = (tmp_path / "out" / "checkpoints" / f"{name}.safetensors" for name in ("last", "previous"))
    shutil.copy(last, previous)
    data = bytearray(last.read_bytes())
    data[-9] ^= 1
    last.write_bytes(data)
    found, damage = find_checkpoint(last.parent)
    assert found == previous
    assert damage == f"{last}: not a readable checkpoint (its checksum is wrong)"


@pytest.fixture(scope="module")
def one_epoch(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one epoch, with its last checkpoint only."""
    out = tmp_path_factory.mktemp("one_epoch") / "out"
    run(SETTINGS, tone_corpus, out)
    (out / "checkpoints" / "previous.safetensors").unlink(missing_ok=True)
    return out
