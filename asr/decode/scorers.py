"""What a language model must offer to the beam search, and the token n-gram in that form."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from asr.data.tokens import BLANK, TokenTable
from asr.errors import LanguageModelError
from asr.lm.ngram import LN_10, LOG10_ZERO, SENTENCE_END, SENTENCE_START, UNKNOWN, Ngram, NgramLm
from asr.lm.token_ngram import token_units

MAX_TABLE_BYTES = 2 * 2**30
_BYTES_PER_ENTRY = 4 + 8  # a float32 score and an int64 next state


class Scorer(Protocol):
    """Scores how each row may go on. A row is a prefix: row `u · beam + k` is prefix `k` of utterance `u`.

    What a state is, is the scorer's own affair: a tensor of automaton states, an RNN's hidden vectors, a
    tuple of them.
    """

    def start(self, batch: int, device: torch.device) -> Any:
        """Return the state of `batch` rows, one an utterance, before the first token."""

    def score(self, state: Any) -> Tensor:
        """Return `(row, token)` natural-log probabilities of the next token, finite or −inf.

        Column 0, the blank's place, holds the log-probability that the sentence ends here.
        """

    def advance(self, state: Any, parents: Tensor, tokens: Tensor) -> Any:
        """Return the state after each new row has taken its token.

        Args:
            state: of the previous rows.
            parents: `(row,)` int64, the previous row that each new row continues; there may be more rows than
                before, or fewer.
            tokens: `(row,)` int64, the token it takes; 0 leaves the prefix as it is.
        """


class TableScorer:
    """An automaton of two dense tables; its state is a `(row,)` int64 tensor, so that a step is an index operation.

    Attributes:
        scores: `(state, token)` floats; column 0 is the sentence's end.
        next_states: `(state, token)` int64; column 0 is the state itself.
    """

    def __init__(self, scores: Tensor, next_states: Tensor, start: int) -> None:
        """Begin sentences in state `start`."""
        self.scores, self.next_states = scores, next_states
        self._start = start

    def start(self, batch: int, device: torch.device) -> Tensor:
        """Return `batch` rows at a sentence's start; the tables move to `device` if they are elsewhere."""
        self.scores, self.next_states = self.scores.to(device), self.next_states.to(device)
        return torch.full((batch,), self._start, device=device)

    def score(self, state: Tensor) -> Tensor:
        """Return `(row, token)` scores of the next token, see `Scorer`."""
        return self.scores.index_select(0, state)

    def advance(self, state: Tensor, parents: Tensor, tokens: Tensor) -> Tensor:
        """Return the states of new rows, see `Scorer`."""
        return self.next_states.take(state.index_select(0, parents) * self.next_states.shape[1] + tokens)


class TokenNgramScorer(TableScorer):
    """A back-off n-gram over tokens, expanded into two dense tables.

    A state is a context the model lists. `scores (state, token)` and `next_states (state, token)` spell out
    what back-off would find one query at a time, so that a whole beam is scored by one index operation on any
    device.

    Attributes:
        contexts: the state of each context, 0 for the empty one.
        scores: float32 natural logs; column 0 is the sentence's end.
        next_states: int64; column 0 is the state itself.
    """

    def __init__(self, lm: NgramLm, tokens: TokenTable) -> None:
        """Expand the model.

        A token that the model lacks gets the probability of `<unk>` if the model has that, else 10⁻⁹⁹, which
        is how ARPA files write zero.

        Args:
            lm: an n-gram whose units are the symbols of `tokens`, the space written as ▁.
            tokens: the acoustic model's tokens.

        Raises:
            LanguageModelError: a unit is not a token, or the tables would take more than 2 GiB.
        """
        self.contexts = _contexts(lm)
        _check_size(len(self.contexts), len(tokens), lm.order)
        super().__init__(*_expand(lm, tokens, self.contexts), self.contexts.get((SENTENCE_START,), 0))


