"""Dropout whose random bits are drawn eight to a number, so that it costs the processor next to nothing.

torch draws a number for each element, one after the other, whatever the number of cores: a tenth of a training step on
two of them. A byte an element is as good: the probability is rounded to a 256th, and the scale fits it exactly.

Source: Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """In training, sets elements to 0 with probability `probability` and scales the others, so that the mean stays."""

    def __init__(self, probability: float) -> None:
        """Round the probability to a 256th."""
        super().__init__()
        self.dropped_of_256 = min(round(256 * probability), 255)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, perturbed in training; the draws come from torch's generator of its device."""
        if not self.training or not self.dropped_of_256:
            return x
        words = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 8),), device=x.device)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped_of_256
        return x * (kept.to(x.dtype) * (256 / (256 - self.dropped_of_256)))
