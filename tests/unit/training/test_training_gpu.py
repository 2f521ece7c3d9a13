"""Training on a CUDA device does what training on the CPU does."""

import itertools
from pathlib import Path

import pytest
import torch
from conftest import LEARNS_FAST, TINY

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


def test_it_learns_in_bfloat16_and_its_model_serves_on_the_cpu(tone_corpus: Path, tmp_path: Path) -> None:
    import asr

    reports = run(
        tone_corpus,
        tmp_path,
        *LEARNS_FAST,
        "training.accelerator=cuda",
        "training.precision=auto",
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
