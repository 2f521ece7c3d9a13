"""Training on a CUDA device does what training on the CPU does."""

import itertools
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import soundfile
import torch
from conftest import LEARNS_FAST, TINY

import asr
from asr.settings_file import load_config
from asr.training.reports import EpochReport, RunStart, StepReport
from asr.training.trainer import training_reports

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def run(corpus: Path, out: Path, *overrides: str, resume: bool = False) -> list:
    return list(training_reports(load_config(None, [*TINY, *overrides]), corpus, out, resume=resume))


def test_the_first_steps_have_the_losses_of_the_cpu(tone_corpus: Path, tmp_path: Path) -> None:
    settings = ["training.epochs=1", "model.dropout=0", "model.layers=2"]
    losses = {}
    for device in ("cpu", "cuda"):
        reports = run(tone_corpus, tmp_path / device, *settings, f"training.accelerator={device}")
        losses[device] = torch.tensor([report.loss for report in reports if isinstance(report, StepReport)])
    torch.testing.assert_close(losses["cuda"], losses["cpu"], rtol=1e-2, atol=0)


def step_losses(reports: list) -> torch.Tensor:
    return torch.tensor([report.loss for report in reports if isinstance(report, StepReport)])


NETWORKS = {
    "bfloat16": ["training.precision=bf16"],
    "micro-batches": ["training.micro_batch_s=4"],
    "windows": ["model.bidirectional=false", "model.lookahead_frames=2", "training.bptt_frames=8"],
    "global moments": ["model.bidirectional=false", "features.cmvn=global", "model.rnn=gru"],
    "conformer": ["model.encoder=conformer"],
    "one view": ["training.consistency_weight=0", "training.intermediate_weight=0", "model.rnn=relu"],
}


@pytest.mark.parametrize("network", NETWORKS)
def test_every_kind_of_step_has_the_losses_of_the_cpu(network: str, tone_corpus: Path, tmp_path: Path) -> None:
    settings = ["training.epochs=1", "model.dropout=0", "model.layers=2", *NETWORKS[network]]
    on_cpu, on_gpu = (
        step_losses(run(tone_corpus, tmp_path / device, *settings, f"training.accelerator={device}"))
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(on_gpu, on_cpu, rtol=5e-2 if network == "bfloat16" else 1e-2, atol=0)


def test_a_run_that_is_resumed_on_the_gpu_has_the_losses_of_one_that_was_not(tone_corpus: Path, tmp_path: Path) -> None:
    settings = ["training.epochs=2", "training.accelerator=cuda", "training.checkpoint_every_s=0"]
    whole = step_losses(run(tone_corpus, tmp_path / "whole", *settings))
    config = load_config(None, [*TINY, *settings])
    begun = step_losses(list(itertools.islice(training_reports(config, tone_corpus, tmp_path / "resumed"), 9)))
    start, *rest = run(tone_corpus, tmp_path / "resumed", *settings, resume=True)
    assert start.resumed_at_step == len(begun) - 1  # the last report came before its checkpoint
    resumed = torch.cat([begun[: start.resumed_at_step], step_losses(rest)])
    torch.testing.assert_close(resumed, whole, rtol=1e-2, atol=0)  # with dropout, which is drawn on the GPU


def test_how_often_a_step_waits_for_the_gpu_does_not_depend_on_the_number_of_layers(
    tone_corpus: Path, tmp_path: Path
) -> None:
    def waits(layers: int) -> int:
        settings = ["training.accelerator=cuda", f"model.layers={layers}", "training.intermediate_weight=0.3"]
        config = load_config(None, [*TINY, *settings])
        reports = training_reports(config, tone_corpus, tmp_path / f"{layers}")
        list(itertools.islice(reports, 4))
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                next(reports)
        finally:
            torch.cuda.set_sync_debug_mode("default")
            reports.close()
        return sum("synchronizing" in str(warning.message) for warning in caught)

    assert 1 <= waits(2) == waits(5)


def test_processes_of_torchrun_have_the_losses_of_one(tone_corpus: Path, tmp_path: Path) -> None:
    processes = min(2, torch.cuda.device_count())
    settings = ["training.epochs=1", "training.accelerator=cuda", "model.dropout=0"]
    run(tone_corpus, tmp_path / "one", *settings)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    overrides = [part for setting in (*TINY, *settings) for part in ("--set", setting)]
    command = [*launch, "asr", "train", "--data", tone_corpus, "--out", tmp_path / "several", *overrides]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
    one, several = (
        json.loads((tmp_path / name / "log.jsonl").read_text().splitlines()[-1])["loss"] for name in ("one", "several")
    )
    assert several == pytest.approx(one, rel=1e-2)


@pytest.mark.parametrize("direction", ["bidirectional", "one direction"])
def test_transcripts_and_streams_are_those_of_the_cpu(direction: str, tone_corpus: Path, tmp_path: Path) -> None:
    settings = [] if direction == "bidirectional" else ["model.bidirectional=false", "features.cmvn=global"]
    run(tone_corpus, tmp_path, *LEARNS_FAST, "training.accelerator=cuda", *settings)
    path = tone_corpus / "audio" / "test-001.wav"
    samples, rate_hz = soundfile.read(path, dtype="float32")
    on_cpu, on_gpu = (asr.load(tmp_path, accelerator=device) for device in ("cpu", "cuda"))
    for method in ("greedy", "beam"):
        found, expected = (it.transcribe(path, segment="none", method=method) for it in (on_gpu, on_cpu))
        assert found.text == expected.text
        for ours, theirs in zip(found.words, expected.words, strict=True):
            assert (ours.start_s, ours.end_s) == pytest.approx((theirs.start_s, theirs.end_s), abs=0.1)
    blocks = [samples[start : start + 1600] for start in range(0, len(samples), 1600)]
    found, expected = (
        [part.text for part in it.stream(blocks, sample_rate_hz=rate_hz) if part.is_final] for it in (on_gpu, on_cpu)
    )
    assert found == expected


def test_it_learns_in_bfloat16_and_its_model_serves_on_the_cpu(tone_corpus: Path, tmp_path: Path) -> None:
    reports = run(
        tone_corpus,
        tmp_path,
        *LEARNS_FAST,
        "training.accelerator=cuda",
        "training.precision=bf16",
        "training.epochs=15",
    )
    assert isinstance(reports[0], RunStart)
    assert reports[0].device.startswith("cuda")
    *_, last = (report for report in reports if isinstance(report, EpochReport))
    assert last.dev.rate < 0.3
    assert asr.load(tmp_path).transcribe(tone_corpus / "audio" / "test-000.wav", segment="none").words


def test_a_run_begun_on_a_gpu_goes_on_on_the_cpu(tone_corpus: Path, tmp_path: Path) -> None:
    settings = ["training.epochs=2", "model.dropout=0", "training.checkpoint_every_s=0"]
    on_cpu = run(tone_corpus, tmp_path / "cpu", *settings, "training.accelerator=cpu")
    config = load_config(None, [*TINY, *settings, "training.accelerator=cuda"])
    begun = list(itertools.islice(training_reports(config, tone_corpus, tmp_path / "gpu"), 6))
    assert isinstance(begun[-1], StepReport)
    start, *rest = run(tone_corpus, tmp_path / "gpu", *settings, "training.accelerator=cpu", resume=True)
    assert 0 < start.resumed_at_step < begun[-1].step + 1
    losses = [[report.loss for report in reports if isinstance(report, EpochReport)] for reports in (rest, on_cpu)]
    torch.testing.assert_close(*map(torch.tensor, losses), rtol=2e-2, atol=0)
