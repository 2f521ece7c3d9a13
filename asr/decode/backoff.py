"""A back-off n-gram as sorted tensors, looked up for many histories at once.

A word trigram may have 200,000 contexts and 60,000 words: no dense table holds their pairs, though the model lists only
a few million of them. These are kept sorted by one integer each, `context · units + unit`, and found by binary search.
What is not listed backs off to the next shorter context, at most `order − 1` times:

    log p(unit | context) = the back-off weights from the context down to the longest that lists the unit + its entry

A context's whole way down is laid out beforehand, so that a look-up searches all of it at once. Contexts are numbered
with shorter ones before longer ones, so that of the entries found the last is that of the longest context. The sum of
weights is a difference: those from the context down to the empty one, less those from the entry's context down, which
its log-probability already contains.
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
    keys: Tensor  # (ngram,) int64, ascending: context · units + unit of each n-gram that is listed; behind them the
    # greatest integer, so that a search ends within
    log_probs: Tensor  # (ngram,) float64 natural logs, less the context's `backoff`
    next_contexts: Tensor  # (ngram,) int64, the longest context that the n-gram ends with
    chains: Tensor  # (context, order) int64: units · itself, the longest other one that it ends with, … the empty one
    backoff: Tensor  # (context,) float64 natural logs, what it costs to back off to the empty one

    def to(self, device: torch.device) -> BackoffTable:
        """Return the table on a device."""
        return self._replace(
            keys=self.keys.to(device),
            log_probs=self.log_probs.to(device),
            next_contexts=self.next_contexts.to(device),
            chains=self.chains.to(device),
            backoff=self.backoff.to(device),
        )

    def look_up(self, context: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Return the units' natural-log probabilities and the contexts after them.

        Args:
            context: `(row,)` int64.
            unit: `(row,)` int64, each in the vocabulary.

        Returns:
            `(row,)` float64 and `(row,)` int64, equal to `NgramLm.log_prob` of the whole history.
        """
        keys = self.chains.index_select(0, context) + unit[:, None]
        places = torch.searchsorted(self.keys, keys)
        listed = self.keys.take(places) == keys
        place = places.mul_(listed).amax(dim=1)  # the longest context's; the empty context lists all
        log_prob = self.log_probs.index_select(0, place) + self.backoff.index_select(0, context)
        return log_prob, self.next_contexts.index_select(0, place)


def backoff_table(lm: NgramLm) -> tuple[BackoffTable, dict[str, int]]:
    """Return the model as a table, and the integer of each unit that it lists."""
    units = {unit: index for index, (unit,) in enumerate(lm.ngrams[0])}
    listed = [ngram for ngrams in lm.ngrams[: lm.order - 1] for ngram in ngrams if ngram[-1] != SENTENCE_END]
    contexts = {context: index for index, context in enumerate([(), *listed])}

    shorter = np.array([_longest_suffix(context[1:], contexts) for context in contexts])
    backoff = np.zeros(len(contexts))
    keys, log_probs, next_contexts = [], [], []
    for ngrams in lm.ngrams:
        for ngram, entry in ngrams.items():
            if ngram[:-1] not in contexts:
                continue  # no history leads there
            context = contexts[ngram[:-1]]
            keys.append(context * len(units) + units[ngram[-1]])
            log_probs.append(LN_10 * entry.log10_probability - backoff[context])
            next_contexts.append(_longest_suffix(ngram, contexts))
            if ngram in contexts:  # the shorter ones are complete
                backoff[contexts[ngram]] = backoff[shorter[contexts[ngram]]] + LN_10 * entry.log10_backoff
    ascending = np.argsort(keys)
    chains = [np.arange(len(contexts))]
    while len(chains) < lm.order:
        chains.append(shorter[chains[-1]])
    table = BackoffTable(
        start=contexts.get((SENTENCE_START,), 0),
        keys=torch.from_numpy(np.append(np.array(keys, dtype=np.int64)[ascending], np.iinfo(np.int64).max)),
        log_probs=torch.from_numpy(np.array(log_probs)[ascending]),
        next_contexts=torch.from_numpy(np.array(next_contexts, dtype=np.int64)[ascending]),
        chains=torch.from_numpy(np.stack(chains, axis=1) * len(units)),
        backoff=torch.from_numpy(backoff),
    )
    return table, units


def _longest_suffix(ngram: Ngram, contexts: dict[Ngram, int]) -> int:
    """Return the longest context that the n-gram ends with, itself included."""
    return next(contexts[ngram[start:]] for start in range(len(ngram) + 1) if ngram[start:] in contexts)
