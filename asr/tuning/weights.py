"""How well dev is recognised under many settings → the settings to search with: LM weight and insertion bonus.

Weights are chosen by a loss, not by errors: one error more or less in a hundred utterances is chance, and the settings
with the fewest errors on dev are not those with the fewest elsewhere. An utterance's loss is the negative logarithm of
its transcript's posterior probability among the hypotheses, at most `MOST_NATS`, plus `NATS_OF_ERROR` for each error
that is to be expected under these posteriors. The first term tells settings apart before a word changes. The second one
remains where no list of hypotheses holds the transcript, as with long utterances.

Weights whose losses differ by no more than chance are equally good, and of these the most usual ones are taken. Chance
is one standard error of the paired difference from the lowest loss, over speakers where at least five are known, else
over utterances.

`benchmarks/tuning.py` judges this. Weights were chosen on half of the speakers and tried on the other half, 100 times
for each of four models: the quickstart's, and AN4's after 20, 53 and 120 epochs (AN4: dev only; quickstart: dev and
test). The first column is the mean change of the word error rate, absolute, against the usual weights, which suit these
models; the second one is the share of the draws that lose more than 0.3 %. The third one is the mean change from seven
other starts, which do not suit them.

    this loss, within one standard error            0.02 %    5 %   0.39 %
    errors, within half the root of their number    0.02 %    8 %   0.42 %
    errors, within one standard error               0.06 %   13 %   0.50 %
    fewest errors                                   0.27 %   27 %   0.44 %
    the usual weights                               0         0     0.74 %

Worse than this loss were expected errors alone, the posterior without a bound, with any scale of the scores, and a
smoothed surface or a quadratic fitted to it.

The beam size is not chosen. A wider beam finds what a narrower one misses, and dev sees too little of it: the smallest
beam without more errors on one half of the speakers made up to 0.4 % more errors on the other.

Sources: Och & Ney 2002, "Discriminative training and maximum entropy models for statistical machine translation"
(weights by the posterior of the reference); Breiman et al. 1984, "Classification and regression trees", section 3.4.3
(one standard error).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.scoring.error_counts import RATE_NAMES, Unit
from asr.scoring.intervals import difference_margin
from asr.search_config import DecodeSettings

# First a coarse grid that covers the best weights of most models; it grows where the best is on its edge. Then a finer
# grid around the best. Word n-grams need more weight than token n-grams.
LM_WEIGHTS: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
INSERTION_BONUSES: tuple[float, ...] = (-0.5, 0.0, 0.5, 1.0, 1.5)
LM_WEIGHT_LIMITS = (0.0, 3.0)
INSERTION_BONUS_LIMITS = (-2.0, 3.0)
LM_WEIGHT_STEP = 0.1
INSERTION_BONUS_STEP = 0.25
BEAM_SIZES = (4, 8, 16, 32)  # tried with the weights that were chosen, to be seen
MOST_NATS = 7.0  # a posterior of 0.001: what is less probable is as good as missed
NATS_OF_ERROR = 0.25
CHANCE = 0.68  # the probability of a difference of at most one standard error
USUAL = {"lm_weight": 0.5, "insertion_bonus": 0.5}
CHOSEN = ("lm_weight", "insertion_bonus")
# Chosen too if the settings use it. These values are tried, and the settings' own.
RNN_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8)
FURTHER: dict[str, tuple[float, ...]] = {
    "oov_penalty": (0.0, 2.0, 4.0, 6.0, 8.0, 12.0),
    "rnn_weight": RNN_WEIGHTS,
    "rescore_weight": RNN_WEIGHTS,
}


class Point(NamedTuple):
    """One choice of what is tuned."""

    lm_weight: float
    insertion_bonus: float
    beam_size: int
    oov_penalty: float | None
    rnn_weight: float
    rescore_weight: float

    @classmethod
    def of(cls, settings: DecodeSettings) -> Point:
        """Return the point at which settings are."""
        return cls(*(getattr(settings, name) for name in cls._fields))

    @property
    def others(self) -> tuple[float | None, ...]:
        """All but LM weight and insertion bonus."""
        return self[2:]

    def put_into(self, settings: DecodeSettings) -> DecodeSettings:
        """Return settings with the values of this point."""
        return settings.model_copy(update=self._asdict())


class Trial(NamedTuple):
    """What came of a point: the errors on dev, and the loss in nats."""

    point: Point
    errors: int
    loss: float


@dataclass(frozen=True)
class DevSet:
    """What errors and losses refer to.

    Attributes:
        unit: in what errors are counted: words, or in scripts without spaces characters.
        lengths: `(unit,)` length of each speaker's or utterance's references.
        drawn: what these units are, whose difference may be chance: "speakers" or "utterances".
    """

    unit: Unit
    lengths: NDArray[np.int64]
    drawn: str

    @property
    def length(self) -> int:
        """The length of all references."""
        return int(self.lengths.sum())


class Measured(NamedTuple):
    """A dev set under some settings: the errors, and the `(unit,)` losses of its units."""

    errors: int
    losses: NDArray[np.float64]


Measure = Callable[[str, Sequence[DecodeSettings]], Sequence[Measured]]


@dataclass(frozen=True)
class Choice:
    """The settings that were chosen, and how.

    Attributes:
        dev: what was measured on.
        best: the settings.
        trials: all that was tried, in order.
        chosen: the names of the settings that were chosen; all others stayed.
    """

    dev: DevSet
    best: DecodeSettings
    trials: tuple[Trial, ...]
    chosen: tuple[str, ...]

    def errors(self, lm_weight: float, insertion_bonus: float, beam_size: int) -> int:
        """Return the errors of one trial; what is not given is as in the best settings."""
        point = Point.of(self.best)._replace(lm_weight=lm_weight, insertion_bonus=insertion_bonus, beam_size=beam_size)
        return next(trial.errors for trial in self.trials if trial.point == point)

    @property
    def surface(self) -> tuple[Trial, ...]:
        """The trials of all weights and bonuses; everything else is as in the best settings."""
        others = Point.of(self.best).others
        return tuple(trial for trial in self.trials if trial.point.others == others)

    @property
    def beams(self) -> tuple[Trial, ...]:
        """The trials of all beam sizes, the narrowest first; everything else is as in the best settings."""
        best = Point.of(self.best)
        alike = [trial for trial in self.trials if trial.point._replace(beam_size=best.beam_size) == best]
        return tuple(sorted(alike, key=lambda trial: trial.point.beam_size))

    def to_json(self) -> dict[str, Any]:
        """Return the content of `tune.json`."""
        rate = RATE_NAMES[self.dev.unit].lower()
        return {
            f"{self.dev.unit}s": self.dev.length,
            "drawn": self.dev.drawn,
            "chosen": self.best.model_dump(mode="json"),
            "trials": [
                {**point._asdict(), "errors": errors, "loss": loss, rate: errors / self.dev.length}
                for point, errors, loss in self.trials
            ],
        }


def _further(settings: DecodeSettings) -> list[str]:
    """Return which of `FURTHER` the settings use."""
    used = {
        "oov_penalty": settings.lm == "words" and settings.oov_penalty is not None,
        "rnn_weight": settings.rnn_weight > 0,
        "rescore_weight": settings.rescore_weight > 0,
    }
    return [name for name in FURTHER if used[name]]


def choose_settings(measure: Measure, settings: DecodeSettings, dev: DevSet) -> Choice:
    """Return settings that suit a dev set: all of `CHOSEN`, and those of `FURTHER` that are in use.

    The weights come first. Among weights whose losses differ by no more than chance, those nearest to `USUAL` are kept.
    Then each setting of `FURTHER` is chosen in the same way, nearest to its given value, and then the weights once
    more. At last other beam sizes are tried, so that a user can see what they cost.

    Args:
        measure: returns errors and losses under each of several settings. Its first argument says in words what is
            being tried. It is asked about 40 to 80 settings, so it should search log-posteriors computed once.
        settings: everything that is not chosen is taken from here.
        dev: what is measured on.
    """
    tried = _Trials(measure, settings, dev)
    best = tried.grid(Point.of(settings))
    names = _further(settings)
    for name in names:
        given = getattr(settings, name)
        points = [best._replace(**{name: value}) for value in (given, *FURTHER[name])]
        best = tried.best(tried.points(name, points), {name: given})
    best = tried.grid(best)
    around_weight = _around(best.lm_weight, LM_WEIGHT_STEP, LM_WEIGHT_LIMITS)
    around_bonus = _around(best.insertion_bonus, INSERTION_BONUS_STEP, INSERTION_BONUS_LIMITS)
    best = tried.weights("weights around the best", around_weight, around_bonus, best)
    tried.points("beam size", [best._replace(beam_size=size) for size in BEAM_SIZES])
    return Choice(dev, best.put_into(settings), tuple(tried.all.values()), (*CHOSEN, *names))


class _Trials:
    """All that was tried so far. Nothing is tried twice."""

    def __init__(self, measure: Measure, settings: DecodeSettings, dev: DevSet) -> None:
        self._measure, self._settings, self._dev = measure, settings, dev
        self.all: dict[Point, Trial] = {}
        self._losses: dict[Point, NDArray[np.float64]] = {}

    def points(self, what: str, points: Sequence[Point]) -> list[Trial]:
        """Return the trials of some points; `what` says in words what is being tried."""
        new = [point for point in dict.fromkeys(points) if point not in self.all]
        if new:
            measured = self._measure(what, [point.put_into(self._settings) for point in new])
            for point, (errors, losses) in zip(new, measured, strict=True):
                self.all[point] = Trial(point, errors, float(losses.sum()))
                self._losses[point] = losses
        return [self.all[point] for point in points]

    def weights(self, what: str, lm_weights: Iterable[float], bonuses: Iterable[float], others_of: Point) -> Point:
        """Try all pairs of LM weight and bonus; return the best point so far with the others of `others_of`."""
        pairs = product(lm_weights, bonuses)
        self.points(what, [others_of._replace(lm_weight=weight, insertion_bonus=bonus) for weight, bonus in pairs])
        return self.best([trial for trial in self.all.values() if trial.point.others == others_of.others], USUAL)

    def grid(self, others_of: Point) -> Point:
        """Try the coarse grid, which grows while the best is on its edge; return the best point."""
        lm_weights, bonuses = LM_WEIGHTS, INSERTION_BONUSES
        best = self.weights("weights", lm_weights, bonuses, others_of)
        while True:
            grid = lm_weights, bonuses
            lm_weights = _widened(lm_weights, best.lm_weight, LM_WEIGHT_LIMITS)
            bonuses = _widened(bonuses, best.insertion_bonus, INSERTION_BONUS_LIMITS)
            if grid == (lm_weights, bonuses):
                return best
            best = self.weights("weights beyond", lm_weights, bonuses, others_of)

    def best(self, trials: Sequence[Trial], usual: Mapping[str, float]) -> Point:
        """Return the point nearest to the usual values, among those within chance of the lowest loss."""
        steps = {"lm_weight": LM_WEIGHT_STEP, "insertion_bonus": INSERTION_BONUS_STEP}

        def order(trial: Trial) -> tuple[float, float, Trial]:
            away = [(getattr(trial.point, name) - value) / steps.get(name, 1.0) for name, value in usual.items()]
            return (round(math.hypot(*away), 6), trial.loss, trial)

        lowest = min(trials, key=lambda trial: (trial.loss, order(trial)))
        return min((trial for trial in trials if self._is_chance(trial, lowest)), key=order).point

    def _is_chance(self, trial: Trial, lowest: Trial) -> bool:
        """Return whether a trial's loss is above the lowest one by no more than chance."""
        gains = self._losses[trial.point] - self._losses[lowest.point]
        margin = difference_margin(gains, self._dev.lengths, CHANCE)
        return float(gains.sum()) / max(1, self._dev.length) <= margin


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
