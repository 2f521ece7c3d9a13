"""The log of a language model's training: a line per epoch, curves with a point per step."""

from __future__ import annotations

import json
from dataclasses import asdict

from asr.training.lm_reports import LmEpoch, LmStep
from asr.training.log import TrainingLog


class LmLog(TrainingLog):
    """`log.jsonl` and TensorBoard curves like those of acoustic training, with perplexities."""

    def lm_step(self, report: LmStep) -> None:
        """Add a point to each curve; a skipped step has none."""
        if not report.skipped:
            for name in ("loss", "gradient_norm", "learning_rate"):
                self._curves.add_scalar(f"train/{name}", getattr(report, name), report.step)

    def lm_epoch(self, report: LmEpoch) -> None:
        """Add a line to `log.jsonl` and a point to the dev curve."""
        record = asdict(report) | {"dev": report.dev._asdict()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self._curves.add_scalar("dev/perplexity", report.dev.perplexity, report.epoch)
