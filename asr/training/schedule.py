"""The learning rate as a function of how far the run has come: no hidden state, so a resumed run continues exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence

from asr.config import TrainingSettings


def learning_rate(settings: TrainingSettings, progress: float, dev_wers: Sequence[float]) -> float:
    """Return the rate at `progress` (0 = start, 1 = end of the run).

    one-cycle: a rise over `warmup_share` of the run, then half a cosine down to 0 (Smith & Topin 2017).
    plateau: the same rise, then constant; halved whenever `plateau_patience` epochs brought no better dev WER.
    """
    warmup = settings.warmup_share
    if progress < warmup:
        return settings.learning_rate * max(progress / warmup, 0.01)
    if settings.schedule == "plateau":
        return settings.learning_rate * 0.5 ** halvings(dev_wers, settings.plateau_patience)
    fall = min((progress - warmup) / (1 - warmup), 1.0)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * fall))


def halvings(dev_wers: Sequence[float], patience: int) -> int:
    """Return how often `patience` epochs in a row brought no dev WER below the best before them."""
    best, waited, count = math.inf, 0, 0
    for wer in dev_wers:
        waited = 0 if wer < best else waited + 1
        best = min(best, wer)
        if waited == patience:
            count, waited = count + 1, 0
    return count
