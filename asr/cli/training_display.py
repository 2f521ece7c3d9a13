"""How training shows itself: facts at the start, progress within an epoch, a line per epoch.

On a terminal the progress is a bar, with the course of the error rate and three utterances of dev below it. Elsewhere,
as in a log file, the progress is a line every half minute, and the utterances come after some epochs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from asr.bundle.files import CONFIG
from asr.cli.console import progress
from asr.cli.dev_texts import sparkline, text_lines
from asr.cli.pace import EpochLines, pace_after
from asr.corpus.limits import low_rate_note
from asr.files import printable
from asr.reading import counted
from asr.scoring.error_counts import RATE_NAMES
from asr.training.pretraining_data import PretrainingEpoch, PretrainingReport, PretrainingStart, PretrainingStep
from asr.training.reports import (
    EpochReport,
    LmEpoch,
    LmReport,
    LmStart,
    LmStep,
    Report,
    RunStart,
    RunStopped,
    StepReport,
    StepSkipped,
    TrackerFailed,
)
from asr.training.step import part_of

if TYPE_CHECKING:
    from types import TracebackType

    from asr.config import Config
    from asr.model.computation import Computation
    from asr.training.loop import TrainingResult
    from asr.training.transfer import Transfer


_SHORT = 10  # bars at the end of a line


class TrainingDisplay:
    """Prints the reports of `asr.train`."""

    def __init__(self, console: Console, config: Config, now: Callable[[], float] = time.monotonic) -> None:
        """Show on `console`; `now` returns the time in seconds."""
        self._console = console
        self._config = config
        self._now = now
        self._lines: EpochLines | None = None
        self._rates: list[float] = []  # the main figure of each epoch
        self._pace = ""
        self._last: EpochReport | None = None
        self._unshown: EpochReport | None = None  # whose utterances are not printed yet
        self._progress = Progress(
            TextColumn("{task.description:9}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("loss {task.fields[loss]:.3f}"),
            console=console,
        )
        self._task = self._progress.add_task("training", total=1.0, loss=0.0)
        self._live = Live(console=console, get_renderable=self._below, refresh_per_second=4, transient=True)

    def __enter__(self) -> TrainingDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._unshown:  # what was below the bar stays, and a log has the last epoch
            self._print_state(self._unshown)

    def show(self, report: Report) -> None:
        """Show one report."""
        if isinstance(report, StepReport):
            self._step(report)
        elif isinstance(report, EpochReport):
            self._epoch(report)
        elif isinstance(report, RunStart):
            self._start(report)
        elif isinstance(report, StepSkipped):
            named = "; bad: " + ", ".join(report.bad_ids) if report.bad_ids else "; one of " + ", ".join(report.ids)
            self._print(
                f"skipped   step {report.step}: loss {report.loss}, gradient norm {report.gradient_norm}{named}"
            )
        elif isinstance(report, TrackerFailed):
            self._print(tracker_note(report))
        else:
            self._stopped(report)

    def finish(self, result: TrainingResult) -> None:
        """Say where the model is. Processes that reported nothing stay silent, and so does a run that was stopped."""
        if self._lines and result.stopped_by is None:
            self._print(f"model     {result.folder}")

    def _print(self, line: str) -> None:
        write_line(self._console, line)

    def _step(self, report: StepReport) -> None:
        if self._console.is_terminal:
            self._live.start()  # not before: only one of several processes has reports
        self._progress.update(self._task, completed=report.progress, loss=report.loss)
        if self._lines is None:
            return
        line = self._lines.add(report, self._now())
        if not self._console.is_terminal:
            if line:
                self._print(f"progress  {line}")
        elif pace := self._lines.pace(report, self._now()):
            self._pace = pace

    def _below(self) -> RenderableType:
        """Return what is below all lines on a terminal."""
        if self._last is None:
            return Group(self._progress, Text(f"          {self._pace}", no_wrap=True, overflow="ellipsis"))
        return Group(self._progress, *self._state(self._last, self._pace))

    def _print_state(self, report: EpochReport) -> None:
        """Print the state after an epoch, where it stays."""
        self._unshown = None
        for line in self._state(report, pace_after(report, self._config.training.epochs)):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _state(self, report: EpochReport, pace: str) -> list[Text]:
        """Return the course of the error rate, the pace, and the utterances of dev, each line cut to the width."""
        dev, width = report.dev, self._console.width
        name = RATE_NAMES["character" if dev.by_characters else "word"] if dev else "pace"
        course = f"{name:<10}{sparkline(self._rates)}  " if dev else f"{name:<10}"
        lines = [Text((course + pace).rstrip())] if dev or pace else []
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        for text in report.dev_texts:
            lines += text_lines(text, by_characters=dev is not None and dev.by_characters, width=width)
        return lines

    def _stopped(self, report: RunStopped) -> None:
        self._print(
            f"stopped   by {report.signal} after step {report.step}; --resume continues from {report.checkpoint}"
        )

    def _start(self, start: RunStart) -> None:
        model, survey, line = self._config.model, start.survey, self._print
        self._lines = EpochLines(self._config.training.epochs, survey.audio_s, self._now())
        self._rates += start.dev_rates
        line(f"network   {model.network}, {start.parameter_count:,} parameters")
        context = "the whole utterance" if model.sees_whole_utterance else "all before"
        if model.lookahead_frames:
            context += f" and {model.lookahead_frames} frames ahead"
        field_ms = round(1000 * start.receptive_field_s)
        line(f"sees      {field_ms} ms in a frame; through the {model.encoder} layers {context}")
        utterances, tokens = counted(survey.utterances, "utterance"), counted(len(survey.tokens), "token")
        line(f"data      {utterances}, {survey.audio_s / 3600:.2f} h, {tokens}")
        low_rate = low_rate_note(survey.sample_rates_hz, self._config.features.sample_rate_hz)
        if low_rate:
            line(f"note      {low_rate}")
        line(f"device    {start.device}, {start.computation}" + (" (no GPU found)" if self._fell_back(start) else ""))
        for times_s in start.timed_s:
            line(f"timed     a step takes {step_times(times_s)}")
        if start.processes > 1:
            line(f"shared    by {start.processes} processes")
        if start.transfer:
            self._transfer(start.transfer)
        if start.damaged_checkpoint:
            line(f"damaged   {start.damaged_checkpoint}; the checkpoint before it is used")
        if start.resumed_at_epoch >= self._config.training.epochs:
            line(f"finished  the run was trained before, {counted(start.resumed_at_epoch, 'epoch')}")
        elif start.resumed_at_step:
            line(f"resumed   after step {start.resumed_at_step}, in epoch {start.resumed_at_epoch + 1}")
        for utterance_id, reason in list(survey.skipped.items())[:10]:
            line(f"left out  {utterance_id}: {reason}")
        if survey.skipped_utterances > 10:
            line(f"left out  {survey.skipped_utterances - 10} more; `asr check` names utterances that do not fit")

    def _transfer(self, transfer: Transfer) -> None:
        known = f"; {transfer.shared_tokens} of {transfer.tokens} tokens are known there"
        self._print(
            f"taken     {len(transfer.taken)} tensors of {transfer.source}{known if transfer.shared_tokens else ''}"
        )
        parts: dict[str, list[str]] = {}
        for name in transfer.left:
            parts.setdefault(part_of(name), []).append(name)
        for part, (name, *others) in parts.items():
            more = f", and {len(others)} more there" if others else ""
            self._print(f"left      {part}: {name.removeprefix(f'{part}.')}: {transfer.left[name]}{more}")
        if "layers.0" in parts and not any(name.startswith("layers.") for name in transfer.taken):
            self._print(f"note      no layer fits; --config {transfer.source / CONFIG} takes that model's settings")

    def _fell_back(self, start: RunStart) -> bool:
        return start.device == "cpu" and self._config.training.accelerator == "auto"

    def _epoch(self, report: EpochReport) -> None:
        if self._lines:
            self._lines.end_epoch(report, self._now())
        dev = report.dev
        figures = ""
        if dev:
            rates = [f"WER {100 * dev.words.rate:6.2f} %", f"CER {100 * dev.characters.rate:6.2f} %"]
            shown = "  ".join(rates if dev.by_characters else reversed(rates))  # the one that decides is the last
            figures = f", dev {dev.loss:6.3f}  {shown}{' *' if report.best else '  '}"
        self._print(
            f"epoch {report.epoch + 1:3d}/{self._config.training.epochs}  loss {report.loss:6.3f}{figures}"
            f"  {report.train_s + report.dev_s:5.1f} s{_labels(report.labelled_share)}"
        )
        if dev and 2 * dev.empty > dev.utterances:
            self._print(f"note      {dev.empty} of {dev.utterances} dev utterances give no text, only blanks")
        self._rates += [dev.rate] if dev else []
        self._last = self._unshown = report
        self._pace = pace_after(report, self._config.training.epochs)
        if self._console.is_terminal:
            self._live.refresh()
        elif is_shown_in_a_log(report.epoch + 1):
            self._print_state(report)


def write_line(console: Console, line: str) -> None:
    """Print a line as it is: nothing in it is markup, and control characters are escaped."""
    console.print(printable(line), markup=False, emoji=False, highlight=False, soft_wrap=True)


def is_shown_in_a_log(epoch: int) -> bool:
    """Return whether a log, which is to stay short, has the utterances of dev after this epoch, counted from 1."""
    return epoch in (1, 2, 5) or epoch % 10 == 0


def tracker_note(report: TrackerFailed) -> str:
    """Return the line that says so."""
    return f"note      {report.tracker} gets no more of this run, which goes on: {report.problem}"


def step_times(times_s: Mapping[Computation, float]) -> str:
    """Return what a step takes in each way to compute."""
    return "; ".join(f"{1000 * seconds:.0f} ms in {way}" for way, seconds in times_s.items())


def _labels(share: float | None) -> str:
    return "" if share is None else f"  {100 * share:.0f} % of the untranscribed labelled"


class PretrainingDisplay:
    """Prints the reports of `asr.pretrain`."""

    def __init__(self, console: Console, config: Config) -> None:
        """Show on `console`."""
        self._console = console
        self._config = config
        self._spoke = False
        self._losses: list[float] = []
        self._bar = ExitStack()
        self._advance: Callable[[float], None] = lambda _: None

    def __enter__(self) -> PretrainingDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def show(self, report: PretrainingReport) -> None:
        """Show one report."""
        line = partial(write_line, self._console)
        if isinstance(report, PretrainingStep):
            self._advance(report.audio_s)
        elif isinstance(report, PretrainingEpoch):
            self._epoch(report)
        elif isinstance(report, PretrainingStart):
            self._start(report)
        elif isinstance(report, StepSkipped):
            line(f"skipped   step {report.step}: loss {report.loss}, gradient norm {report.gradient_norm}")
        elif isinstance(report, TrackerFailed):
            line(tracker_note(report))
        else:
            line(f"stopped   by {report.signal} after step {report.step}; --resume continues it")

    def finish(self, result: TrainingResult) -> None:
        """Say where the weights are, and what to do with them."""
        if self._spoke and result.stopped_by is None:
            folder = result.folder
            write_line(self._console, f"written   {folder}; asr train --init-from {folder} starts from it")

    def _start(self, start: PretrainingStart) -> None:
        self._spoke = True
        line, survey, epochs = partial(write_line, self._console), start.survey, self._config.pretraining.epochs
        line(f"network   {self._config.model.network}, {start.parameter_count:,} parameters; {start.kind} prediction")
        heard, dev = counted(survey.utterances, "utterance"), counted(start.dev_utterances, "utterance of dev")
        line(f"data      {heard}, {survey.audio_s / 3600:.2f} h; {dev}")
        low_rate = low_rate_note(survey.sample_rates_hz, self._config.features.sample_rate_hz)
        if low_rate:
            line(f"note      {low_rate}")
        line(f"device    {start.device}, {start.computation}")
        for times_s in start.timed_s:
            line(f"timed     a step takes {step_times(times_s)}")
        if start.processes > 1:
            line(f"shared    by {start.processes} processes")
        if start.damaged_checkpoint:
            line(f"damaged   {start.damaged_checkpoint}; the checkpoint before it is used")
        if start.resumed_at_epoch >= epochs:
            line(f"finished  the run was trained before, {counted(start.resumed_at_epoch, 'epoch')}")
        elif start.resumed_at_step:
            line(f"resumed   after step {start.resumed_at_step}, in epoch {start.resumed_at_epoch + 1}")
        skipped = {**start.left_out, **survey.skipped}
        for name, reason in list(skipped.items())[:10]:
            line(f"left out  {name}: {reason}")
        more = len(start.left_out) + survey.skipped_utterances - 10
        if more > 0:
            line(f"left out  {more} more")
        left = epochs - start.resumed_at_epoch
        if left > 0:
            self._advance = self._bar.enter_context(progress("pretrain", left * survey.audio_s))

    def _epoch(self, report: PretrainingEpoch) -> None:
        accuracy = "" if report.dev_accuracy is None else f"  accuracy {100 * report.dev_accuracy:5.2f} %"
        self._losses.append(report.dev_loss)
        write_line(
            self._console,
            f"epoch {report.epoch + 1:3d}/{self._config.pretraining.epochs}  loss {report.loss:6.3f}, "
            f"dev {report.dev_loss:6.3f}{accuracy}{' *' if report.best else '  '}"
            f"  {report.train_s + report.dev_s:5.1f} s  {sparkline(self._losses[-_SHORT:])}",
        )


class LmTrainingDisplay:
    """Prints the reports of `asr.train_rnn_lm`."""

    def __init__(self, console: Console) -> None:
        """Show on `console`."""
        self._console = console
        self._start: LmStart | None = None
        self._perplexities: list[float] = []
        self._bar = ExitStack()
        self._advance: Callable[[float], None] = lambda _: None

    def __enter__(self) -> LmTrainingDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def show(self, report: LmReport) -> None:
        """Show one report."""
        line = partial(write_line, self._console)
        if isinstance(report, LmStep):
            self._advance(1)
            if report.skipped:
                line(f"skipped   step {report.step}: loss {report.loss}")
        elif isinstance(report, LmEpoch):
            self._epoch(report)
        elif isinstance(report, LmStart):
            self._begin(report)
        elif isinstance(report, TrackerFailed):
            line(tracker_note(report))
        else:
            line(f"stopped   by {report.signal} after step {report.step}; --resume continues it")

    def _begin(self, start: LmStart) -> None:
        self._start = start
        line = partial(write_line, self._console)
        if start.left_out:
            line(f"left out  {counted(start.left_out, 'sentence')}; {start.left_out_reason}")
        line(f"network   {start.network}, {start.parameter_count:,} parameters")
        line(f"data      {start.sentences} sentences, {start.units} units, {start.unit_count} different {start.kind}")
        line(f"device    {start.device}, {start.computation}")
        if start.timed_s:
            line(f"timed     a step takes {step_times(start.timed_s)}")
        if start.damaged_checkpoint:
            line(f"damaged   {start.damaged_checkpoint}; the checkpoint before it is used")
        if start.resumed_at_step:
            line(f"resumed   after step {start.resumed_at_step}")
        self._advance = self._bar.enter_context(progress("train", start.steps - start.resumed_at_step))

    def _epoch(self, report: LmEpoch) -> None:
        assert self._start is not None
        found = report.dev
        if not self._perplexities:
            write_line(self._console, f"dev       {found.units} {self._start.kind}, {found.oovs} OOV")
        self._perplexities.append(found.perplexity)
        write_line(
            self._console,
            f"epoch {report.epoch + 1:3d}/{self._start.epochs}  loss {report.loss:6.3f}, dev perplexity"
            f" {found.perplexity:8.2f}{' *' if report.best else '  '}  {report.train_s + report.dev_s:5.1f} s"
            f"  {sparkline(self._perplexities[-_SHORT:])}",
        )
