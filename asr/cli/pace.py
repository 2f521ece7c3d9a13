"""The steps of a training → how fast it is, and how long it will still take."""

from __future__ import annotations

from dataclasses import dataclass

from asr.cli.console import TELLING_SHARE, clock
from asr.training.reports import EpochReport, StepReport

LINE_EVERY_S = 30.0


def pace(audio_s: float, wall_s: float, left_s: float) -> str:
    """Return how fast a run trains, and the time that is left."""
    return f"{audio_s / wall_s:.0f} × real time, {clock(left_s)} left" if wall_s > 0 else ""


def pace_after(report: EpochReport, epochs: int) -> str:
    """Return the pace of a finished epoch, and the time that is left if it goes on so; nothing after the last."""
    left = epochs - report.epoch - 1
    return pace(report.audio_s, report.train_s, left * (report.train_s + report.dev_s)) if left else ""


class EpochLines:
    """Says from time to time how far an epoch is. Short epochs need no such line and get none."""

    def __init__(self, epochs: int, audio_s: float, now_s: float) -> None:
        """Begin a run of `epochs` epochs of `audio_s` seconds of audio each, or resume it."""
        self._epochs, self._audio_s = epochs, audio_s
        self._dev_s = 0.0  # that the evaluation of the last epoch took
        self._begin_epoch(now_s)

    def end_epoch(self, report: EpochReport, now_s: float) -> None:
        """Turn to the next epoch."""
        self._dev_s = report.dev_s
        self._begin_epoch(now_s)

    def _begin_epoch(self, now_s: float) -> None:
        self._began_s = self._line_s = now_s
        self._audio_of_epoch_s = 0.0
        self._first_share: float | None = None
        self._since_line: list[StepReport] = []

    def add(self, report: StepReport, now_s: float) -> str | None:
        """Return a line if the last one, or the start of the epoch, is `LINE_EVERY_S` seconds ago."""
        before = report.progress * self._epochs - report.epoch
        if self._first_share is None:  # above 0 if the run was resumed within the epoch
            self._first_share = before
        self._since_line.append(report)
        self._audio_of_epoch_s += report.audio_s
        waited_s = now_s - self._line_s
        if waited_s < LINE_EVERY_S:
            return None
        loss = sum(step.loss for step in self._since_line) / len(self._since_line)
        speed = sum(step.audio_s for step in self._since_line) / waited_s
        self._line_s, self._since_line = now_s, []
        left = self._left(report, now_s)
        done = f"epoch {report.epoch + 1}/{self._epochs}, {100 * left.share:.0f} %: loss {loss:.3f}"
        times = f"{clock(left.epoch_s)} left in the epoch, {clock(left.run_s)} in the run"
        return f"{done}, {speed:.0f} s of audio a second, {times}"

    def pace(self, report: StepReport, now_s: float) -> str:
        """Return the pace of the current epoch; nothing in its first twentieth, when it would be a guess."""
        left = self._left(report, now_s)
        if self._first_share is None or left.share - self._first_share < TELLING_SHARE:
            return ""
        return pace(self._audio_of_epoch_s, now_s - self._began_s, left.run_s)

    def _left(self, report: StepReport, now_s: float) -> _Left:
        assert self._first_share is not None
        share = min(1.0, report.progress * self._epochs - report.epoch + report.audio_s / self._audio_s)
        epoch_s = (now_s - self._began_s) / (share - self._first_share)
        left_s = epoch_s * (1 - share)
        later = self._epochs - report.epoch - 1
        return _Left(share, left_s, left_s + self._dev_s + later * (epoch_s + self._dev_s))


@dataclass(frozen=True)
class _Left:
    """What share of an epoch is done, and how much time is left in it and in the run."""

    share: float
    epoch_s: float
    run_s: float
