"""The language model's weight, the insertion bonus and the beam size, chosen on dev."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from asr.config import DecodeSettings

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
CHOSEN = ("lm_weight", "insertion_bonus", "beam_size")


class Trial(NamedTuple):
    """The errors made with one choice of what is tuned."""

    lm_weight: float
    insertion_bonus: float
    beam_size: int
    errors: int


Point = tuple[float, float, int]
CountErrors = Callable[[str, Sequence[DecodeSettings]], Sequence[int]]


@dataclass(frozen=True)
class TuneResult:
    """The best settings, and every trial in the order in which it was made."""

    best: DecodeSettings
    trials: tuple[Trial, ...]

    def errors(self, lm_weight: float, insertion_bonus: float, beam_size: int) -> int:
        """Return the errors of one trial."""
        return next(trial.errors for trial in self.trials if trial[:3] == (lm_weight, insertion_bonus, beam_size))

    def to_json(self, words: int) -> dict[str, Any]:
        """Return the content of `tune.json`; `words` is how many the references hold."""
        return {
            "words": words,
            "chosen": self.best.model_dump(mode="json"),
            "trials": [trial._asdict() | {"wer": trial.errors / words} for trial in self.trials],
        }


def tune(count_errors: CountErrors, settings: DecodeSettings) -> TuneResult:
    """Return the LM weight, insertion bonus and beam size with the fewest errors on a dev set.

    The weights are chosen first. Among equals the smallest LM weight wins, then the smallest bonus: the less the search
    leans on what the text it was tuned on happens to be like. With them the smallest beam wins that makes no more
    errors than any other: the time of the search grows with it.

    Args:
        count_errors: the dev set's errors under each of several settings; its first argument says in words what is
            being chosen. It is called for about 40 settings, so it should search log-posteriors computed once.
        settings: everything but what is tuned is taken from here.
    """
    trials: dict[Point, Trial] = {}

    def try_all(what: str, points: Iterable[Point]) -> None:
        new = [point for point in points if point not in trials]
        counts = count_errors(what, [_with(settings, point) for point in new])
        trials.update((point, Trial(*point, count)) for point, count in zip(new, counts, strict=True))

    def best() -> Trial:
        return min(trials.values(), key=lambda t: (t.errors, t.lm_weight, abs(t.insertion_bonus), t.insertion_bonus))

    lm_weights, bonuses = LM_WEIGHTS, INSERTION_BONUSES
    try_all("weights", product(lm_weights, bonuses, [WEIGHTS_BEAM_SIZE]))
    while True:
        grid = lm_weights, bonuses
        lm_weights = _widened(lm_weights, best().lm_weight, LM_WEIGHT_LIMITS)
        bonuses = _widened(bonuses, best().insertion_bonus, INSERTION_BONUS_LIMITS)
        if grid == (lm_weights, bonuses):
            break
        try_all("weights beyond", product(lm_weights, bonuses, [WEIGHTS_BEAM_SIZE]))
    around_weight = _around(best().lm_weight, LM_WEIGHT_STEP, LM_WEIGHT_LIMITS)
    around_bonus = _around(best().insertion_bonus, INSERTION_BONUS_STEP, INSERTION_BONUS_LIMITS)
    try_all("weights around the best", product(around_weight, around_bonus, [WEIGHTS_BEAM_SIZE]))
    lm_weight, bonus, *_ = best()
    beams = [(lm_weight, bonus, beam_size) for beam_size in BEAM_SIZES]
    try_all("beam size", beams)
    chosen = min((trials[point] for point in beams), key=lambda t: (t.errors, t.beam_size))
    return TuneResult(_with(settings, chosen[:3]), tuple(trials.values()))


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


def _with(settings: DecodeSettings, point: Point) -> DecodeSettings:
    return settings.model_copy(update=dict(zip(CHOSEN, point, strict=True)))
