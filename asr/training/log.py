"""The run's log: `log.jsonl`, a line per epoch, and TensorBoard curves, a point per step."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from asr.data.files import write_text
from asr.training.reports import EpochReport, StepReport, StepSkipped


class TrainingLog:
    """Writes reports as they come; on resuming, what was logged after the checkpoint is dropped first."""

    def __init__(self, out: Path, *, first_epoch: int, first_step: int) -> None:
        """Open the log of the run in `out`, which stands before `first_epoch` and after `first_step` steps."""
        self._path = out / "log.jsonl"
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        kept = [line for line in lines if _epoch_of(line) < first_epoch]
        write_text(self._path, "".join(f"{line}\n" for line in kept))
        self._curves = SummaryWriter(str(out / "tensorboard"), purge_step=first_step + 1)

    def step(self, report: StepReport | StepSkipped) -> None:
        """Add a point to each curve; a skipped step has none."""
        if isinstance(report, StepSkipped):
            return
        names = ("loss", "ctc", "consistency", "intermediate", "gradient_norm", "learning_rate")
        self._points(report, names, report.step)
        for part, norm in report.gradient_norms.items():
            self._curves.add_scalar(f"gradient_norm/{part}", norm, report.step)

    def epoch(self, report: EpochReport) -> None:
        """Add a line to `log.jsonl` and, if there is a dev set, a point to its curve."""
        dev_wer = report.dev.wer if report.dev else None
        self._line(asdict(report) | {"dev_wer": dev_wer})
        if dev_wer is not None:
            self._curves.add_scalar("dev/wer", dev_wer, report.epoch)

    def _line(self, record: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _points(self, report: object, names: Iterable[str], step: int) -> None:
        for name in names:
            self._curves.add_scalar(f"train/{name}", getattr(report, name), step)

    def close(self) -> None:
        """Flush the curves."""
        self._curves.close()


def _epoch_of(line: str) -> float:
    """Return a line's epoch; that of a line of which only the beginning reached the disk has yet to come."""
    try:
        return float(json.loads(line)["epoch"])
    except ValueError:
        return math.inf
