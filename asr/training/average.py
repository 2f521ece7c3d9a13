"""An exponential moving average of the weights: the model that is evaluated and kept."""

from __future__ import annotations

import copy

import torch

from asr.model.acoustic import AcousticModel


class WeightAverage:
    """`average ← decay · average + (1 - decay) · weights` after each step; the decay rises to its value at the start.

    Averaging along the path lands near the middle of the region that the steps wander in (Polyak & Juditsky 1992).
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
