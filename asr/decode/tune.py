"""The language model's weight and the insertion bonus, chosen on dev."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from asr.config import DecodeSettings

# A coarse grid over where the best lies for most models, then a finer one around the best: 30 + 8 decodes.
LM_WEIGHTS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
INSERTION_BONUSES = (-0.5, 0.0, 0.5, 1.0, 1.5)
LM_WEIGHT_STEP = 0.1
INSERTION_BONUS_STEP = 0.25
MOST_TRIALS = len(LM_WEIGHTS) * len(INSERTION_BONUSES) + 8


class Trial(NamedTuple):
    """The errors made with one pair of weights."""

    lm_weight: float
    insertion_bonus: float
    errors: int


@dataclass(frozen=True)
class TuneResult:
    """The best settings, and every trial in the order in which it was made."""

    best: DecodeSettings
    trials: tuple[Trial, ...]


def tune(
    decode: Callable[[DecodeSettings], Sequence[str]],
    references: Sequence[str],
    errors: Callable[[str, str], int],
    settings: DecodeSettings,
) -> TuneResult:
    """Return the LM weight and insertion bonus with the fewest errors on a dev set.

    Among equals the smallest LM weight wins, then the smallest bonus: the less the search leans on what the
    text it was tuned on happens to be like.

    Args:
        decode: the dev set's hypotheses under given settings. It is called up to 38 times, so it should
            search log-posteriors computed once.
        references: the dev set's transcripts, in the same order.
        errors: counts the errors of a hypothesis, `errors(reference, hypothesis)`.
        settings: everything but the two weights is taken from here.
    """
    trials: dict[tuple[float, float], Trial] = {}

    def best() -> Trial:
        return min(trials.values(), key=lambda t: (t.errors, t.lm_weight, abs(t.insertion_bonus), t.insertion_bonus))

    def try_all(pairs: Iterable[tuple[float, float]]) -> None:
        for lm_weight, insertion_bonus in pairs:
            if (lm_weight, insertion_bonus) not in trials:
                texts = decode(_with(settings, lm_weight, insertion_bonus))
                count = sum(errors(*pair) for pair in zip(references, texts, strict=True))
                trials[lm_weight, insertion_bonus] = Trial(lm_weight, insertion_bonus, count)

    try_all((lm_weight, bonus) for lm_weight in LM_WEIGHTS for bonus in INSERTION_BONUSES)
    coarse = best()
    try_all(
        (lm_weight, coarse.insertion_bonus + bonus_step)
        for weight_step in (-LM_WEIGHT_STEP, 0.0, LM_WEIGHT_STEP)
        for bonus_step in (-INSERTION_BONUS_STEP, 0.0, INSERTION_BONUS_STEP)
        # Rounded, so that a pair is told from its neighbours and reads well in a file.
        if (lm_weight := round(coarse.lm_weight + weight_step, 6)) >= 0
    )
    chosen = best()
    return TuneResult(_with(settings, chosen.lm_weight, chosen.insertion_bonus), tuple(trials.values()))


def _with(settings: DecodeSettings, lm_weight: float, insertion_bonus: float) -> DecodeSettings:
    return settings.model_copy(update={"lm_weight": lm_weight, "insertion_bonus": insertion_bonus})
