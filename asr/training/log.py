"""The log of a training run: `log.jsonl` with a line per epoch, `skipped.jsonl`, TensorBoard, and another tracker.

A tracker gets an epoch once its line is in `log.jsonl`. It may fail: then it gets no more, and the training goes on.
"""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import audio, text

from asr.bundle.files import SKIPPED_STEPS, TENSORBOARD, TRAINING_LOG
from asr.errors import TrainingError
from asr.files import append_line, printable, to_json, write_text
from asr.reading import first_line, parse_json
from asr.training.examples import ExampleAudio
from asr.training.reports import SomeEpoch, SomeStep, StepSkipped, TrackerFailed
from asr.training.trackers import Tracker, Tracking, start_tracker


class TrainingLog:
    """Writes reports as they come. A resumed run first drops what was logged after its checkpoint."""

    def __init__(self, out: Path, *, first_epoch: int, first_step: int, tracking: Tracking) -> None:
        """Open the log of the run in `out`, which continues with `first_epoch` and after `first_step` steps."""
        self._epochs, self._skipped = out / TRAINING_LOG, out / SKIPPED_STEPS
        for path, key, first in ((self._epochs, "epoch", first_epoch), (self._skipped, "step", first_step + 1)):
            if path.exists():
                lines = path.read_bytes().split(b"\n")[:-1]  # the last one is empty, or half written
                kept = [line for line in lines if _number(line, key) < first]
                write_text(path, b"".join(line + b"\n" for line in kept).decode())
        self._step, self._name = first_step, tracking.tracker
        self._tracker: Tracker | None = None
        self._failure: TrackerFailed | None = None
        recordings = () if first_step else tracking.recordings()
        if recordings:  # in a file of their own: that of the curves, which are written all the time, stays small
            sounds = TensorBoard(out / TENSORBOARD, 0)
            sounds.hear(recordings)
            sounds.close()
        self._curves = TensorBoard(out / TENSORBOARD, first_step + 1)
        if tracking.tracker != "none":
            self._guard(lambda: self._start(out, tracking, recordings))

    def _start(self, out: Path, tracking: Tracking, recordings: Sequence[ExampleAudio]) -> None:
        self._tracker = start_tracker(tracking, out, resumed=self._step > 0)
        self._tracker.hear(recordings)

    def step(self, report: SomeStep) -> None:
        """Add a point to each curve; for a skipped step add a line that names its utterances."""
        if isinstance(report, StepSkipped):
            _append(self._skipped, report.line)
        self._step = report.step
        self._curves.add(report.curves, report.step)
        if (tracker := self._tracker) is not None:
            self._guard(lambda: tracker.add(report.curves, report.step))

    def epoch(self, report: SomeEpoch) -> None:
        """Add a line to `log.jsonl` and, if there is a dev set, a point to its curves and what was recognised."""
        line = report.line
        _append(self._epochs, line)
        texts: Sequence[Mapping[str, str]] = line.get("dev_texts", ())
        self._curves.add(report.curves, report.epoch)
        self._curves.write(texts, report.epoch)
        if (tracker := self._tracker) is not None:
            self._guard(lambda: tracker.add({**report.curves, "epoch": report.epoch + 1}, self._step))
            self._guard(lambda: tracker.write(texts, self._step))

    def failures(self) -> Iterator[TrackerFailed]:
        """Yield the tracker's failure, if it has failed since the last call."""
        if self._failure is not None:
            yield self._failure
            self._failure = None

    def close(self) -> None:
        """Close the curves and the tracker."""
        self._curves.close()
        if (tracker := self._tracker) is not None:
            self._guard(tracker.close)

    def _guard(self, work: Callable[[], object]) -> None:
        """Let the tracker do something. If it fails, it gets no more."""
        if self._failure is not None:
            return
        try:
            work()
        except Exception as error:  # whatever another's program raises
            problem = printable(first_line(f"{type(error).__name__}: {error}"))
            self._tracker, self._failure = None, TrackerFailed(self._name, problem)


class TensorBoard:
    """A file of curves, sounds and texts for TensorBoard, which continues those in the same folder."""

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
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._write(Event(wall_time=time.time(), step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def add(self, points: Mapping[str, float], step: int) -> None:
        """Add a point to each named curve, all in one record, which is cheaper than a record for each."""
        self._add([Summary.Value(tag=curve, simple_value=value) for curve, value in points.items()], step)

    def hear(self, recordings: Sequence[ExampleAudio]) -> None:
        """Add the sound of utterances of dev."""
        for number, recording in enumerate(recordings, 1):
            samples = torch.from_numpy(recording.samples)
            sound = audio(f"dev/audio {number}", samples, sample_rate=recording.rate_hz)  # type: ignore[no-untyped-call]
            self._add(sound.value, 0)

    def write(self, texts: Sequence[Mapping[str, str]], step: int) -> None:
        """Add what was recognised in utterances of dev. TensorBoard reads Markdown, where indented text is text."""
        for number, one in enumerate(texts, 1):
            shown = "\n".join(f"    {key:10} {printable(one[key])}" for key in ("id", "reference", "hypothesis"))
            summary = text(f"dev/text {number}", shown)  # type: ignore[no-untyped-call]
            self._add(summary.value, step)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, values: Sequence[Summary.Value], step: int) -> None:
        if values:
            self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
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
        f"{path}: cannot write the log ({error.strerror}); all checkpoints are intact. "
        "Make room or permission, then go on with --resume"
    )


def _number(line: bytes, key: str) -> float:
    """Return a line's epoch or step. A line that did not reach the disk whole counts as one to come."""
    try:
        number = parse_json(line.decode(), TrainingError, TRAINING_LOG)[key]
    except (TrainingError, ValueError, LookupError, TypeError):
        return math.inf
    return number if isinstance(number, int) and number >= 0 else math.inf
