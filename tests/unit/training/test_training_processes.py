"""Several processes and accumulated pieces make the same steps as one process with the whole batch."""

import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from training_runs import assert_close

from asr.errors import TrainingError
from asr.settings_file import load_config
from asr.training.engine import launched_processes, make_fabric
from asr.training.trainer import training_reports

# Without dropout: its draws depend on how the batch is shared out.
SETTINGS = [*TINY, "training.epochs=2", "model.dropout=0", "training.learning_rate=1e-3"]


def run(overrides: list[str], corpus: Path, out: Path, *, resume: bool = False) -> None:
    for _ in training_reports(load_config(None, overrides), corpus, out, resume=resume):
        pass


def torchrun(overrides: list[str], corpus: Path, out: Path, *, resume: bool = False) -> str:
    options = [part for override in overrides for part in ("--set", override)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "asr"]
    command += ["train", "--data", str(corpus), "--out", str(out), *options, *(["--resume"] if resume else [])]
    child = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80", "OMP_NUM_THREADS": "1"}, timeout=300
    )
    assert child.returncode == 0, child.stderr[-3000:]
    return child.stdout


def test_two_processes_make_the_weights_of_one_and_resume_each_others_runs(tone_corpus: Path, tmp_path: Path) -> None:
    run(SETTINGS, tone_corpus, tmp_path / "one")
    # In pieces of 3 s one process has more of them than the other now and then.
    shown = torchrun([*SETTINGS, "training.micro_batch_s=3"], tone_corpus, tmp_path / "two")
    assert "shared    by 2 processes" in shown
    assert shown.count("epoch   1/2") == 1, "one process speaks"
    assert_close(tmp_path / "one", tmp_path / "two")

    list(
        itertools.islice(
            training_reports(
                load_config(None, [*SETTINGS, "training.checkpoint_every_s=0"]), tone_corpus, tmp_path / "begun"
            ),
            8,
        )
    )
    shown = torchrun(SETTINGS, tone_corpus, tmp_path / "begun", resume=True)
    assert "resumed   after step 6, in epoch 1" in shown
    assert_close(tmp_path / "one", tmp_path / "begun")

    (tmp_path / "two" / "checkpoints" / "last.safetensors").unlink()  # back to what both wrote after the first epoch
    run(SETTINGS, tone_corpus, tmp_path / "two", resume=True)
    assert_close(tmp_path / "one", tmp_path / "two")


def test_the_communication_of_processes_ends_before_python_does(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import atexit, os, sys, torch\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from asr.settings_file import load_config\n"
        "from asr.training.engine import make_fabric\n"
        "def say(*words): os.write(1, (' '.join(map(str, words)) + '\\n').encode())\n"  # a line stays whole
        "atexit.register(lambda: say('alive at the end:', torch.distributed.is_initialized()))\n"  # runs last
        "fabric = make_fabric(load_config(None, ['training.accelerator=cpu']).training)\n"
        "say('sum:', int(fabric.all_reduce(torch.ones(()), reduce_op='sum')))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(done.stdout.splitlines()) == ["alive at the end: False"] * 2 + ["sum: 2"] * 2


def test_accumulated_pieces_make_the_weights_of_the_whole_batch(tone_corpus: Path, tmp_path: Path) -> None:
    run(SETTINGS, tone_corpus, tmp_path / "whole")
    run([*SETTINGS, "training.micro_batch_s=3"], tone_corpus, tmp_path / "pieces")
    assert_close(tmp_path / "whole", tmp_path / "pieces")


SRUN = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (LightningEnvironment, 1, 1)),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "2"}, (TorchElasticEnvironment, 2, 3)),
        (SRUN, (SLURMEnvironment, 4, 2)),
        (SRUN | {"SLURM_JOB_NAME": "bash"}, (SLURMEnvironment, 4, 2)),  # srun within an interactive allocation
        # Inside an allocation, but not started by srun.
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8"}, (LightningEnvironment, 1, 1)),
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}, (LightningEnvironment, 1, 1)),
    ],
)
def test_the_launchers_variables_tell_processes_and_machines(
    environment: dict[str, str], expected: tuple[type, int, int]
) -> None:
    assert launched_processes(environment) == expected


def test_inside_a_slurm_allocation_a_process_started_by_hand_trains_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_JOB_NAME": "train"}.items():
        monkeypatch.setenv(name, value)
    fabric = make_fabric(load_config(None, ["training.accelerator=cpu"]).training)
    assert (fabric.world_size, fabric.global_rank) == (1, 0)


def test_within_an_interactive_allocation_a_process_of_srun_is_one_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    class Engine:
        def __init__(self, **options: object) -> None:
            told.update(options)

        def launch(self) -> None: ...

    monkeypatch.setattr("asr.training.engine.Fabric", Engine)
    for name, value in (SRUN | {"SLURM_JOB_NAME": "interactive", "SLURM_PROCID": "5"}).items():
        monkeypatch.setenv(name, value)
    make_fabric(load_config(None, ["training.accelerator=cpu"]).training)
    launcher, _ = told["plugins"]
    assert isinstance(launcher, SLURMEnvironment)
    assert (told["devices"], told["num_nodes"], launcher.global_rank()) == (4, 2, 5)


def test_what_slurm_should_have_been_told_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}
    for name, value in (step | {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train"}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match=r"2 processes on each of 1 machines: .*--ntasks-per-node"):
        make_fabric(load_config(None, ["training.accelerator=cpu"]).training)
