"""The run's log: `log.jsonl` with a line per epoch, `skipped.jsonl`, and TensorBoard curves with a point per step."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import FileWriter

from asr.errors import TrainingError
from asr.files import append_line, write_text
from asr.training.reports import SomeEpoch, SomeStep, StepSkipped


class TrainingLog:
    """Writes reports as they come. A resumed run first drops what was logged after its checkpoint."""

    def __init__(self, out: Path, *, first_epoch: int, first_step: int) -> None:
        """Open the log of the run in `out`, which continues with `first_epoch` and after `first_step` steps."""
        self._epochs, self._skipped = out / "log.jsonl", out / "skipped.jsonl"
        for path, key, first in ((self._epochs, "epoch", first_epoch), (self._skipped, "step", first_step + 1)):
            if path.exists():
                lines = path.read_bytes().split(b"\n")[:-1]  # the last one is empty, or half written
                kept = [line for line in lines if _number(line, key) < first]
                write_text(path, b"".join(line + b"\n" for line in kept).decode())
        self._curves = FileWriter(str(out / "tensorboard"))
        # TensorBoard drops the points of earlier files from this step on.
        self._curves.add_event(Event(session_log=SessionLog(status=SessionLog.START)), first_step + 1)

    def step(self, report: SomeStep) -> None:
        """Add a point to each curve; for a skipped step add a line that names its utterances."""
        if isinstance(report, StepSkipped):
            _append(self._skipped, report.line)
        self._points(report.curves, report.step)

    def epoch(self, report: SomeEpoch) -> None:
        """Add a line to `log.jsonl` and, if there is a dev set, a point to its curve."""
        _append(self._epochs, report.line)
        self._points(report.curves, report.epoch)

    def close(self) -> None:
        """Flush the curves."""
        self._curves.close()

    def _points(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each named curve, all in one record, which is cheaper than a record for each."""
        if values:
            points = [Summary.Value(tag=curve, simple_value=value) for curve, value in values.items()]
            self._curves.add_summary(Summary(value=points), step)


def _append(path: Path, record: dict[str, Any]) -> None:
    """Add a line of JSON to a log and sync it to the disk.

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
    """Return a line's epoch or step. A line that did not reach the disk whole counts as one to come."""
    try:
        return float(json.loads(line)[key])
    except ValueError:
        return math.inf
