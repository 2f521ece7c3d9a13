"""Settings, ranges of some of them, and data → the settings that do best on dev, by many short and few long trainings.

Each training is `asr train` in a process of its own: memory that runs out ends one training and not the search.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.bundle.files import CHECKPOINTS, TRAINING_LOG
from asr.config import Config
from asr.corpus.manifest import find_split
from asr.errors import ConfigError, ExitStatus, ModelError
from asr.machine import LoggedCommands
from asr.preparing.download import file_digest
from asr.reading import parse_json, read_lines
from asr.settings_file import load_config, save_config
from asr.training.checkpoint import LAST, read_state
from asr.training.loop import only_run_in
from asr.training.run import WITHOUT_INFLUENCE
from asr.tuning.ranges import Range, Values, read_ranges, values_in, with_values
from asr.tuning.search_report import SearchReport, write_report
from asr.tuning.trials import Outcome, Plan, Training, Trial, Trials

_WAIT_S = 1.0  # until it is looked again whether another process has finished
_STOPPED = (ExitStatus.STOPPED, ExitStatus.INTERRUPTED, 128 + 15)
_KILLED = 128 + 9


@dataclass(frozen=True)
class TrainingDone:
    """What `search` reports after each training: which it was, what came of it, how many of the round are left."""

    training: Training
    trial: Trial
    left_in_round: int


def search(
    ranges: str | os.PathLike[str],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: Config | str | os.PathLike[str] | None = None,
    trials: int = 16,
    seeds: int = 3,
    minutes: float | None = None,
    on_training: Callable[[TrainingDone], object] = lambda _: None,
) -> SearchReport:
    """Search for better settings on dev, by successive halving: `asr/tuning/trials.py` has the rule.

    The same call continues an interrupted search. Several processes may make the same call at once and share the work.
    Trainings that fail are counted and listed. `out` gets a table, a picture, JSON and the best settings.

    Args:
        ranges: a file of ranges, see `asr/tuning/ranges.py`.
        data: the folder with the splits `train` and `dev`.
        out: a folder for the trainings and the results.
        config: all other settings, or a YAML file with some of them; the first candidate is this one as it is.
        trials: number of candidates in the first round; fewer if the ranges do not hold as many.
        seeds: number of trainings of each candidate in the last round.
        minutes: no training begins later than this after the call.
        on_training: called after each training of this process.

    Returns:
        What was found. `stopped` is set if the search is not finished.

    Raises:
        ConfigError: the ranges or a setting are not acceptable, or `out` holds a search with others.
        DependencyError: optuna is not installed.
        ManifestError: a split is missing.
        ModelError: the checkpoint of a finished training cannot be read.
        TrainingError: all trainings fail, or another process is training in the folder of one of them.
        AsrError: `out` cannot be used.
    """
    began = time.monotonic()
    if trials < 1 or seeds < 1:
        raise ConfigError(f"trials={trials}, seeds={seeds}: at least 1 of each is needed")
    base = config if isinstance(config, Config) else load_config(config)
    found = read_ranges(Path(ranges), base)
    start = values_in(base, found)
    count = min(trials, _values_to_try(found, start))
    settings = base.training
    plan = Plan.of(int(count), settings.epochs, range(settings.seed, settings.seed + seeds))
    journal = Trials(Path(out), found, _facts(found, base, Path(data), plan))
    run = _Search(journal, plan, base, start, Path(data), on_training)
    run.remove_finished_checkpoints()
    deadline = None if minutes is None else began + 60 * minutes
    stopped = not run.to_the_end(deadline)
    report = SearchReport(Path(out), found, base, plan, journal.all(), stopped)
    write_report(report)
    return report


def _values_to_try(ranges: tuple[Range, ...], start: Values) -> float:
    """Return how many candidates there can be: all combinations, and the given settings if they are none of them."""
    count = 1.0
    for one in ranges:
        count *= one.count
    return count + any(start[one.name] not in one for one in ranges)


def _facts(ranges: tuple[Range, ...], base: Config, data: Path, plan: Plan) -> dict[str, Any]:
    """Return what distinguishes a search from others: all that its results depend on."""
    splits = {split: find_split(data, split) for split in ("train", "dev")}
    facts = {
        "ranges": {one.name: one.written() for one in ranges},
        "settings": base.model_dump(mode="json", exclude=WITHOUT_INFLUENCE),
        "data": {split: file_digest(path) if path.is_file() else str(path) for split, path in splits.items()},
        "trials": plan.candidates,
        "seeds": len(plan.seeds),
    }
    as_read: dict[str, Any] = json.loads(json.dumps(facts))
    return as_read


@dataclass(frozen=True)
class _Search:
    """A search that runs."""

    journal: Trials
    plan: Plan
    base: Config
    start: Values
    data: Path
    on_training: Callable[[TrainingDone], object]

    def to_the_end(self, deadline: float | None) -> bool:
        """Train what is to be trained; return False if a signal or the time ended this before the search's end."""
        while left := self.plan.unfinished(self.journal.all()):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            with self.journal.claimed(self.plan, self.start) as training:
                if training is None:
                    time.sleep(_WAIT_S)
                    continue
                outcome = self.train(training, self.journal.all()[training].values)
                if outcome is None:
                    return False
                self.journal.finish(training, outcome)
            self.remove_checkpoints(training)
            self.on_training(TrainingDone(training, self.journal.all()[training], len(left) - 1))
        return True

    def train(self, training: Training, values: Values) -> Outcome | str | None:
        """Do one training, or continue it; return its outcome, why it failed, or None if it was stopped."""
        folder = self.journal.folder / training.name
        own = {**values, "training.epochs": training.epochs, "training.seed": training.seed}
        try:
            config = with_values(self.base, own, training.name)
        except ConfigError as error:
            return str(error)
        with only_run_in(folder):  # or a training that outlived its search would make this one fail
            pass
        return train_candidate(config, self.data, folder)

    def remove_finished_checkpoints(self) -> None:
        """Remove the checkpoints of finished trainings that a killed process has left."""
        for training, trial in self.journal.all().items():
            if trial.finished:
                self.remove_checkpoints(training)

    def remove_checkpoints(self, training: Training) -> None:
        """Remove the state of a finished training, which takes several times the space of its model."""
        shutil.rmtree(self.journal.folder / training.name / CHECKPOINTS, ignore_errors=True)


