"""What a language model must offer to the beam search; one that is a table; and the weighted sum of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from asr.text.tokens import BLANK


class Scorer(Protocol):
    """Scores how each row may go on. A row is a prefix: row `u · beam + k` is prefix `k` of utterance `u`.

    A state may be anything: a tensor of automaton states, an RNN's hidden vectors, a tuple of them.
    """

    def start(self, batch: int, device: torch.device) -> Any:
        """Return the state of `batch` rows before the first token, one row for each utterance."""

    def score(self, state: Any) -> Tensor:
        """Return `(row, token)` natural-log probabilities of the next token, finite or −inf.

        Column 0, the blank's place, holds the log-probability that the sentence ends here.
        """

    def advance(self, state: Any, parents: Tensor, tokens: Tensor) -> Any:
        """Return the state after each new row has taken its token.

        Args:
            state: of the previous rows.
            parents: `(row,)` int64, the previous row that each new row continues. There may be more rows than
                before, or fewer.
            tokens: `(row,)` int64, the token it takes; 0 leaves the prefix as it is.
        """


class WeightedScorer(NamedTuple):
    """A language model and the weight of its log-probabilities."""

    scorer: Scorer
    weight: float


class TableScorer:
    """A `Scorer` of two dense tables. Its state is a `(row,)` int64 tensor, so that a step is an index operation.

    Attributes:
        scores: `(state, token)` floats; column 0 is the sentence's end.
        next_states: `(state, token)` int64; column 0 is the state itself.
    """

    def __init__(self, scores: Tensor, next_states: Tensor, start: int) -> None:
        """Begin sentences in state `start`."""
        self.scores, self.next_states = scores, next_states
        self._start = start

    def start(self, batch: int, device: torch.device) -> Tensor:
        """Return `batch` rows at a sentence's start; the tables move to `device`."""
        self.scores, self.next_states = self.scores.to(device), self.next_states.to(device)
        return torch.full((batch,), self._start, device=device)

    def score(self, state: Tensor) -> Tensor:
        """Return `(row, token)` scores of the next token, see `Scorer`."""
        return self.scores.index_select(0, state)

    def advance(self, state: Tensor, parents: Tensor, tokens: Tensor) -> Tensor:
        """Return the states of new rows, see `Scorer`."""
        return self.next_states.take(state.index_select(0, parents) * self.next_states.shape[1] + tokens)


def start_states(scorers: Sequence[WeightedScorer], batch: int, beam_size: int, device: torch.device) -> list[Any]:
    """Return each scorer's state of `batch · beam_size` rows."""
    parents = torch.arange(batch, device=device).repeat_interleave(beam_size)
    unchanged = torch.full_like(parents, BLANK)
    return [scorer.advance(scorer.start(batch, device), parents, unchanged) for scorer, _ in scorers]


def advance_states(
    scorers: Sequence[WeightedScorer], states: Sequence[Any], slots: Tensor, tokens: Tensor
) -> list[Any]:
    """Return each scorer's state after the prefixes in `slots (batch, beam)` have taken `tokens (batch, beam)`.

    The states may be of more utterances; the first ones are these, and the others are dropped.
    """
    batch, beam_size = slots.shape
    first_rows = torch.arange(0, batch * beam_size, beam_size, device=slots.device)
    rows, taken = (slots + first_rows[:, None]).flatten(), tokens.flatten()
    return [scorer.advance(state, rows, taken) for (scorer, _), state in zip(scorers, states, strict=True)]


def extension_gains(
    scorers: Sequence[WeightedScorer],
    states: Sequence[Any],
    bonus: Tensor,
    shape: tuple[int, int, int],
    tokens: Tensor | None,
) -> Tensor:
    """Return `(batch, beam, column)` float64, what an extension gains: `bonus` plus the scorers' weighted sum.

    Args:
        scorers: with their weights.
        states: of `batch` utterances, and perhaps of more after them.
        bonus: `(1, 1, 1)` float64.
        shape: of the result.
        tokens: `(batch, column)` int64, of the columns; None if there is a column for each token.
    """
    gains = bonus
    for (scorer, weight), state in zip(scorers, states, strict=True):
        scores = scorer.score(state)
        scores = scores.view(-1, shape[1], scores.shape[1])[: shape[0]]
        if tokens is not None:
            scores = scores.gather(2, tokens[:, None, :].expand(shape))
        gains = torch.add(gains, scores, alpha=weight)
    return gains.expand(shape)


def end_gains(scorers: Sequence[WeightedScorer], states: Sequence[Any], gain: Tensor) -> Tensor:
    """Return `(batch, beam)` float64, `gain` plus the scorers' weighted sum for the end of the sentence."""
    for (scorer, weight), state in zip(scorers, states, strict=True):
        gain = torch.add(gain, scorer.score(state)[:, BLANK].view_as(gain), alpha=weight)
    return gain
