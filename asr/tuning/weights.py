"""The errors on a dev set under many settings → the settings to search with: LM weight, insertion bonus, beam size.

What counts the errors is given, see `dev_search.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, TypeAlias

from asr.config import DecodeSettings

# First a coarse grid that covers the best weights of most models; it grows where the best is on its edge. Then a finer
# grid around the best. Word n-grams need more weight than token n-grams.
LM_WEIGHTS: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
INSERTION_BONUSES: tuple[float, ...] = (-0.5, 0.0, 0.5, 1.0, 1.5)
LM_WEIGHT_LIMITS = (0.0, 3.0)
INSERTION_BONUS_LIMITS = (-2.0, 3.0)
LM_WEIGHT_STEP = 0.1
INSERTION_BONUS_STEP = 0.25
BEAM_SIZES = (4, 8, 16, 32)
# While the weights are chosen. It is wide enough that errors come from the weights, not from the beam.
WEIGHTS_BEAM_SIZE = 16
# Chance changes a count of n errors by about √n. It changes the difference of two counts on the same utterances by
# about half as much, because most errors are the same. What wins on dev by no more than that does not win elsewhere.
# Measured: settings were chosen on half the speakers of a dev set of 100 utterances and tried on the other half, for
# four models and all halves. Those with the fewest errors made 6 % more errors there than the most usual of those
# within chance.
CHANCE = 0.5
USUAL = {"lm_weight": 0.5, "insertion_bonus": 0.5}
CHOSEN = ("lm_weight", "insertion_bonus", "beam_size")
# Chosen too if the settings use it. These values are tried, and the settings' own.
RNN_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)
FURTHER: dict[str, tuple[float, ...]] = {
    "oov_penalty": (0.0, 2.0, 4.0, 6.0, 8.0, 12.0),
    "rnn_weight": RNN_WEIGHTS,
    "rescore_weight": RNN_WEIGHTS,
}


class Trial(NamedTuple):
    """The errors made with one choice of what is tuned."""

    lm_weight: float
    insertion_bonus: float
    beam_size: int
    oov_penalty: float | None
    rnn_weight: float
    rescore_weight: float
    errors: int


Point: TypeAlias = tuple[float | None, ...]
"""A `Trial` without the errors."""

CountErrors = Callable[[str, Sequence[DecodeSettings]], Sequence[int]]


@dataclass(frozen=True)
class Choice:
    """The settings that were chosen, and how.

    Attributes:
        best: the settings.
        trials: all that was tried, in order.
        chosen: the names of the settings that were chosen; all others stayed.
    """

    best: DecodeSettings
    trials: tuple[Trial, ...]
    chosen: tuple[str, ...]

    def errors(self, lm_weight: float, insertion_bonus: float, beam_size: int) -> int:
        """Return the errors of one trial; what is not given is as in the best settings."""
        point = (lm_weight, insertion_bonus, beam_size, *_point(self.best)[3:])
        return next(trial.errors for trial in self.trials if trial[:-1] == point)

    @property
    def surface(self) -> tuple[Trial, ...]:
        """The trials of all weights and bonuses; everything else is as in the best settings."""
        others = (WEIGHTS_BEAM_SIZE, *_point(self.best)[3:])
        return tuple(trial for trial in self.trials if trial[2:-1] == others)

    def to_json(self, words: int) -> dict[str, Any]:
        """Return the content of `tune.json`; `words` is how many words the references have."""
        return {
            "words": words,
            "chosen": self.best.model_dump(mode="json"),
            "trials": [trial._asdict() | {"wer": trial.errors / words} for trial in self.trials],
        }


def _further(settings: DecodeSettings) -> list[str]:
    """Return which of `FURTHER` the settings use."""
    used = {
        "oov_penalty": settings.lm == "words" and settings.oov_penalty is not None,
        "rnn_weight": settings.rnn_weight > 0,
        "rescore_weight": settings.rescore_weight > 0,
    }
    return [name for name in FURTHER if used[name]]


def choose_settings(count_errors: CountErrors, settings: DecodeSettings) -> Choice:
    """Return settings that make few errors on a dev set: all of `CHOSEN`, and those of `FURTHER` that are in use.

    The weights come first. Among weights whose error counts differ by no more than chance, those nearest to `USUAL` are
    kept. Then each setting of `FURTHER` is chosen in the same way, nearest to its given value, and then the weights
    once more. At last the smallest beam with the fewest errors is kept, because a larger beam takes longer.

    Args:
        count_errors: returns the dev set's errors under each of several settings. Its first argument says in words what
            is being chosen. It is asked about 40 to 80 settings, so it should search log-posteriors computed once.
        settings: everything that is not chosen is taken from here.
    """
    tried = _Trials(count_errors, settings)
    best = tried.grid((WEIGHTS_BEAM_SIZE, *_point(settings)[3:]))
    names = _further(settings)
    for name in names:
        given = getattr(settings, name)
        line = tried.points(name, [best._replace(**{name: value})[:-1] for value in (given, *FURTHER[name])])
        best = _best(line, {name: given})
    best = tried.grid(best[2:-1])
    around_weight = _around(best.lm_weight, LM_WEIGHT_STEP, LM_WEIGHT_LIMITS)
    around_bonus = _around(best.insertion_bonus, INSERTION_BONUS_STEP, INSERTION_BONUS_LIMITS)
    best = tried.weights("weights around the best", around_weight, around_bonus, best[2:-1])
    beams = tried.points("beam size", [best._replace(beam_size=size)[:-1] for size in BEAM_SIZES])
    best = min(beams, key=lambda trial: (trial.errors, trial.beam_size))
    return Choice(_with(settings, best[:-1]), tuple(tried.all.values()), (*CHOSEN, *names))


class _Trials:
    """All that was tried so far. Nothing is tried twice."""

    def __init__(self, count_errors: CountErrors, settings: DecodeSettings) -> None:
        self._count_errors, self._settings = count_errors, settings
        self.all: dict[Point, Trial] = {}

    def points(self, what: str, points: Sequence[Point]) -> list[Trial]:
        """Return the trials of some points; `what` says in words what is being chosen."""
        new = [point for point in points if point not in self.all]
        if new:
            counts = self._count_errors(what, [_with(self._settings, point) for point in new])
            self.all.update((point, Trial._make((*point, count))) for point, count in zip(new, counts, strict=True))
        return [self.all[point] for point in points]

    def weights(self, what: str, lm_weights: Iterable[float], bonuses: Iterable[float], others: Point) -> Trial:
        """Try all pairs of LM weight and bonus; return the best trial so far with the `others`."""
        self.points(what, [(*pair, *others) for pair in product(lm_weights, bonuses)])
        return _best([trial for trial in self.all.values() if trial[2:-1] == others], USUAL)

    def grid(self, others: Point) -> Trial:
        """Try the coarse grid, which grows while the best is on its edge; return the best trial."""
        lm_weights, bonuses = LM_WEIGHTS, INSERTION_BONUSES
        best = self.weights("weights", lm_weights, bonuses, others)
        while True:
            grid = lm_weights, bonuses
            lm_weights = _widened(lm_weights, best.lm_weight, LM_WEIGHT_LIMITS)
            bonuses = _widened(bonuses, best.insertion_bonus, INSERTION_BONUS_LIMITS)
            if grid == (lm_weights, bonuses):
                return best
            best = self.weights("weights beyond", lm_weights, bonuses, others)


def _best(trials: Sequence[Trial], usual: Mapping[str, float]) -> Trial:
    """Return the trial nearest to the usual values, among those within chance of the fewest errors."""
    steps = {"lm_weight": LM_WEIGHT_STEP, "insertion_bonus": INSERTION_BONUS_STEP}

    def distance(trial: Trial) -> float:
        away = [(getattr(trial, name) - value) / steps.get(name, 1.0) for name, value in usual.items()]
        return round(math.hypot(*away), 6)

    fewest = min(trial.errors for trial in trials)
    equal = [trial for trial in trials if trial.errors <= fewest + CHANCE * math.sqrt(fewest)]
    return min(equal, key=lambda trial: (distance(trial), trial.errors, trial))


def _widened(values: tuple[float, ...], best: float, limits: tuple[float, float]) -> tuple[float, ...]:
    """Return evenly spaced values, with one more at each end that is the best value."""
    step = values[1] - values[0]
    lower = (values[0] - step,) if best == values[0] > limits[0] else ()
    upper = (values[-1] + step,) if best == values[-1] < limits[1] else ()
    return _rounded((*lower, *values, *upper))


def _around(best: float, step: float, limits: tuple[float, float]) -> tuple[float, ...]:
    return tuple(value for value in _rounded((best - step, best, best + step)) if limits[0] <= value <= limits[1])


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return values with as many digits as tell them apart, which read well in a file."""
    return tuple(round(value, 6) for value in values)


def _point(settings: DecodeSettings) -> Point:
    return tuple(getattr(settings, name) for name in (*CHOSEN, *FURTHER))


def _with(settings: DecodeSettings, point: Point) -> DecodeSettings:
    return settings.model_copy(update=dict(zip((*CHOSEN, *FURTHER), point, strict=True)))
