"""The log of a language model's training: a line per epoch, curves with a point per step."""

from __future__ import annotations

from dataclasses import asdict

from asr.training.lm_reports import LmEpoch, LmStep
from asr.training.log import TrainingLog, append_line


class LmLog(TrainingLog):
    """`log.jsonl` and TensorBoard curves like those of acoustic training, with perplexities."""

    def lm_step(self, report: LmStep) -> None:
        """Add a point to each curve; a skipped step has none."""
        if not report.skipped:
            names = ("loss", "gradient_norm", "learning_rate")
            self._points({f"train/{name}": getattr(report, name) for name in names}, report.step)

    def lm_epoch(self, report: LmEpoch) -> None:
        """Add a line to `log.jsonl` and a point to the dev curve."""
        append_line(self._epochs, asdict(report) | {"dev": report.dev._asdict()})
        self._points({"dev/perplexity": report.dev.perplexity}, report.epoch)
