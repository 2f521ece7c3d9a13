"""Which trainings a search needs, which are done, and what came of them: in a journal that any kill leaves whole.

A candidate is one value for each setting that is searched over. Successive halving: all candidates are trained for a
ninth of the epochs, the better third of them for a third, and the better third of those for all epochs, with several
seeds. Each training is a whole run of its own. A run for all epochs cannot continue a short one, because the learning
rate falls to 0 within the epochs that a run has.

Candidate 0 has the settings that were given. It reaches the last round too, which then shows what the search gained.

The journal is optuna's. A line has all of a change, and a line that was cut off is removed. Several processes may share
a search: each holds a lock on the training that it does, which the operating system releases if the process dies.

Source: Jamieson & Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization".
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from asr.errors import AsrError, ConfigError, DependencyError, TrainingError
from asr.records import checked
from asr.training.dev_score import SAYS_NOTHING
from asr.tuning.ranges import Range, Values, draw, parameters

THIRD = 3  # one of three candidates comes into the next round, which has three times the epochs
_HOPELESS = 3  # trainings at the beginning that all fail
_HIGHEST_LOSS = 1e6  # in place of an infinite one, which JSON does not have
_JOURNAL, _LOCK = "journal.log", "journal.lock"


@dataclass(frozen=True)
class Outcome:
    """How well a trained model does on dev, by greedy search.

    Attributes:
        rate: the main figure: the word error rate, or in scripts without spaces the character error rate.
        cer: the character error rate.
        loss: CTC loss per token, in nats.
        by_characters: whether the main figure is the character error rate.
        unit_errors: the errors of each speaker, or of each utterance where too few speakers are known.
        unit_lengths: the lengths of their references.
        utterances: how many dev has.
        seconds: that the training took.
    """

    rate: float
    cer: float
    loss: float
    by_characters: bool
    unit_errors: Sequence[int]
    unit_lengths: Sequence[int]
    utterances: int
    seconds: float

    @property
    def merit(self) -> float:
        """What candidates are ordered by, lower is better: the rate; where it says nothing, the CER; then the loss."""
        if self.rate <= SAYS_NOTHING:
            return self.rate
        return 1 + self.cer if self.cer <= SAYS_NOTHING else 2 + min(self.loss, _HIGHEST_LOSS)


class Training(NamedTuple):
    """One training: the number of its candidate, its epochs and its seed."""

    candidate: int
    epochs: int
    seed: int

    @property
    def name(self) -> str:
        """That of its model folder."""
        return f"{self.candidate:03d}-{self.epochs}epochs-seed{self.seed}"


@dataclass(frozen=True)
class Trial:
    """What is known of a training: its values, and once it is finished its outcome, or why it failed."""

    values: Values
    outcome: Outcome | None = None
    failure: str | None = None

    @property
    def finished(self) -> bool:
        """Whether it need not be trained any more."""
        return self.outcome is not None or self.failure is not None


@dataclass(frozen=True)
class Plan:
    """How many candidates are tried, with which epochs from round to round, and with which seeds in the last one."""

    candidates: int
    epochs: tuple[int, ...]
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, candidates: int, epochs: int, seeds: Sequence[int]) -> Plan:
        """Return the plan for a number of candidates: three rounds from 9 candidates on, two from 3 on, else one."""
        shares = [share for share in (THIRD * THIRD, THIRD, 1) if share <= max(1, candidates)]
        return cls(candidates, tuple(sorted({math.ceil(epochs / share) for share in shares})), tuple(seeds))

    def round(self, place: int, numbers: Sequence[int]) -> list[Training]:
        """Return the trainings of a round with these candidates."""
        seeds = self.seeds if place == len(self.epochs) - 1 else self.seeds[:1]
        return [Training(number, self.epochs[place], seed) for number in numbers for seed in seeds]

    def numbers(self, place: int, trials: Mapping[Training, Trial]) -> list[int]:
        """Return the candidates of a round: in the first all, later the better third and, beside it, number 0.

        Those that failed are left out.

        Raises:
            TrainingError: all failed.
        """
        if place == 0:
            return list(range(self.candidates))
        before = self.round(place - 1, self.numbers(place - 1, trials))
        merits = [(outcome.merit, item.candidate) for item in before if (outcome := trials[item].outcome) is not None]
        if not merits:
            raise TrainingError(f"all trainings of the search failed; the first: {trials[before[0]].failure}")
        best = sorted(pair for pair in merits if pair[1])[: math.ceil(self.candidates / THIRD**place)]
        return sorted(number for merit, number in merits if (merit, number) in best or number == 0)

    def unfinished(self, trials: Mapping[Training, Trial]) -> list[Training]:
        """Return what is still to be trained in the round that is not finished; nothing if the search is.

        Raises:
            TrainingError: all trainings of a round failed, or the first three of the search.
        """
        finished = [trial for trial in trials.values() if trial.finished]
        if len(finished) >= _HOPELESS and all(trial.failure is not None for trial in finished):
            raise TrainingError(f"the first {len(finished)} trainings of the search failed: {finished[0].failure}")
        for place in range(len(self.epochs)):
            wanted = self.round(place, self.numbers(place, trials))
            if left := [item for item in wanted if item not in trials or not trials[item].finished]:
                return left
        return []

    @property
    def most_epochs(self) -> int:
        """How many epochs all trainings have, if none fails."""
        counts = [math.ceil(self.candidates / THIRD**place) + (place > 0) for place in range(len(self.epochs))]
        return sum(item.epochs for place, count in enumerate(counts) for item in self.round(place, range(count)))


class Trials:
    """The journal of a search: its trainings, in the folder of their models."""

    def __init__(self, folder: Path, ranges: Sequence[Range], facts: Mapping[str, Any]) -> None:
        """Open the journal of a folder, or begin one.

        Args:
            folder: it is made if it does not exist.
            ranges: what is searched over.
            facts: JSON values that distinguish this search from others.

        Raises:
            ConfigError: the folder holds a search with other facts; the message names what differs.
            DependencyError: optuna is not installed.
            AsrError: the folder's file system has no locks, or the journal is damaged.
        """
        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise DependencyError("asr search needs the package optuna: pip install 'asr[search]'") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder = folder
        self._ranges = ranges
        folder.mkdir(parents=True, exist_ok=True)
        path, self._lock = folder / _JOURNAL, FileLock(folder / "search.lock")
        try:
            with self._lock:
                _remove_cut_off_line(path)
                backend = JournalFileBackend(str(path), lock_obj=FileLock(folder / _LOCK))
                self._storage = JournalStorage(backend)
                self._study = optuna.create_study(storage=self._storage, study_name="search", load_if_exists=True)
                self._keep_or_compare(facts)
        except NotImplementedError:
            raise AsrError(f"{folder}: this file system has no locks; choose another --out") from None
        except (ValueError, KeyError, TypeError) as error:
            raise AsrError(f"{path}: damaged ({error}); choose another --out") from None

    def _keep_or_compare(self, facts: Mapping[str, Any]) -> None:
        before = self._study.user_attrs.get("facts")
        if before is None:
            self._study.set_user_attr("facts", facts)
        elif before != facts:
            names = [name for name in facts if before.get(name) != facts[name]]
            raise ConfigError(f"{self.folder}: holds a search with other {', '.join(names)}; choose another --out")

    def all(self) -> dict[Training, Trial]:
        """Return what is known of each training, in the order in which they were begun."""
        found = {}
        for trial in self._study.get_trials(deepcopy=False):
            given, result = trial.user_attrs, trial.user_attrs.get("result")
            outcome, failure = None, None
            if trial.state.is_finished():
                failure = trial.user_attrs.get("failure")
                if failure is None:
                    outcome = checked(Outcome, result, self.folder / _JOURNAL, AsrError, "choose another --out")
            found[Training(*given["training"])] = Trial(given["values"], outcome, failure)
        return found

    @contextmanager
    def claimed(self, plan: Plan, base: Values) -> Iterator[Training | None]:
        """Yield a training that this process is to do now, and keep others from it until the `with` statement ends.

        Args:
            plan: of the search.
            base: the values of candidate 0.

        Yields:
            The training; None if all that can be done now is done, or other processes are doing it.
        """
        lock = None
        with self._lock:
            trials = self.all()
            for training in plan.unfinished(trials):
                wanted = FileLock(self.folder / f"{training.name}.lock")
                try:
                    wanted.acquire(blocking=False)
                except Timeout:
                    continue
                lock = wanted
                if training not in trials:
                    self._add(training, self._values(training, plan, base, trials))
                break
        try:
            yield training if lock is not None else None
        finally:
            if lock is not None:
                with self._lock:
                    lock.release()
                    Path(lock.lock_file).unlink(missing_ok=True)

    def _values(self, training: Training, plan: Plan, base: Values, trials: Mapping[Training, Trial]) -> Values:
        """Return the values of a candidate; those of a new one are drawn."""
        known = {item.candidate: trial.values for item, trial in trials.items()}
        if training.candidate in known or training.candidate == 0:
            return known.get(training.candidate, base)
        first = [(item, trial) for item, trial in sorted(trials.items()) if item.epochs == plan.epochs[0]]
        before = [(trial.values, trial.outcome.merit if trial.outcome else None) for _, trial in first]
        return draw(self._ranges, before, seed=plan.seeds[0] + 7919 * training.candidate)

    def _add(self, training: Training, values: Values) -> None:
        """Write down, in one line, that a training is begun."""
        from optuna.trial import TrialState, create_trial

        inside = all(values[one.name] in one for one in self._ranges)
        trial = create_trial(
            state=TrialState.RUNNING,
            params=parameters(self._ranges, values) if inside else {},
            distributions={one.name: one.distribution() for one in self._ranges} if inside else {},
            user_attrs={"training": list(training), "values": values},
        )
        self._study.add_trial(trial)

    def finish(self, training: Training, outcome: Outcome | str) -> None:
        """Write down what came of a training: its outcome, or why it failed."""
        from optuna.trial import TrialState

        with self._lock:
            (trial,) = (
                trial
                for trial in self._study.get_trials(deepcopy=False)
                if trial.user_attrs["training"] == list(training)
            )
            if isinstance(outcome, str):
                self._storage.set_trial_user_attr(trial._trial_id, "failure", outcome)
                self._study.tell(trial.number, state=TrialState.FAIL)
            else:
                self._storage.set_trial_user_attr(trial._trial_id, "result", asdict(outcome))
                self._study.tell(trial.number, outcome.merit)


def _remove_cut_off_line(path: Path) -> None:
    """Remove what a killed process wrote of a line; what is appended would else become a part of it."""
    if path.exists():
        with path.open("rb+") as file:
            text = file.read()
            file.truncate(text.rfind(b"\n") + 1)
            os.fsync(file.fileno())
