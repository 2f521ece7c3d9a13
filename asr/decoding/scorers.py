"""What a language model must offer to the beam search; one that is a table; and the weighted sum of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from asr.decoding.frames import Float64s, Floats, Ints
from asr.text.tokens import BLANK


class Scorer(Protocol):
    """Scores how each row may go on. A row is a prefix: row `u · beam + k` is prefix `k` of utterance `u`.

    A state may be anything: an array of automaton states, an RNN's hidden vectors, a tuple of them.
    """

    def start(self, batch: int) -> Any:
        """Return the state of `batch` rows before the first token, one row for each utterance."""

    def score(self, state: Any) -> Floats:
        """Return `(row, token)` natural-log probabilities of the next token, finite or −inf.

        Column 0, the blank's place, holds the log-probability that the sentence ends here.
        """

    def advance(self, state: Any, parents: Ints, tokens: Ints) -> Any:
        """Return the state after each new row has taken its token.

        Args:
            state: of the previous rows.
            parents: `(row,)`, the previous row that each new row continues. There may be more rows than before, or
                fewer.
            tokens: `(row,)`, the token it takes; 0 leaves the prefix as it is.
        """


class WeightedScorer(NamedTuple):
    """A language model and the weight of its log-probabilities."""

    scorer: Scorer
    weight: float


class TableScorer:
    """A `Scorer` of two dense tables. Its state is a `(row,)` int64 array, so that a step is an index operation.

    Attributes:
        scores: `(state, token)` floats; column 0 is the sentence's end.
        next_states: `(state, token)` int64; column 0 is the state itself.
    """

    def __init__(self, scores: Floats, next_states: Ints, start: int) -> None:
        """Begin sentences in state `start`."""
        self.scores, self.next_states = scores, next_states
        self._start = start

    def start(self, batch: int) -> Ints:
        """Return `batch` rows at a sentence's start."""
        return np.full(batch, self._start)

    def score(self, state: Ints) -> Floats:
        """Return `(row, token)` scores of the next token, see `Scorer`."""
        return self.scores.take(state, axis=0)

    def advance(self, state: Ints, parents: Ints, tokens: Ints) -> Ints:
        """Return the states of new rows, see `Scorer`."""
        after: Ints = self.next_states.take(state.take(parents) * self.next_states.shape[1] + tokens)
        return after


def start_states(scorers: Sequence[WeightedScorer], batch: int, beam_size: int) -> list[Any]:
    """Return each scorer's state of `batch · beam_size` rows."""
    parents = np.arange(batch).repeat(beam_size)
    unchanged = np.full_like(parents, BLANK)
    return [scorer.advance(scorer.start(batch), parents, unchanged) for scorer, _ in scorers]


def advance_states(scorers: Sequence[WeightedScorer], states: Sequence[Any], slots: Ints, tokens: Ints) -> list[Any]:
    """Return each scorer's state after the prefixes in `slots (batch, beam)` have taken `tokens (batch, beam)`.

    The states may be of more utterances; the first ones are these, and the others are dropped.
    """
    if not scorers:
        return []
    batch, beam_size = slots.shape
    first_rows = np.arange(0, batch * beam_size, beam_size)
    rows, taken = (slots + first_rows[:, None]).ravel(), tokens.ravel()
    return [scorer.advance(state, rows, taken) for (scorer, _), state in zip(scorers, states, strict=True)]


def extension_gains(
    scorers: Sequence[WeightedScorer],
    states: Sequence[Any],
    bonus: float,
    shape: tuple[int, int, int],
    tokens: Ints | None,
) -> Float64s:
    """Return `(batch, beam, column)`, what an extension gains: `bonus` plus the scorers' weighted sum.

    Args:
        scorers: with their weights.
        states: of `batch` utterances, and perhaps of more after them.
        bonus: of each token.
        shape: of the result.
        tokens: `(batch, column)`, of the columns; None if there is a column for each token.
    """
    gains = np.full(shape, bonus)
    for (scorer, weight), state in zip(scorers, states, strict=True):
        scores = scorer.score(state)
        scores = scores.reshape(-1, shape[1], scores.shape[1])[: shape[0]]
        if tokens is not None:
            scores = np.take_along_axis(scores, np.broadcast_to(tokens[:, None, :], shape), 2)
        gains += np.multiply(scores, weight, dtype=np.float64)
    return gains


def end_gains(scorers: Sequence[WeightedScorer], states: Sequence[Any], gain: Float64s) -> Float64s:
    """Return `(batch, beam)`, `gain` plus the scorers' weighted sum for the end of the sentence."""
    for (scorer, weight), state in zip(scorers, states, strict=True):
        gain = gain + np.multiply(scorer.score(state)[:, BLANK], weight, dtype=np.float64).reshape(gain.shape)
    return gain
