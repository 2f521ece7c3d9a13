"""What a training run reports: its start, each step, each epoch and a stop. And its log, which keeps them.

The log is `log.jsonl` with a line per epoch, `skipped.jsonl`, and TensorBoard curves with a point per step.
"""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from asr.bundle.files import SKIPPED_STEPS, TENSORBOARD, TRAINING_LOG
from asr.errors import TrainingError
from asr.files import append_line, to_json, write_text
from asr.lm.ngram import Perplexity
from asr.model.computation import Computation
from asr.reading import parse_json
from asr.training.dev_score import DevScore
from asr.training.survey import Survey
from asr.training.transfer import Transfer


class SomeStep(Protocol):
    """A step of any training."""

    @property
    def step(self) -> int:
        """Its number, from 1."""

    @property
    def curves(self) -> dict[str, float]:
        """The curves of the log that get a point; none if the step was skipped."""


class SomeEpoch(Protocol):
    """An epoch of any training."""

    @property
    def epoch(self) -> int:
        """Its number, from 0."""

    @property
    def curves(self) -> dict[str, float]:
        """The curves of the log that get a point."""

    @property
    def line(self) -> dict[str, Any]:
        """The line of `log.jsonl`."""


@dataclass(frozen=True)
class RunStart:
    """What is about to be trained, on which data and where.

    `damaged_checkpoint` says why the newest checkpoint could not be used; the one before it was then. `transfer` says
    what was taken from the model of `init_from`. `timed_s` has the seconds of a step in each way to compute that was
    timed, by comparison.
    """

    survey: Survey
    parameter_count: int
    receptive_field_s: float
    device: str
    processes: int
    computation: Computation
    resumed_at_epoch: int
    resumed_at_step: int
    damaged_checkpoint: str | None
    transfer: Transfer | None
    timed_s: Sequence[Mapping[Computation, float]] = ()


@dataclass(frozen=True)
class StepReport:
    """One optimiser step. Losses are in nats per token.

    `progress` is the share of the run that was done before the step. `audio_s` are the seconds of audio in its batch,
    over all processes. `gradient_norms` has the gradient's norm in each part of the network, and `gradient_norm` that
    of the whole, before clipping. `teacher` is the divergence from teachers, 0 without them.
    """

    step: int
    epoch: int
    progress: float
    audio_s: float
    loss: float
    ctc: float
    consistency: float
    intermediate: float
    gradient_norm: float
    gradient_norms: dict[str, float]
    clipped: bool
    spike: bool
    learning_rate: float
    teacher: float = 0.0

    @property
    def curves(self) -> dict[str, float]:
        """The losses, norms and the learning rate."""
        names = ("loss", "ctc", "consistency", "intermediate", "gradient_norm", "learning_rate")
        points: dict[str, float] = {f"train/{name}": getattr(self, name) for name in names}
        if self.teacher:
            points["train/teacher"] = self.teacher
        return points | {f"gradient_norm/{part}": norm for part, norm in self.gradient_norms.items()}


@dataclass(frozen=True)
class StepSkipped:
    """A step whose loss or gradient was not finite: the weights stayed as they were.

    `bad_ids` names the utterances that give no finite loss or gradient by themselves; it may be empty.
    """

    step: int
    epoch: int
    loss: float
    gradient_norm: float
    ids: list[str]
    bad_ids: list[str]

    @property
    def curves(self) -> dict[str, float]:
        """None."""
        return {}

    @property
    def line(self) -> dict[str, Any]:
        """All fields; numbers as text, because JSON has no NaN."""
        return asdict(self) | {"loss": repr(self.loss), "gradient_norm": repr(self.gradient_norm)}


@dataclass(frozen=True)
class EpochReport:
    """One epoch. Means are over its steps; `train_s` is the wall time of training, `dev_s` that of evaluation.

    `dev` is the score of the averaged weights, and `best` says whether they are kept; if dev is trained on, there is no
    score and each epoch is kept. `clipped_share` is the share of steps whose gradient was scaled down. `spikes` counts
    steps whose loss rose far above the level before, and `skipped` those without a finite gradient. `learning_rate` is
    that at the end of the epoch. `labelled_share` is the share of untranscribed utterances in which the average
    recognised something that could be learnt; None if there were none.
    """

    epoch: int
    loss: float
    dev: DevScore | None
    best: bool
    gradient_norms: dict[str, float]
    clipped_share: float
    spikes: int
    skipped: int
    audio_s: float
    train_s: float
    dev_s: float
    learning_rate: float
    labelled_share: float | None = None

    @property
    def curves(self) -> dict[str, float]:
        """Error rates, loss and number of empty utterances, if there is a dev set."""
        return {f"dev/{name}": value for name, value in self._dev_figures.items() if value is not None}

    @property
    def line(self) -> dict[str, Any]:
        """All fields and the dev set's figures; `dev` has the errors in words. `EpochLine` describes it for readers."""
        dev = self.dev
        counts = {
            "dev": None if dev is None else asdict(dev.words),
            "dev_characters": None if dev is None else asdict(dev.characters),
            "dev_by_characters": None if dev is None else dev.by_characters,
        }
        return asdict(self) | counts | {f"dev_{name}": value for name, value in self._dev_figures.items()}

    @property
    def _dev_figures(self) -> dict[str, float | None]:
        dev = self.dev
        if dev is None:
            return dict.fromkeys(("wer", "cer", "loss", "empty"))
        return {"wer": dev.words.rate, "cer": dev.characters.rate, "loss": dev.loss, "empty": dev.empty}


@dataclass(frozen=True)
class RunStopped:
    """The run was stopped by `signal` after step `step`; `checkpoint` is where it continues."""

    signal: str
    step: int
    checkpoint: Path


