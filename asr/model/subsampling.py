"""Strided convolutions that turn 1, 2, 4 or 8 frames of features into one frame of the recurrent layers."""

from __future__ import annotations

import math
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.model.logmel import valid_frames

Size = TypeVar("Size", int, Tensor)


class Subsampling(nn.Module):
    """3×3 convolutions of stride 2 over time and frequency, then a projection to the recurrent layers' width.

    The values of an encoder's frame have no order as those of frequencies have. For them the convolutions are of time
    alone, and each value of the frame is a channel.

    Frames beyond an utterance's length are set to 0 after every convolution: the next one must not see what padding
    left there, or an utterance's result would depend on its neighbours.
    """

    def __init__(self, mel_bins: int, factor: int, channels: int, width: int, *, over_frequency: bool = True) -> None:
        """Build `log2(factor)` convolutions."""
        super().__init__()
        self.factor = factor
        self.over_frequency = over_frequency
        stages = _stages(factor)
        planes, bins, breadth = (1, mel_bins, 3) if over_frequency else (mel_bins, 1, 1)
        stride = (2, 2) if over_frequency else (2, 1)
        self.convolutions = nn.ModuleList()
        for _ in range(stages):
            self.convolutions.append(nn.Conv2d(planes, channels, (3, breadth), stride, padding=(1, breadth // 2)))
            planes, bins = channels, _halved(bins)
        self.projection = nn.Linear(planes * bins, width)

    @property
    def receptive_frames(self) -> int:
        """Frames of the features that one output frame sees."""
        return 2 * (self.factor - 1) + 1

    def frame_count(self, lengths: Size) -> Size:
        """Return output frames of inputs of `lengths` frames."""
        return output_frames(lengths, self.factor)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`(batch, frame, mel)`, `(batch,)` → `(batch, frame / factor, width)`, `(batch,)`."""
        x = self._in_planes(features)
        for convolution in self.convolutions:
            x = _convolved(x, cast(nn.Conv2d, convolution), frame_padding=1)
            lengths = _halved(lengths)
            x = x * valid_frames(lengths, x.shape[2])[:, None, :, None]
        return self.projection(x.transpose(1, 2).flatten(2)), lengths

    def window(self, features: Tensor, lengths: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return output frames `start` to `stop` (exclusive) of the whole forward pass, and all `(batch,)` lengths.

        Only the log-mel frames that these frames see are read (`input_span`).

        Args:
            features: `(batch, frame, mel)`, all log-mel frames.
            lengths: `(batch,)` frames.
            start: first output frame, at least 0.
            stop: at most the number of output frames.

        Returns:
            `(batch, stop - start, width)` and `(batch,)`.
        """
        first, last = self.input_span(start, stop)
        before, beyond = max(-first, 0), max(last - features.shape[1], 0)
        x = self._in_planes(F.pad(features[:, max(first, 0) : last], (0, 0, before, beyond)))
        for convolution in self.convolutions:
            # Every frame's neighbours are there, so time needs no padding but the zeros beyond the utterance's ends.
            x = _convolved(x, cast(nn.Conv2d, convolution), frame_padding=0)
            first, lengths = (first + 1) // 2, _halved(lengths)
            position = torch.arange(first, first + x.shape[2], device=x.device)
            x = x * ((position >= 0) & (position < lengths[:, None]))[:, None, :, None]
        return self.projection(x.transpose(1, 2).flatten(2)), lengths

    def step(self, features: Tensor, waiting: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        """Continue where the last call ended. The results of all calls, joined, are `forward` of all frames.

        Args:
            features: `(1, frame, mel)`, the next log-mel frames.
            waiting: frames that later output frames see, from the last call; none at the start.
            last: whether these are the last frames.

        Returns:
            `(1, frame, width)`, the output frames that are known by now, and the log-mel frames that wait.
        """
        features = torch.cat([waiting, features], 1)
        frames = features.shape[1]
        # An output frame also sees frames of the one before, so those are kept; only the first has none before it, and
        # until it has come fewer than `factor` frames wait.
        start = 1 if waiting.shape[1] >= self.factor else 0
        stop = self.frame_count(frames) if last else frames // self.factor
        if stop <= start:
            return features.new_zeros(1, 0, self.projection.out_features), features
        x, _ = self.window(features, torch.full((1,), frames, device=features.device), start, stop)
        return x, features[:, (stop - 1) * self.factor :]

    def _in_planes(self, features: Tensor) -> Tensor:
        """`(batch, frame, mel)` → what the convolutions take, `(batch, channel, frame, bin)`."""
        return features[:, None] if self.over_frequency else features.transpose(1, 2)[..., None]

    def input_span(self, start: int, stop: int) -> tuple[int, int]:
        """Return the log-mel frames (first, one past the last) that output frames `start` to `stop` see.

        The first may be negative and the last beyond the utterance: there the network sees zeros.
        """
        for _ in self.convolutions:
            start, stop = 2 * start - 1, 2 * stop
        return start, stop


def _convolved(x: Tensor, convolution: nn.Conv2d, *, frame_padding: int) -> Tensor:
    """`(batch, channel, frame, bin)` → the same with half the frames and bins, at least 0."""
    # On a processor the convolution is a third faster with the channels last in memory. `clone`, because `contiguous`
    # takes a single channel to be last already, while the kernel goes by the strides.
    weight = convolution.weight.clone(memory_format=torch.channels_last)
    padding = (frame_padding, int(convolution.padding[1]))
    return F.relu(F.conv2d(x, weight, convolution.bias, stride=convolution.stride, padding=padding))


def output_frames(frames: Size, factor: int) -> Size:
    """Return output frames of inputs of `frames` frames, of which `factor` become one."""
    for _ in range(_stages(factor)):
        frames = _halved(frames)
    return frames


def _stages(factor: int) -> int:
    return int(math.log2(factor))


def _halved(size: Size) -> Size:
    """Return the output size of a convolution of kernel 3, stride 2 and padding 1."""
    return (size - 1) // 2 + 1
