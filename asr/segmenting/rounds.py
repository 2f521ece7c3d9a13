"""What was found so far → the model of the next round.

Source: Katsamanis et al. 2011, "SailAlign: robust long speech-text alignment" (a model adapted to what is aligned
already aligns the rest).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from asr.bundle.settings import load_settings
from asr.config import Config
from asr.corpus.manifest import distinct, find_splits, read_manifest, write_manifest
from asr.corpus.splits import SplitRule, divide
from asr.errors import ManifestError, TrainingError
from asr.machine import Progress
from asr.settings_file import load_config
from asr.training.reports import EpochReport, Report
from asr.training.trainer import train

_DEV_SHARE = 0.1
# A round with little audio gets more epochs, so that it hears this much. AN4's 40 minutes are heard for 80 hours.
_LEAST_HEARD_H = 30.0
_MOST_EPOCHS = 500


@dataclass(frozen=True)
class Round:
    """A round of training.

    Attributes:
        folder: for its data and its model.
        start: a model folder whose weights it begins with; None: random weights.
        config: settings, or a YAML file with some of them; None: those of `start`, or the defaults.
        progress: shows how far it is.
    """

    folder: Path
    start: Path | None
    config: Config | str | os.PathLike[str] | None
    progress: Progress

    @property
    def settings(self) -> Config:
        """All settings of the training."""
        if isinstance(self.config, Config):
            return self.config
        if self.config is not None:
            return load_config(self.config)
        return Config() if self.start is None else load_settings(self.start)


def train_round(plan: Round, found: Mapping[str, Path] | None, timed: Path | None) -> Path:
    """Return the model folder of a round; a round that was interrupted goes on.

    It trains on all that was found, except what is kept for dev, and on the utterances that have times.

    Args:
        plan: the round.
        found: the manifests of what was found, by split; None if nothing was looked for yet.
        timed: a data folder of utterances with times; its test set is left alone.

    Raises:
        ManifestError: there is too little to train on.
        TrainingError, ConfigError, AudioError: as `asr.train`.
    """
    given = {} if timed is None else {split: list(read_manifest(path)) for split, path in find_splits(timed).items()}
    training = [*given.get("train", []), *(cut for path in (found or {}).values() for cut in read_manifest(path))]
    dev = given.get("dev", [])
    if not training:
        raise ManifestError(f"{timed or plan.folder}: no utterances to train on")
    if not dev:
        drawn = divide(training, SplitRule("utterance", dev_share=_DEV_SHARE, test_share=0.0))
        training, dev = drawn["train"], drawn["dev"]
    held_out = {cut.id for cut in [*dev, *given.get("test", [])]}
    data, model = plan.folder / "data", plan.folder / "model"
    write_manifest(distinct(cut for cut in training if cut.id not in held_out), data / "train.jsonl.gz")
    write_manifest(distinct(dev), data / "dev.jsonl.gz")
    settings = with_enough_epochs(plan.settings, sum(cut.duration for cut in training) / 3600)
    with plan.progress(f"train, round {plan.folder.name}", settings.training.epochs) as advance:

        def show(report: Report) -> None:
            if isinstance(report, EpochReport):
                advance(1)

        result = train(settings, data, model, resume=True, init_from=plan.start, on_report=show)
    if result.stopped_by is not None:
        raise TrainingError(f"{model}: stopped by {result.stopped_by}; the same command goes on where it stopped")
    return model


def with_enough_epochs(config: Config, hours: float) -> Config:
    """Return settings with enough epochs to hear `_LEAST_HEARD_H` hours, at most `_MOST_EPOCHS`; never with fewer."""
    needed = min(round(_LEAST_HEARD_H / max(hours, 1e-6)), _MOST_EPOCHS)
    epochs = max(config.training.epochs, needed)
    return config.model_copy(update={"training": config.training.model_copy(update={"epochs": epochs})})
