"""Strided convolutions that turn 2, 4 or 8 log-mel frames into one frame of the recurrent layers."""

from __future__ import annotations

import math
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from asr.features.logmel import valid_frames

Size = TypeVar("Size", int, Tensor)


class Subsampling(nn.Module):
    """3×3 convolutions of stride 2 over time and frequency, then a projection to the recurrent layers' width.

    Frames beyond an utterance's length are set to 0 after every convolution: the next one must not see what padding
    left there, or an utterance's result would depend on its neighbours.
    """

    def __init__(self, mel_bins: int, factor: int, channels: int, width: int) -> None:
        """Build `log2(factor)` convolutions."""
        super().__init__()
        self.factor = factor
        stages = int(math.log2(factor))
        self.convolutions = nn.ModuleList(
            nn.Conv2d(1 if stage == 0 else channels, channels, 3, stride=2, padding=1) for stage in range(stages)
        )
        bins = mel_bins
        for _ in range(stages):
            bins = _halved(bins)
        self.projection = nn.Linear(channels * bins, width)

    @property
    def receptive_frames(self) -> int:
        """Log-mel frames that one output frame sees."""
        return 2 * (self.factor - 1) + 1

    def frame_count(self, lengths: Tensor) -> Tensor:
        """Return output frames of inputs of `lengths` frames."""
        for _ in self.convolutions:
            lengths = _halved(lengths)
        return lengths

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`(batch, frame, mel)`, `(batch,)` → `(batch, frame / factor, width)`, `(batch,)`."""
        x = features[:, None]
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
            lengths = _halved(lengths)
            x = x * valid_frames(lengths, x.shape[2])[:, None, :, None]
        return self.projection(x.transpose(1, 2).flatten(2)), lengths


def _halved(size: Size) -> Size:
    """Return the output size of a convolution of kernel 3, stride 2 and padding 1."""
    return (size - 1) // 2 + 1
