"""The language models' weights, the insertion bonus and the beam size, chosen on dev."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from asr.config import DecodeSettings
from asr.transcript.confidence import Calibration, Evidence, evidence_features

# A coarse grid over where the best lies for most models, wider where the best lies on its edge, and a finer one around
# the best. Word n-grams want more weight than token n-grams.
LM_WEIGHTS: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
INSERTION_BONUSES: tuple[float, ...] = (-0.5, 0.0, 0.5, 1.0, 1.5)
LM_WEIGHT_LIMITS = (0.0, 3.0)
INSERTION_BONUS_LIMITS = (-2.0, 3.0)
LM_WEIGHT_STEP = 0.1
INSERTION_BONUS_STEP = 0.25
BEAM_SIZES = (4, 8, 16, 32)
# While the weights are chosen: wide enough that what they lose is not the beam's fault.
WEIGHTS_BEAM_SIZE = 16
# Chance alters a count of n errors by about √n, and the difference of two counts on the same utterances, of which most
# errors are the same, by about half as much. What wins on dev by no more does not win elsewhere: chosen on half the
# speakers of a dev set of 100 utterances, the settings with the fewest errors made 6 % more errors on the other half
# than the most usual of those that chance cannot tell from them (mean over four models and all halves).
CHANCE = 0.5
USUAL = {"lm_weight": 0.5, "insertion_bonus": 0.5}
CHOSEN = ("lm_weight", "insertion_bonus", "beam_size")
# What is chosen as well where the settings use it: these values are tried besides the settings' own.
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
"""What a `Trial` says but for the errors."""

CountErrors = Callable[[str, Sequence[DecodeSettings]], Sequence[int]]


@dataclass(frozen=True)
class TuneResult:
    """The best settings, every trial in the order in which it was made, and the names of the settings chosen."""

    best: DecodeSettings
    trials: tuple[Trial, ...]
    chosen: tuple[str, ...]

    def errors(self, lm_weight: float, insertion_bonus: float, beam_size: int) -> int:
        """Return the errors of one trial; what is not named is as in the best settings."""
        point = (lm_weight, insertion_bonus, beam_size, *_point(self.best)[3:])
        return next(trial.errors for trial in self.trials if trial[:-1] == point)

    @property
    def surface(self) -> tuple[Trial, ...]:
        """The trials of other weights and bonuses, whatever else is tuned being as in the best settings."""
        others = (WEIGHTS_BEAM_SIZE, *_point(self.best)[3:])
        return tuple(trial for trial in self.trials if trial[2:-1] == others)

    def to_json(self, words: int) -> dict[str, Any]:
        """Return the content of `tune.json`; `words` is how many the references hold."""
        return {
            "words": words,
            "chosen": self.best.model_dump(mode="json"),
            "trials": [trial._asdict() | {"wer": trial.errors / words} for trial in self.trials],
        }


def _further(settings: DecodeSettings) -> list[str]:
    """Return what settings use of `FURTHER`."""
    used = {
        "oov_penalty": settings.lm == "words" and settings.oov_penalty is not None,
        "rnn_weight": settings.rnn_weight > 0,
        "rescore_weight": settings.rescore_weight > 0,
    }
    return [name for name in FURTHER if used[name]]


def tune(count_errors: CountErrors, settings: DecodeSettings) -> TuneResult:
    """Return settings that make few errors on a dev set: `CHOSEN`, and of `FURTHER` what the given ones use.

    The weights are chosen first: of those that dev cannot tell from the ones with the fewest errors, the nearest to
    `USUAL`. Next comes what there is further, one by one: likewise the nearest to the given value; then the weights
    anew. With all that the smallest beam wins that makes no more errors than any other: the time of the search grows
    with it.

    Args:
        count_errors: the dev set's errors under each of several settings; its first argument says in words what is
            being chosen. It is called for about 40 settings, or 80, so it should search log-posteriors computed once.
        settings: everything but what is tuned is taken from here.
    """
    trials: dict[Point, Trial] = {}

    def try_all(what: str, points: Sequence[Point]) -> list[Trial]:
        new = [point for point in points if point not in trials]
        if new:
            counts = count_errors(what, [_with(settings, point) for point in new])
            trials.update((point, Trial._make((*point, count))) for point, count in zip(new, counts, strict=True))
        return [trials[point] for point in points]

    def try_weights(what: str, lm_weights: Iterable[float], bonuses: Iterable[float], others: Point) -> Trial:
        try_all(what, [(*pair, *others) for pair in product(lm_weights, bonuses)])
        return _best([trial for trial in trials.values() if trial[2:-1] == others], USUAL)

    def try_grid(others: Point) -> Trial:
        lm_weights, bonuses = LM_WEIGHTS, INSERTION_BONUSES
        best = try_weights("weights", lm_weights, bonuses, others)
        while True:
            grid = lm_weights, bonuses
            lm_weights = _widened(lm_weights, best.lm_weight, LM_WEIGHT_LIMITS)
            bonuses = _widened(bonuses, best.insertion_bonus, INSERTION_BONUS_LIMITS)
            if grid == (lm_weights, bonuses):
                return best
            best = try_weights("weights beyond", lm_weights, bonuses, others)

    best = try_grid((WEIGHTS_BEAM_SIZE, *_point(settings)[3:]))
    names = _further(settings)
    for name in names:
        given = getattr(settings, name)
        line = try_all(name, [best._replace(**{name: value})[:-1] for value in (given, *FURTHER[name])])
        best = _best(line, {name: given})
    best = try_grid(best[2:-1])
    around_weight = _around(best.lm_weight, LM_WEIGHT_STEP, LM_WEIGHT_LIMITS)
    around_bonus = _around(best.insertion_bonus, INSERTION_BONUS_STEP, INSERTION_BONUS_LIMITS)
    best = try_weights("weights around the best", around_weight, around_bonus, best[2:-1])
    beams = try_all("beam size", [best._replace(beam_size=size)[:-1] for size in BEAM_SIZES])
    best = min(beams, key=lambda trial: (trial.errors, trial.beam_size))
    return TuneResult(_with(settings, best[:-1]), tuple(trials.values()), (*CHOSEN, *names))


def _best(trials: Sequence[Trial], usual: Mapping[str, float]) -> Trial:
    """Return, of the trials that chance cannot tell from the one with the fewest errors, the nearest to the usual."""
    steps = {"lm_weight": LM_WEIGHT_STEP, "insertion_bonus": INSERTION_BONUS_STEP}

    def distance(trial: Trial) -> float:
        away = [(getattr(trial, name) - value) / steps.get(name, 1.0) for name, value in usual.items()]
        return round(math.hypot(*away), 6)

    fewest = min(trial.errors for trial in trials)
    equal = [trial for trial in trials if trial.errors <= fewest + CHANCE * math.sqrt(fewest)]
    return min(equal, key=lambda trial: (distance(trial), trial.errors, trial))


def _widened(values: tuple[float, ...], best: float, limits: tuple[float, float]) -> tuple[float, ...]:
    """Return evenly spaced values, with one more at an end where the best lies."""
    step = values[1] - values[0]
    lower = (values[0] - step,) if best == values[0] > limits[0] else ()
    upper = (values[-1] + step,) if best == values[-1] < limits[1] else ()
    return _rounded((*lower, *values, *upper))


def _around(best: float, step: float, limits: tuple[float, float]) -> tuple[float, ...]:
    return tuple(value for value in _rounded((best - step, best, best + step)) if limits[0] <= value <= limits[1])


def _rounded(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return values that can be told from their neighbours and read well in a file."""
    return tuple(round(value, 6) for value in values)


