"""How weights change: learning rate, weight decay, and the moving average of the weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import nn

from asr.config import TrainingSettings
from asr.model.acoustic import AcousticModel


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split parameters into matrices, which decay, and biases and gains, which do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


class WeightAverage:
    """The model that is evaluated and kept: an exponential moving average of the weights.

    After each step, `average ← decay · average + (1 - decay) · weights`. The decay rises to its value at the start. The
    steps wander within a region, and the average is near its middle (Polyak & Juditsky 1992).
    """

    def __init__(self, model: AcousticModel, decay: float) -> None:
        """Start at the model's own weights."""
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: AcousticModel, step: int) -> None:
        """Move towards `model`; `step` counts from 1."""
        decay = min(self.decay, step / (step + 9))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)


def learning_rate(settings: TrainingSettings, progress: float, dev_scores: Sequence[float]) -> float:
    """Return the learning rate at `progress` (0 = start, 1 = end of the run).

    It depends on nothing else, so a resumed run continues exactly.

    one-cycle: a rise over `warmup_share` of the run, then half a cosine down to 0 (Smith & Topin 2017).
    plateau: the same rise, then constant; halved when `plateau_patience` epochs brought no better dev score.
    """
    warmup = settings.warmup_share
    if progress < warmup:
        return settings.learning_rate * max(progress / warmup, 0.01)
    if settings.schedule == "plateau":
        return settings.learning_rate * 0.5 ** halvings(dev_scores, settings.plateau_patience)
    fall = min((progress - warmup) / (1 - warmup), 1.0)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * fall))


def halvings(dev_scores: Sequence[float], patience: int) -> int:
    """Return how often `patience` epochs in a row brought no dev score below the best before them."""
    best, waited, count = math.inf, 0, 0
    for score in dev_scores:
        waited = 0 if score < best else waited + 1
        best = min(best, score)
        if waited == patience:
            count, waited = count + 1, 0
    return count
