"""Several scorers beside each other, asked for the tokens that a frame needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from asr.data.tokens import BLANK
from asr.decode.scorers import Scorer

# With their weights.
Scorers = Sequence[tuple[Scorer, float]]


def start(scorers: Scorers, batch: int, beam_size: int, device: torch.device) -> list[Any]:
    """Return each scorer's state of `batch · beam_size` rows."""
    parents = torch.arange(batch, device=device).repeat_interleave(beam_size)
    unchanged = torch.full_like(parents, BLANK)
    return [scorer.advance(scorer.start(batch, device), parents, unchanged) for scorer, _ in scorers]


def advance(scorers: Scorers, states: Sequence[Any], slots: Tensor, tokens: Tensor) -> list[Any]:
    """Return each scorer's state after the prefixes in `slots (batch, beam)` have taken `tokens (batch, beam)`."""
    batch, beam_size = slots.shape
    rows = (slots + beam_size * torch.arange(batch, device=slots.device)[:, None]).flatten()
    taken = tokens.flatten()
    return [scorer.advance(state, rows, taken) for (scorer, _), state in zip(scorers, states, strict=True)]


def score(scorers: Scorers, states: Sequence[Any], tokens: Tensor, beam_size: int) -> Tensor:
    """Return `(batch, beam, column)` float64, the scorers' weighted sum for `tokens (batch, column)`."""
    shape = tokens.shape[0], beam_size, tokens.shape[1]
    total = torch.zeros(shape, dtype=torch.float64, device=tokens.device)
    index = tokens[:, None, :].expand(shape)
    for (scorer, weight), state in zip(scorers, states, strict=True):
        total.add_(scorer.score(state).view(shape[0], beam_size, -1).gather(2, index), alpha=weight)
    return total
