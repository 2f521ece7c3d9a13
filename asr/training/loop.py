"""The loop that trains, for all that is trained: when a run logs, saves, reports and stops.

A `Training` says what a step and an epoch are. This file says what happens around them. It also gives each run a folder
of its own, and turns a signal into an end in good order.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Protocol, TypeVar

import torch
from filelock import FileLock, Timeout
from lightning_fabric import Fabric

from asr.bundle.files import CHECKPOINTS
from asr.errors import TrainingError
from asr.training.checkpoint import LAST, find_checkpoint
from asr.training.log import TrainingLog
from asr.training.reports import RunStopped, SomeEpoch, SomeStep, TrackerFailed
from asr.training.run_state import RunState
from asr.training.trackers import Tracking

LOCK = "lock"  # in the folder of the checkpoints

Batch = TypeVar("Batch")
Start = TypeVar("Start")
Step = TypeVar("Step", bound=SomeStep, covariant=True)
Epoch = TypeVar("Epoch", bound=SomeEpoch, covariant=True)
AnyReport = TypeVar("AnyReport")


class Wishes(Protocol):
    """What a run is asked to do after a step."""

    @property
    def stop(self) -> bool:
        """Whether to write a checkpoint and end."""

    @property
    def save(self) -> bool:
        """Whether to write a checkpoint."""


class Training(Protocol[Batch, Step, Epoch]):
    """What is trained, and how."""

    @property
    def out(self) -> Path:
        """The folder that gets the model, the log and the checkpoints."""

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""

    @property
    def state(self) -> RunState:
        """How far the run has come. The loop counts steps and epochs in it."""

    @property
    def first(self) -> bool:
        """Whether this process writes the log and reports; of several processes one does."""

    @property
    def tracking(self) -> Tracking:
        """What trackers get once."""

    def batches(self, skip: int) -> Iterable[Batch]:
        """Return the batches of the current epoch, without the `skip` first ones."""

    def take_step(self, batch: Batch, asked: Wishes) -> tuple[Step, Wishes]:
        """Take one step. Return what it did, and what all processes together are asked to do after it."""

    def end_epoch(self) -> Epoch:
        """Measure the model on dev, and keep it if it is the best so far."""

    def save(self) -> None:
        """Write a checkpoint. All processes call this."""


@dataclass(frozen=True)
class TrainingResult:
    """How a training run ended.

    Attributes:
        folder: that of the model.
        epochs: how many are finished.
        dev_score: that of the kept weights, lower is better: the word error rate of `asr.train` (in scripts without
            spaces the character error rate), the perplexity of `asr.train_rnn_lm`, the loss of `asr.pretrain`; None
            without a dev set.
        stopped_by: the signal that stopped the run before its end, e.g. `SIGTERM`; None if the run is finished.
    """

    folder: Path
    epochs: int
    dev_score: float | None
    stopped_by: str | None


def training_loop(
    training: Training[Batch, Step, Epoch], start: Start, requests: Requests
) -> Generator[Start | Step | Epoch | RunStopped | TrackerFailed, None, TrainingResult]:
    """Train to the end, or until a signal; yield the start, each step, each epoch, the stop, a tracker's failure.

    Only the first process yields. Its log has each report before it is yielded.

    Raises:
        TrainingError: the log or a checkpoint cannot be written.
    """
    state, stopped_by = training.state, None
    log = None
    if training.first:
        out, tracking = training.out, training.tracking
        log = TrainingLog(out, first_epoch=state.epoch, first_step=state.step, tracking=tracking)
        yield start
        yield from log.failures()
    requests.saved()
    while state.epoch < training.epochs and stopped_by is None:
        if (yield from _steps(training, requests, log)):
            stopped_by = requests.signal_name or "a signal to another process"
        else:
            report = training.end_epoch()
            state.end_epoch()
            # Before the checkpoint: a resumed run drops a line too many, but could not restore a lost one.
            if log:
                log.epoch(report)
            training.save()
            requests.saved()
            if log:
                yield report
                yield from log.failures()
    if log:
        log.close()
        yield from log.failures()
        if stopped_by is not None:
            yield RunStopped(stopped_by, state.step, training.out / CHECKPOINTS / LAST)
    return TrainingResult(training.out, state.epoch, state.kept_dev_score, stopped_by)


def _steps(
    training: Training[Batch, Step, Epoch], requests: Requests, log: TrainingLog | None
) -> Generator[Step | TrackerFailed, None, bool]:
    """Take the steps of the current epoch and yield their reports; return whether the run is to stop."""
    state = training.state
    began = time.perf_counter()
    for batch in training.batches(state.batch):
        report, asked = training.take_step(batch, requests)
        state.step, state.batch = state.step + 1, state.batch + 1
        now = time.perf_counter()
        state.sums.train_s, began = state.sums.train_s + now - began, now
        if log:
            log.step(report)
            yield report
            yield from log.failures()
        stop, save = asked.stop, asked.save
        if stop or save:
            training.save()
            requests.saved()
        if stop:
            return True
    return False


def run_to_end(
    reports: Generator[AnyReport, None, TrainingResult], on_report: Callable[[AnyReport], object] | None
) -> TrainingResult:
    """Let a run train to its end, pass each report on, and return the result."""
    with closing(reports):
        while True:
            try:
                report = next(reports)
            except StopIteration as end:
                result: TrainingResult = end.value
                return result
            if on_report is not None:
                on_report(report)


class Requests:
    """What a run is asked to do: to stop, by a signal; to write a checkpoint, by the clock.

    While it is entered, the first SIGTERM or SIGINT only sets `signal_name`. A second SIGINT interrupts at once. Slurm
    sends SIGTERM before it takes a job's machine away, and a user presses Ctrl-C: both want to resume the run later.
    Python lets only the main thread receive signals, so in another thread they stay as they are.
    """

    def __init__(self, save_every_s: float) -> None:
        """Ask for nothing yet; a checkpoint is due `save_every_s` seconds of wall time after the last one."""
        self.signal_name = ""
        self._save_every_s = save_every_s
        self._saved_at = time.perf_counter()
        self._handlers: dict[int, signal._HANDLER] = {}

    @property
    def stop(self) -> bool:
        """Whether a signal has arrived."""
        return bool(self.signal_name)

    @property
    def save(self) -> bool:
        """Whether a checkpoint is due."""
        return time.perf_counter() - self._saved_at >= self._save_every_s

    def saved(self) -> None:
        """Count the time to the next checkpoint from now."""
        self._saved_at = time.perf_counter()

    def __enter__(self) -> Requests:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._handlers[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name


@contextmanager
def only_run_in(out: Path) -> Iterator[None]:
    """Keep other training runs out of the folder `out` until the `with` statement ends.

    The operating system holds the lock for this process. A run that died, however it died, keeps nobody out.

    Raises:
        TrainingError: another run is at work there, or the folder cannot be written.
    """
    folder = out / CHECKPOINTS
    lock = FileLock(folder / LOCK, thread_local=False)
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    before = _names_in(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise TrainingError(
            f"{out}: another training run is at work there; wait until it ends, or choose another --out"
        ) from None
    except NotImplementedError:  # a file system without locks, as some clusters have
        pass
    except OSError as error:
        raise TrainingError(f"{folder}: cannot write there ({error.strerror}); choose another --out") from None
    try:
        yield
    finally:
        # A run that was refused leaves nothing. One that wrote a model and no checkpoint keeps the folder, by which the
        # next one knows that the model is not a finished run's.
        if new and _names_in(folder) == {LOCK} and _names_in(out) - before <= {CHECKPOINTS}:
            with suppress(OSError):
                (folder / LOCK).unlink(missing_ok=True)
                for path in new:
                    path.rmdir()
        lock.release()


def _names_in(folder: Path) -> set[str]:
    with suppress(OSError):  # it does not exist, or may not be read
        return set(os.listdir(folder))
    return set()


@contextmanager
def only_run_of_all_in(out: Path, fabric: Fabric) -> Iterator[None]:
    """Do what `only_run_in` does: the first process does so for all, and all fail if it cannot."""
    with ExitStack() as held:
        refusal = None
        if fabric.is_global_zero:
            try:
                held.enter_context(only_run_in(out))
            except TrainingError as error:
                refusal = error
        refused = fabric.all_reduce(torch.tensor(float(refusal is not None), device=fabric.device), reduce_op="sum")
        if refused:
            raise refusal or TrainingError(f"{out}: the first process cannot train there; its message says why")
        yield


def find_run(out: Path, *, resume: bool) -> tuple[Path | None, str | None]:
    """Return the checkpoint to resume the run in `out` from, and what is wrong with a newer one.

    Raises:
        TrainingError: there is a run and `resume` is not set.
        ModelError: no checkpoint can be read.
    """
    checkpoint, damage = find_checkpoint(out / CHECKPOINTS)
    if checkpoint and not resume:
        raise TrainingError(f"{out}: holds a training run already; use --resume to continue it, or another --out")
    return checkpoint, damage
