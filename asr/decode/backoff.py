"""A back-off n-gram as sorted tensors, looked up for many histories at once.

A word trigram may have 200,000 contexts and 60,000 words: no dense table holds their pairs, though the model lists only
a few million of them. These are kept sorted by one integer each, `context · units + unit`, and found by binary search.
What is not listed backs off to the next shorter context, at most `order − 1` times. A context's whole way down is laid
out beforehand, so that a look-up searches all of it at once and takes the longest context that lists the unit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.lm.ngram import LN_10, SENTENCE_END, SENTENCE_START, Ngram, NgramLm


class BackoffTable(NamedTuple):
    """An n-gram model. A context is an integer, 0 the empty one; a unit is one as well."""

    start: int  # the context at a sentence's start
    keys: Tensor  # (ngram,) int64, ascending: context · units + unit of each n-gram that is listed
    log_probs: Tensor  # (ngram,) float64 natural logs
    next_contexts: Tensor  # (ngram,) int64, the longest context that the n-gram ends with
    chains: Tensor  # (context, order) int64: itself, the longest other context that it ends with, … the empty one
    backoffs: Tensor  # (context, order) float64 natural logs, what it costs to back off to each of the chain
    units: int

    def to(self, device: torch.device) -> BackoffTable:
        """Return the table on a device."""
        return self._replace(
            keys=self.keys.to(device),
            log_probs=self.log_probs.to(device),
            next_contexts=self.next_contexts.to(device),
            chains=self.chains.to(device),
            backoffs=self.backoffs.to(device),
        )

    def look_up(self, context: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Return the units' natural-log probabilities and the contexts after them.

        Args:
            context: `(row,)` int64.
            unit: `(row,)` int64, each in the vocabulary.

        Returns:
            `(row,)` float64 and `(row,)` int64, equal to `NgramLm.log_prob` of the whole history.
        """
        keys = self.chains.index_select(0, context) * self.units + unit[:, None]
        places = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
        listed = self.keys.take(places) == keys
        longest = listed.byte().argmax(dim=1, keepdim=True)  # the first that lists it; the empty context lists all
        place = places.gather(1, longest).squeeze(1)
        backoff = self.backoffs.index_select(0, context).gather(1, longest).squeeze(1)
        return self.log_probs[place] + backoff, self.next_contexts[place]


def backoff_table(lm: NgramLm) -> tuple[BackoffTable, dict[str, int]]:
    """Return the model as a table, and the integer of each unit that it lists."""
    units = {unit: index for index, (unit,) in enumerate(lm.ngrams[0])}
    listed = [ngram for ngrams in lm.ngrams[: lm.order - 1] for ngram in ngrams if ngram[-1] != SENTENCE_END]
    contexts = {context: index for index, context in enumerate([(), *listed])}

    backoff = [0.0] * len(contexts)
    keys, log_probs, next_contexts = [], [], []
    for ngrams in lm.ngrams:
        for ngram, entry in ngrams.items():
            if ngram[:-1] not in contexts:
                continue  # no history leads there
            keys.append(contexts[ngram[:-1]] * len(units) + units[ngram[-1]])
            log_probs.append(LN_10 * entry.log10_probability)
            next_contexts.append(_longest_suffix(ngram, contexts))
            if ngram in contexts:
                backoff[contexts[ngram]] = LN_10 * entry.log10_backoff
    ascending = np.argsort(keys)
    shorter = np.array([_longest_suffix(context[1:], contexts) for context in contexts])
    chains, costs = [np.arange(len(contexts))], [np.zeros(len(contexts))]
    while len(chains) < lm.order:
        costs.append(costs[-1] + np.array(backoff)[chains[-1]])
        chains.append(shorter[chains[-1]])
    table = BackoffTable(
        start=contexts.get((SENTENCE_START,), 0),
        keys=torch.from_numpy(np.array(keys, dtype=np.int64)[ascending]),
        log_probs=torch.from_numpy(np.array(log_probs)[ascending]),
        next_contexts=torch.from_numpy(np.array(next_contexts, dtype=np.int64)[ascending]),
        chains=torch.from_numpy(np.stack(chains, axis=1)),
        backoffs=torch.from_numpy(np.stack(costs, axis=1)),
        units=len(units),
    )
    return table, units


def _longest_suffix(ngram: Ngram, contexts: dict[Ngram, int]) -> int:
    """Return the longest context that the n-gram ends with, itself included."""
    return next(contexts[ngram[start:]] for start in range(len(ngram) + 1) if ngram[start:] in contexts)