def train_candidate(config: Config, data: Path, folder: Path) -> Outcome | str | None:
    """Train a model in a process of its own, or continue that; return its outcome, why it failed, or None if stopped.

    Args:
        config: all settings.
        data: the folder with the splits.
        folder: the model folder. Beside it are its settings, `NAME.yaml`, and what the training printed, `NAME.log`.

    Raises:
        ModelError: the checkpoint of the finished training cannot be read.
        KeyboardInterrupt: Ctrl-C was pressed before the training could end in good order.
    """
    settings, log = folder.with_name(f"{folder.name}.yaml"), folder.with_name(f"{folder.name}.log")
    save_config(config, settings)
    with LoggedCommands(log, lambda _: None, append=True) as commands:
        command = [sys.executable, "-m", "asr", "train", "--config", settings, "--data", data, "--out", folder]
        status = commands.run([*map(str, command), "--resume"])
    if status in _STOPPED:
        return None
    if status == _KILLED:
        return "killed, perhaps because the memory was full"
    if status != ExitStatus.DONE:
        lines = list(read_lines(log, ModelError, "the log"))
        errors = [line for line in lines if line.startswith("error: ")] or [f"exit status {status}, see {log}"]
        return errors[-1].removeprefix("error: ")
    return _outcome(folder)


def _outcome(folder: Path) -> Outcome:
    """Return how well the model of a finished training does on dev."""
    path = folder / CHECKPOINTS / LAST
    best = read_state(path).best
    if best is None:
        raise ModelError(f"{path}: holds no score on dev; remove {folder}, and the search trains it again")
    kept, log = best.kept, folder / TRAINING_LOG
    epochs = [parse_json(line, ModelError, str(log)) for line in read_lines(log, ModelError, "the log of the training")]
    return Outcome(
        rate=kept.rate,
        cer=kept.characters.rate,
        loss=kept.loss,
        by_characters=kept.by_characters,
        unit_errors=kept.unit_errors,
        unit_lengths=kept.unit_lengths,
        utterances=kept.utterances,
        seconds=sum(epoch["train_s"] + epoch["dev_s"] for epoch in epochs),
    )
