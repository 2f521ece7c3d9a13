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
    """Return each scorer's state after the prefixes in `slots (batch, beam)` have taken `tokens (batch, beam)`.

    The states may be of more utterances than these, which come first; the others' are dropped.
    """
    batch, beam_size = slots.shape
    first_rows = torch.arange(0, batch * beam_size, beam_size, device=slots.device)
    rows, taken = (slots + first_rows[:, None]).flatten(), tokens.flatten()
    return [scorer.advance(state, rows, taken) for (scorer, _), state in zip(scorers, states, strict=True)]


def extend(
    scorers: Scorers, states: Sequence[Any], bonus: Tensor, shape: tuple[int, int, int], tokens: Tensor | None
) -> Tensor:
    """Return `(batch, beam, column)` float64, what extensions gain: `bonus` and the scorers' weighted sum.

    Args:
        scorers: with their weights.
        states: of `batch` utterances, and perhaps more behind them.
        bonus: `(1, 1, 1)` float64.
        shape: of what is returned.
        tokens: `(batch, column)` int64, of the columns; None if these are all the tokens.
    """
    gains = bonus
    for (scorer, weight), state in zip(scorers, states, strict=True):
        scores = scorer.score(state)
        scores = scores.view(-1, shape[1], scores.shape[1])[: shape[0]]
        if tokens is not None:
            scores = scores.gather(2, tokens[:, None, :].expand(shape))
        gains = torch.add(gains, scores, alpha=weight)
    return gains.expand(shape)


def end(scorers: Scorers, states: Sequence[Any], gain: Tensor) -> Tensor:
    """Return `(batch, beam)` float64, `gain` and the scorers' weighted sum for the end of the sentences."""
    for (scorer, weight), state in zip(scorers, states, strict=True):
        gain = torch.add(gain, scorer.score(state)[:, BLANK].view_as(gain), alpha=weight)
    return gain
