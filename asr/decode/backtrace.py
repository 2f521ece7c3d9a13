"""From the last frame's prefixes back to the first frame: which tokens they hold, and where each was emitted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# Tokens, and the frame of each.
Traced = tuple[tuple[int, ...], tuple[int, ...]]


class Step(NamedTuple):
    """How each slot of a beam came through a frame. Tensors are `(batch, beam)` int64."""

    slot: Tensor  # of the prefix before the frame
    token: Tensor  # that it gained; BLANK, which is 0, if none


def trace(steps: Sequence[Step], slots: Tensor, frame_numbers: Tensor) -> list[list[Traced]]:
    """Return each utterance's prefixes, in the order of `slots`.

    Args:
        steps: of each frame.
        slots: `(batch, beam)` int64, of the beam after the last frame.
        frame_numbers: `(batch, frame)` int64, what the frames are called.
    """
    batch, beam = slots.shape
    gained = []
    for step in reversed(steps):
        gained.append(step.token.gather(1, slots))
        slots = step.slot.gather(1, slots)
    if not gained:
        return [[((), ())] * beam for _ in range(batch)]

    paths = torch.stack(gained[::-1], dim=2).flatten(0, 1).cpu().numpy()  # (batch · beam, frame)
    rows, places = paths.nonzero()
    tokens = paths[rows, places].tolist()
    frames = frame_numbers.cpu().numpy()[rows // beam, places].tolist()
    ends = np.bincount(rows, minlength=batch * beam).cumsum().tolist()
    prefixes = [(tuple(tokens[start:end]), tuple(frames[start:end])) for start, end in pairwise([0, *ends])]
    return [prefixes[first : first + beam] for first in range(0, batch * beam, beam)]