def _point(settings: DecodeSettings) -> Point:
    return tuple(getattr(settings, name) for name in (*CHOSEN, *FURTHER))


def _with(settings: DecodeSettings, point: Point) -> DecodeSettings:
    return settings.model_copy(update=dict(zip((*CHOSEN, *FURTHER), point, strict=True)))


# Ridge: with few errors on dev, odd coefficients would fit them by chance.
_RIDGE = 1.0
_NEWTON_STEPS = 50


def fit_calibration(evidence: Sequence[Evidence], right: Sequence[bool]) -> Calibration:
    """Return the calibration under which it is most probable that just these words are right (ridge-regularised).

    Args:
        evidence: of the words of a dev set; those without a posterior are left out.
        right: whether each is right.

    Returns:
        The defaults if no word is wrong, or none is right: then there is nothing to learn from.
    """
    pairs = [pair for pair in zip(evidence, right, strict=True) if pair[0].posterior is not None]
    y = np.array([is_right for _, is_right in pairs], np.float64)
    if not 0 < y.sum() < len(y):
        return Calibration()
    x = evidence_features([item for item, _ in pairs])
    ridge = np.diag([1e-6, _RIDGE, _RIDGE])
    coefficients = np.zeros(3)
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-x @ coefficients))
        gradient = x.T @ (y - p) - ridge @ coefficients
        coefficients += np.linalg.solve((x.T * (p * (1 - p))) @ x + ridge, gradient)
    return Calibration(*coefficients.tolist())
