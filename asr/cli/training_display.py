"""How a training run shows itself: facts at the start, a bar with the time left, a line per epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from asr.bundle.files import CONFIG
from asr.training.reports import EpochReport, Report, RunStart, RunStopped, StepReport, StepSkipped
from asr.training.step import part_of

if TYPE_CHECKING:
    from types import TracebackType

    from asr.config import Config
    from asr.training.run import Transfer


class TrainingDisplay:
    """Prints the reports of `train`; without a terminal there is no bar, only the lines."""

    def __init__(self, console: Console, config: Config) -> None:
        """Show on `console`."""
        self._console = console
        self._config = config
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %"),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("training", total=1.0, loss=0.0)

    def __enter__(self) -> TrainingDisplay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, report: Report) -> None:
        """Show one report."""
        if isinstance(report, StepReport):
            self._progress.start()  # here, for of several processes one alone has reports
            self._progress.update(self._task, completed=report.progress, loss=report.loss)
        elif isinstance(report, EpochReport):
            self._epoch(report)
        elif isinstance(report, RunStart):
            self._start(report)
        elif isinstance(report, StepSkipped):
            named = "; bad: " + ", ".join(report.bad_ids) if report.bad_ids else "; one of " + ", ".join(report.ids)
            self._console.print(
                f"skipped   step {report.step}: loss {report.loss}, gradient norm {report.gradient_norm}{named}",
                markup=False,
            )
        else:
            self._stopped(report)

    def _stopped(self, report: RunStopped) -> None:
        self._console.print(
            f"stopped   by {report.signal} after step {report.step}; --resume continues from {report.checkpoint}",
            markup=False,
            soft_wrap=True,
        )

    def _start(self, start: RunStart) -> None:
        model, survey = self._config.model, start.survey
        line = self._console.print
        line(f"network   {model.network}, {start.parameter_count:,} parameters")
        context = "the whole utterance" if model.sees_whole_utterance else "all before"
        if model.lookahead_frames:
            context += f" and {model.lookahead_frames} frames ahead"
        field_ms = round(1000 * start.receptive_field_s)
        line(f"sees      {field_ms} ms in a frame; through the {model.encoder} layers {context}")
        line(f"data      {survey.utterances} utterances, {survey.audio_s / 3600:.2f} h, {len(survey.tokens)} tokens")
        line(f"device    {start.device}, {start.precision}" + (" (no GPU found)" if self._fell_back(start) else ""))
        if start.processes > 1:
            line(f"shared    by {start.processes} processes")
        if start.transfer:
            self._transfer(start.transfer)
        if start.damaged_checkpoint:
            line(f"damaged   {start.damaged_checkpoint}; the checkpoint before it is used", markup=False)
        if start.resumed_at_epoch >= self._config.training.epochs:
            line(f"finished  all {start.resumed_at_epoch} epochs were trained before")
        elif start.resumed_at_step:
            line(f"resumed   after step {start.resumed_at_step}, in epoch {start.resumed_at_epoch + 1}")
        for utterance_id, reason in list(survey.skipped.items())[:10]:
            line(f"left out  {utterance_id}: {reason}", markup=False)
        if survey.skipped_utterances > 10:
            line(f"left out  {survey.skipped_utterances - 10} more; `asr check` names utterances that do not fit")

    def _transfer(self, transfer: Transfer) -> None:
        line = self._console.print
        line(
            f"taken     {len(transfer.taken)} tensors of {transfer.source}; "
            f"{transfer.shared_tokens} of {transfer.tokens} tokens are known there",
            markup=False,
            soft_wrap=True,
        )
        parts: dict[str, list[str]] = {}
        for name in transfer.left:
            parts.setdefault(part_of(name), []).append(name)
        for part, (name, *others) in parts.items():
            more = f", and {len(others)} more there" if others else ""
            line(
                f"left      {part}: {name.removeprefix(f'{part}.')}: {transfer.left[name]}{more}",
                markup=False,
                soft_wrap=True,
            )
        if "layers.0" in parts and not any(name.startswith("layers.") for name in transfer.taken):
            settings = transfer.source / CONFIG
            line(
                f"note      no layer fits; --config {settings} takes that model's settings",
                markup=False,
                soft_wrap=True,
            )

    def _fell_back(self, start: RunStart) -> bool:
        return start.device == "cpu" and self._config.training.accelerator == "auto"

    def _epoch(self, report: EpochReport) -> None:
        dev = f"   dev WER {100 * report.dev.rate:6.2f} %{' *' if report.best else '  '}" if report.dev else ""
        self._console.print(
            f"epoch {report.epoch + 1:3d}/{self._config.training.epochs}   loss {report.loss:6.3f}{dev}"
            f"   {report.train_s + report.dev_s:5.1f} s",
            highlight=False,
        )
