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


class Moves(NamedTuple):
    """How each slot of a beam came through a frame."""

    move: Tensor  # (batch, beam) int64: slot · columns + column, of the prefix before the frame and of what it gained
    columns: int
    tokens: Tensor | None  # (batch, column) int64, the columns' tokens; None if column = token. BLANK, which is 0: none


def trace(moves: Sequence[Moves], slots: Tensor, frame_numbers: Tensor) -> list[list[Traced]]:
    """Return each utterance's prefixes, in the order of `slots`.

    Args:
        moves: of each frame; of the first utterances only where the others had ended.
        slots: `(batch, beam)` int64, of the beam after each utterance's last frame.
        frame_numbers: `(batch, frame)` int64, what the frames are called.
    """
    batch, beam = slots.shape
    slots = slots.clone()
    paths = torch.zeros(len(moves), batch, beam, dtype=torch.int32, device=slots.device)
    for place in reversed(range(len(moves))):
        move, columns, tokens = moves[place]
        running = len(move)
        made = move.gather(1, slots[:running])
        slots[:running] = made // columns
        column = made % columns
        paths[place, :running] = column if tokens is None else tokens.gather(1, column)
    by_prefix = paths.flatten(1).T.contiguous().cpu().numpy()  # (batch · beam, frame)
    rows, places = by_prefix.nonzero()
    tokens = by_prefix[rows, places].tolist()
    frames = frame_numbers.cpu().numpy()[rows // beam, places].tolist()
    ends = np.bincount(rows, minlength=batch * beam).cumsum().tolist()
    prefixes = [(tuple(tokens[start:end]), tuple(frames[start:end])) for start, end in pairwise([0, *ends])]
    return [prefixes[first : first + beam] for first in range(0, batch * beam, beam)]