def _contexts(lm: NgramLm) -> dict[Ngram, int]:
    """Return the state of each context: 0 is the empty one, shorter ones come before longer ones."""
    listed = [ngram for ngrams in lm.ngrams[: lm.order - 1] for ngram in ngrams if ngram[-1] != SENTENCE_END]
    return {context: state for state, context in enumerate([(), *listed])}


def _check_size(states: int, tokens: int, order: int) -> None:
    size = states * tokens * _BYTES_PER_ENTRY
    if size > MAX_TABLE_BYTES:
        raise LanguageModelError(
            f"a {order}-gram with {states} contexts and {tokens} tokens takes {size / 2**30:.1f} GiB as "
            f"tables, more than {MAX_TABLE_BYTES / 2**30:g}; estimate one of a lower order or from less text"
        )


def _columns(lm: NgramLm, tokens: TokenTable) -> dict[str, int]:
    """Return each unit's column: a token's id, 0 for the sentence's end, one past the tokens for `<unk>`."""
    units = token_units(tokens)
    units[BLANK] = SENTENCE_END
    column = {unit: token for token, unit in enumerate([*units, UNKNOWN])}
    strange = sorted({unit for (unit,) in lm.ngrams[0]} - column.keys() - {SENTENCE_START})
    if strange:
        raise LanguageModelError(
            f"the language model's units {strange[:10]} are not tokens of the acoustic model; "
            "estimate it with `asr lm ngram --model`"
        )
    return column


def _expand(lm: NgramLm, tokens: TokenTable, states: dict[Ngram, int]) -> tuple[Tensor, Tensor]:
    """Return `scores (state, token)` float32 and `next_states (state, token)` int64.

    A context's row is the row of the longest shorter context plus its back-off weight, with the n-grams that
    the model lists written over it. In ascending order of length, every row is finished before it is copied.
    """
    column = _columns(lm, tokens)
    scores = np.full((len(states), len(column)), LN_10 * LOG10_ZERO, dtype=np.float32)
    next_states = np.zeros(scores.shape, dtype=np.int64)
    for length, ngrams in enumerate(lm.ngrams):
        if length > 0:
            contexts = [context for context in lm.ngrams[length - 1] if context in states]
            rows = [states[context] for context in contexts]
            shorter = [_longest_suffix(context, states) for context in contexts]
            backoffs = [LN_10 * lm.ngrams[length - 1][context].log10_backoff for context in contexts]
            scores[rows] = scores[shorter] + np.array(backoffs, dtype=np.float32)[:, None]
            next_states[rows] = next_states[shorter]

        # `<s>` is never predicted, and nothing follows `</s>`.
        listed = [ngram for ngram in ngrams if ngram[-1] in column and ngram[:-1] in states]
        rows = [states[ngram[:-1]] for ngram in listed]
        columns = [column[ngram[-1]] for ngram in listed]
        scores[rows, columns] = [LN_10 * ngrams[ngram].log10_probability for ngram in listed]
        longer = [(states[ngram[:-1]], column[ngram[-1]], states[ngram]) for ngram in listed if ngram in states]
        from_state, by_column, to_state = np.array(longer, dtype=np.int64).reshape(-1, 3).T
        next_states[from_state, by_column] = to_state

    by_token = [column[unit if (unit,) in lm.ngrams[0] else UNKNOWN] for unit in list(column)[: len(tokens)]]
    scores, next_states = scores[:, by_token].copy(), next_states[:, by_token].copy()  # rows in one piece
    next_states[:, BLANK] = np.arange(len(states))  # the prefix as it was
    return torch.from_numpy(scores), torch.from_numpy(next_states)


def _longest_suffix(context: Ngram, states: dict[Ngram, int]) -> int:
    """Return the state of the longest listed context that `context` ends with, itself apart."""
    return next(states[context[start:]] for start in range(1, len(context) + 1) if context[start:] in states)
