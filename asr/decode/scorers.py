"""What a language model must offer to the beam search, and the token n-gram in that form."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from asr.data.tokens import BLANK, TokenTable
from asr.errors import LanguageModelError
from asr.lm.ngram import SENTENCE_END, SENTENCE_START, UNKNOWN, Ngram, NgramLm
from asr.lm.token_ngram import token_units

MAX_TABLE_BYTES = 2 * 1024**3
_BYTES_PER_ENTRY = 4 + 8  # a float32 score and an int64 next state


class Scorer(Protocol):
    """Scores how each row of the beam may go on. A row is one prefix: row `u · beam + k` is prefix `k` of utterance `u`.

    What a state is, is the scorer's own affair: a tensor of automaton states, an RNN's hidden vectors, a tuple of them.
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
            parents: `(row,)` int64, the previous row that each new row continues; there may be more rows than before.
            tokens: `(row,)` int64, the token it takes; 0 leaves the prefix as it is.
        """


class TokenNgramScorer:
    """A back-off n-gram over tokens, expanded into two dense tables; its state is a `(row,)` int64 tensor.

    A state is a context the model lists. `scores (state, token)` and `next_states (state, token)` spell out what
    back-off would find one query at a time, so that a whole beam is scored by one index operation on any device.
    """

    def __init__(self, lm: NgramLm, tokens: TokenTable) -> None:
        """Expand the model.

        A token that the model lacks gets the probability of `<unk>` if the model has that, else log10 p = −99, which
        is how ARPA files write zero.

        Args:
            lm: an n-gram whose units are the symbols of `tokens`, the space written as ▁.
            tokens: the acoustic model's tokens.

        Raises:
            LanguageModelError: a unit is not a token, or the tables would take more than 2 GiB.
        """
        self.contexts = _contexts(lm)
        _check_size(len(self.contexts), len(tokens), lm.order)
        self.scores, self.next_states = _expand(lm, tokens, self.contexts)
        self._start = self.contexts.get((SENTENCE_START,), 0)

    def start(self, batch: int, device: torch.device) -> Tensor:
        """Return `batch` rows at the start of a sentence; the tables move to `device` if they are elsewhere."""
        self.scores, self.next_states = self.scores.to(device), self.next_states.to(device)
        return torch.full((batch,), self._start, device=device)

    def score(self, state: Tensor) -> Tensor:
        """Return `(row, token)` float32 natural-log probabilities; column 0 is the sentence's end."""
        return self.scores[state]

    def advance(self, state: Tensor, parents: Tensor, tokens: Tensor) -> Tensor:
        """Return the states of new rows, see `Scorer`."""
        return self.next_states[state[parents], tokens]


def _contexts(lm: NgramLm) -> dict[Ngram, int]:
    """Return the state of each context: the empty one is 0, shorter ones come before longer ones."""
    listed = [ngram for ngrams in lm.ngrams[: lm.order - 1] for ngram in ngrams if ngram[-1] != SENTENCE_END]
    return {context: state for state, context in enumerate([(), *listed])}


def _check_size(states: int, tokens: int, order: int) -> None:
    size = states * tokens * _BYTES_PER_ENTRY
    if size > MAX_TABLE_BYTES:
        raise LanguageModelError(
            f"a {order}-gram with {states} contexts and {tokens} tokens takes {size / 1024**3:.1f} GiB as tables, "
            f"more than {MAX_TABLE_BYTES / 1024**3:g}; estimate one of a lower order or from less text"
        )


def _expand(lm: NgramLm, tokens: TokenTable, contexts: dict[Ngram, int]) -> tuple[Tensor, Tensor]:
    """Return `scores (state, token)` float32 and `next_states (state, token)` int64.

    A context's row is the row of the longest shorter context, plus its back-off weight, with the n-grams that the
    model lists written over it. In ascending order of length every row needed is finished before it is copied.
    """
    columns = _columns(lm, tokens)
    ...
    raise NotImplementedError
