"""The run's log: `log.jsonl`, a line per epoch, TensorBoard curves, a point per step, and `skipped.jsonl`.

The log of a language model's training: a line per epoch, curves with a point per step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import FileWriter

from asr.errors import TrainingError
from asr.files import append_line, write_text
from asr.training.reports import EpochReport, LmEpoch, LmStep, StepReport, StepSkipped


class TrainingLog:
    """Writes reports as they come; on resuming, what was logged after the checkpoint is dropped first."""

    def __init__(self, out: Path, *, first_epoch: int, first_step: int) -> None:
        """Open the log of the run in `out`, which stands before `first_epoch` and after `first_step` steps."""
        self._epochs, self._skipped = out / "log.jsonl", out / "skipped.jsonl"
        for path, key, first in ((self._epochs, "epoch", first_epoch), (self._skipped, "step", first_step + 1)):
            if path.exists():
                lines = path.read_bytes().split(b"\n")[:-1]  # the last one is empty, or half written
                kept = [line for line in lines if _number(line, key) < first]
                write_text(path, b"".join(line + b"\n" for line in kept).decode())
        self._curves = FileWriter(str(out / "tensorboard"))
        # TensorBoard drops the points of earlier files from this step on.
        self._curves.add_event(Event(session_log=SessionLog(status=SessionLog.START)), first_step + 1)

    def step(self, report: StepReport | StepSkipped) -> None:
        """Add a point to each curve; of a skipped step, a line that names its utterances."""
        if isinstance(report, StepSkipped):
            losses = {"loss": repr(report.loss), "gradient_norm": repr(report.gradient_norm)}  # NaN is no JSON
            _append(self._skipped, asdict(report) | losses)
            return
        names = ("loss", "ctc", "consistency", "intermediate", "gradient_norm", "learning_rate")
        points = {f"train/{name}": getattr(report, name) for name in names}
        norms = {f"gradient_norm/{part}": norm for part, norm in report.gradient_norms.items()}
        self._points(points | norms, report.step)

    def epoch(self, report: EpochReport) -> None:
        """Add a line to `log.jsonl` and, if there is a dev set, a point to its curve."""
        dev_wer = report.dev.rate if report.dev else None
        _append(self._epochs, asdict(report) | {"dev_wer": dev_wer})
        if dev_wer is not None:
            self._points({"dev/wer": dev_wer}, report.epoch)

    def _points(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each named curve: one record for all, since a record costs what many values in it do not."""
        points = [Summary.Value(tag=curve, simple_value=value) for curve, value in values.items()]
        self._curves.add_summary(Summary(value=points), step)

    def close(self) -> None:
        """Flush the curves."""
        self._curves.close()


def _append(path: Path, record: dict[str, Any]) -> None:
    """Add a line of JSON to a log, and see to it that it reaches the disk.

    Raises:
        TrainingError: it cannot be written.
    """
    try:
        append_line(path, json.dumps(record, ensure_ascii=False))
    except OSError as error:
        raise TrainingError(
            f"{path}: cannot write the log ({error.strerror}); the last checkpoint is intact. "
            "Make room or permission, then go on with --resume"
        ) from None


def _number(line: bytes, key: str) -> float:
    """Return a line's epoch or step; that of a line that did not reach the disk whole has yet to come."""
    try:
        return float(json.loads(line)[key])
    except ValueError:
        return math.inf


class LmLog(TrainingLog):
    """`log.jsonl` and TensorBoard curves like those of acoustic training, with perplexities."""

    def lm_step(self, report: LmStep) -> None:
        """Add a point to each curve; a skipped step has none."""
        if not report.skipped:
            names = ("loss", "gradient_norm", "learning_rate")
            self._points({f"train/{name}": getattr(report, name) for name in names}, report.step)

    def lm_epoch(self, report: LmEpoch) -> None:
        """Add a line to `log.jsonl` and a point to the dev curve."""
        _append(self._epochs, asdict(report) | {"dev": report.dev._asdict()})
        self._points({"dev/perplexity": report.dev.perplexity}, report.epoch)