Report = RunStart | StepReport | StepSkipped | EpochReport | RunStopped


@dataclass(frozen=True)
class LmStart:
    """What is about to be trained.

    `network` is the network in words. There are `sentences` with `units` units, their ends included, of `unit_count`
    different ones; `kind` says whether these are words or tokens. `left_out` sentences hold characters that are no
    tokens, and `left_out_reason` says what is wrong with the first of them. `timed_s` has the seconds of a step in
    each way to compute that was timed. `steps` are those of the whole run. `damaged_checkpoint` is that of
    `RunStart`.
    """

    network: str
    parameter_count: int
    kind: Literal["words", "tokens"]
    unit_count: int
    sentences: int
    units: int
    left_out: int
    left_out_reason: str
    device: str
    computation: Computation
    timed_s: Mapping[Computation, float]
    epochs: int
    steps: int
    resumed_at_step: int
    damaged_checkpoint: str | None


@dataclass(frozen=True)
class LmStep:
    """One window of each stream. The loss is in nats per unit, the norm is that before clipping.

    A step whose gradient is not finite is skipped: the weights stay as they were.
    """

    step: int
    epoch: int
    loss: float
    gradient_norm: float
    learning_rate: float
    skipped: bool

    @property
    def curves(self) -> dict[str, float]:
        """The loss, the norm and the learning rate."""
        if self.skipped:
            return {}
        return {f"train/{name}": getattr(self, name) for name in ("loss", "gradient_norm", "learning_rate")}


@dataclass(frozen=True)
class LmEpoch:
    """One epoch; `loss` is the mean of its steps, with dropout. The other fields are those of `EpochReport`."""

    epoch: int
    loss: float
    dev: Perplexity
    best: bool
    clipped_share: float
    skipped: int
    train_s: float
    dev_s: float

    @property
    def curves(self) -> dict[str, float]:
        """The perplexity."""
        return {"dev/perplexity": self.dev.perplexity}

    @property
    def line(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self) | {"dev": self.dev._asdict()}


LmReport = LmStart | LmStep | LmEpoch | RunStopped


class TrainingLog:
    """Writes reports as they come. A resumed run first drops what was logged after its checkpoint."""

    def __init__(self, out: Path, *, first_epoch: int, first_step: int) -> None:
        """Open the log of the run in `out`, which continues with `first_epoch` and after `first_step` steps."""
        self._epochs, self._skipped = out / TRAINING_LOG, out / SKIPPED_STEPS
        for path, key, first in ((self._epochs, "epoch", first_epoch), (self._skipped, "step", first_step + 1)):
            if path.exists():
                lines = path.read_bytes().split(b"\n")[:-1]  # the last one is empty, or half written
                kept = [line for line in lines if _number(line, key) < first]
                write_text(path, b"".join(line + b"\n" for line in kept).decode())
        self._curves = _Curves(out / TENSORBOARD, first_step + 1)

    def step(self, report: SomeStep) -> None:
        """Add a point to each curve; for a skipped step add a line that names its utterances."""
        if isinstance(report, StepSkipped):
            _append(self._skipped, report.line)
        self._curves.add(report.curves, report.step)

    def epoch(self, report: SomeEpoch) -> None:
        """Add a line to `log.jsonl` and, if there is a dev set, a point to its curve."""
        _append(self._epochs, report.line)
        self._curves.add(report.curves, report.epoch)

    def close(self) -> None:
        """Close the curves."""
        self._curves.close()


class _Curves:
    """A file of curves for TensorBoard, which continues those in the same folder."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Begin a file; the points of earlier files from `first_step` on count no more.

        TensorBoard reads files in the order of their names, which begin with the time. The new name comes after all
        others, also if the clock was set back.
        """
        folder.mkdir(parents=True, exist_ok=True)
        earlier = (re.match(r"events\.out\.tfevents\.(\d+)\.", path.name) for path in folder.iterdir())
        now_s = max([int(time.time()), *(1 + int(match[1]) for match in earlier if match)])
        self._path = folder / f"events.out.tfevents.{now_s:010d}.{socket.gethostname()}.{os.getpid()}"
        self._file = self._path.open("wb", buffering=0)  # so that a killed run has all points
        self._records = RecordWriter(self._file)
        self._add(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._add(Event(wall_time=time.time(), step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Add a point to each named curve, all in one record, which is cheaper than a record for each."""
        if values:
            points = [Summary.Value(tag=curve, simple_value=value) for curve, value in values.items()]
            self._add(Event(wall_time=time.time(), step=step, summary=Summary(value=points)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, event: Event) -> None:
        """Write a record.

        Raises:
            TrainingError: it cannot be written.
        """
        try:
            self._records.write(event.SerializeToString())
        except OSError as error:
            raise _cannot_log(self._path, error) from None


def _append(path: Path, record: dict[str, Any]) -> None:
    """Add a line of JSON to a log and sync it to the disk.

    Raises:
        TrainingError: it cannot be written.
    """
    try:
        append_line(path, to_json(record))
    except OSError as error:
        raise _cannot_log(path, error) from None


def _cannot_log(path: Path, error: OSError) -> TrainingError:
    return TrainingError(
        f"{path}: cannot write the log ({error.strerror}); the last checkpoint is intact. "
        "Make room or permission, then go on with --resume"
    )


def _number(line: bytes, key: str) -> float:
    """Return a line's epoch or step. A line that did not reach the disk whole counts as one to come."""
    try:
        number = parse_json(line.decode(), TrainingError, TRAINING_LOG)[key]
    except (TrainingError, ValueError, LookupError, TypeError):
        return math.inf
    return number if isinstance(number, int) and number >= 0 else math.inf
