"""A glance at the frames to come, for recurrent layers with one direction.

Such a layer knows all that was said and nothing of what follows, though the sound of a letter depends on its right
neighbour too. A bidirectional layer waits for the end of the utterance; this one waits for `frames` frames only, so a
recogniser can speak while it listens:

    y_t = x_t + Σ_j w_j · x_{t+j},  j = 1 … frames        (· is element by element: each feature has weights of its own)

Source: Wang et al. 2016, "Lookahead convolution layer for unidirectional recurrent neural networks" (ICLR workshop);
Amodei et al. 2016, "Deep Speech 2", arXiv:1512.02595, section 3.7 (row convolution).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.model.dropout import Dropout


class LookAhead(nn.Module):
    """Adds to each frame a weighted sum of the `frames` frames after it, feature by feature.

    Beyond an utterance's end the input is 0, hence the output as well: no mask is needed. The weights start at 0, so
    the network starts as one that looks at nothing and learns what of the future helps.
    """

    def __init__(self, width: int, frames: int, *, dropout: float) -> None:
        """`width` is that of input and output."""
        super().__init__()
        self.frames = frames
        self.convolution = nn.Conv1d(width, width, frames, groups=width, bias=False)
        nn.init.zeros_(self.convolution.weight)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, frame, width)`, zero beyond each length → the same."""
        future = F.pad(x.transpose(1, 2), (0, self.frames))[..., 1:]
        result: Tensor = x + self.dropout(self.convolution(future).transpose(1, 2))
        return result

    def step(self, x: Tensor, waiting: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        """Go on where the last call ended; together the results are `forward` of all frames.

        Args:
            x: `(batch, frame, width)`, the next frames.
            waiting: frames that had too few after them, from the last call; none at the start.
            last: whether these are the last frames.

        Returns:
            `(batch, frame, width)`, as many frames as can be told by now, and those that wait.
        """
        x = torch.cat([waiting, x], 1)
        ready = x.shape[1] if last else max(x.shape[1] - self.frames, 0)
        return self(x)[:, :ready] if ready else x[:, :0], x[:, ready:]
