"""How often a training step waits for the GPU: once, at its end, for its losses and norms. And its benchmark."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from conftest import TINY
from pretend_gpu import READ, PretendFabric, on_gpu, pretend_gpu

from asr.bundle.bundle import ModelBundle
from asr.corpus.manifest import read_manifest
from asr.features.batching import training_batches
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.training.checkpoint import RunState
from asr.training.distill import DistillTeachers
from asr.training.loop import Requests
from asr.training.reports import StepReport
from asr.training.run import Run
from asr.training.step import WeightAverage, parameter_groups
from asr.training.trainer import AcousticTraining

NETWORKS = {
    "bidirectional": ["model.layers=3", "training.micro_batch_s=4"],
    "one view at one tempo": ["model.rnn=gru", "training.consistency_weight=0", "augment.tempos=[1]"],
    "one direction in windows": ["model.bidirectional=false", "model.lookahead_frames=3", "training.bptt_frames=8"],
    "global moments": ["model.bidirectional=false", "features.cmvn=global", "model.rnn=tanh"],
    "distilled": ["model.layers=2", "training.teacher_weight=1"],
    "conformer": ["model.encoder=conformer", "model.layers=2"],
}


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_waits_for_the_gpu_once(network: str, tone_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(None, [*TINY, *NETWORKS[network]])
    tokens = TokenTable.from_texts([" abcd"])
    batch, *_ = training_batches(read_manifest(tone_corpus / "train.jsonl.gz"), tokens, config, epoch=0)
    assert (len(batch.pieces) > 1) == ("training.micro_batch_s=4" in NETWORKS[network])
    network_on_host = AcousticModel(config, len(tokens)).train()
    teacher_on_host = AcousticModel(config, len(tokens)).eval()
    with pretend_gpu(monkeypatch) as waits:
        model: Any = on_gpu(network_on_host)
        optimizer = torch.optim.AdamW(parameter_groups(model, 0.01), lr=0.0, betas=(0.9, 0.98), fused=True)
        fabric: Any = PretendFabric(model)
        average = WeightAverage(model, config.training.ema_decay)
        run = Run(fabric, model, model, average, optimizer, RunState(), {}, tone_corpus)
        data: Any = SimpleNamespace(survey=SimpleNamespace(utterances=96))
        teachers = DistillTeachers((ModelBundle(config, tokens, cast(Any, on_gpu(teacher_on_host))),))
        taught_by = teachers if network == "distilled" else None
        training = AcousticTraining(run, config, data, tone_corpus, teachers=taught_by)
        waits.clear()
        report, _ = training.take_step(batch, Requests(300))
        assert isinstance(report, StepReport)
        assert report.clipped
        assert report.loss == READ
        assert waits == {"read": 1}


def test_lengths_that_the_host_does_not_know_are_read_once_for_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(None, [*TINY, "model.layers=4"])
    network_on_host = AcousticModel(config, 7).eval()
    with pretend_gpu(monkeypatch) as waits, torch.inference_mode():
        model = on_gpu(network_on_host)
        waits.clear()
        model(torch.empty(2, 16000 * 9, device="cuda"), torch.empty(2, dtype=torch.int64, device="cuda"))
        assert waits == {"read": 1}


def test_the_count_sees_every_way_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretend_gpu(monkeypatch) as waits:
        tensor = torch.empty(3, device="cuda")
        for wait, kind in (
            (lambda: int(tensor.max()), "read"),
            (lambda: tensor.tolist(), "read"),
            (lambda: bool(tensor.sum() > 0), "read"),
            (lambda: tensor.cpu(), "to the host"),
            (lambda: torch.tensor([1.0, 2.0], device="cuda"), "to the GPU"),
            (lambda: torch.empty(3).to("cuda"), "to the GPU"),
            (lambda: tensor.copy_(torch.empty(3)), "to the GPU"),
        ):
            waits.clear()
            wait()
            assert waits == {kind: 1}
        waits.clear()
        torch.empty(3).to("cuda", non_blocking=True)
        torch.full((), 2.0, device="cuda")
        tensor[1].fill_(3.0)
        assert not waits


def gpu_benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[3]
    command = [sys.executable, str(root / "benchmarks" / "gpu.py"), *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_the_benchmark_of_the_gpu_runs_on_the_cpu_too() -> None:
    done = gpu_benchmark("--device", "cpu", "--short")
    assert done.returncode == 0, done.stdout + done.stderr
    sections = [line.removeprefix("== ") for line in done.stdout.splitlines() if line.startswith("== ")]
    assert sections == ["agreement", "step", "search", "loading", "quickstart", "tests"]
    assert done.stdout.endswith("all ok\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmark_of_the_gpu_says_in_one_line_that_there_is_none() -> None:
    done = gpu_benchmark()
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "no CUDA device" in done.stderr
