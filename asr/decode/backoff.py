"""A back-off n-gram as sorted tensors, looked up for many histories at once.

A word trigram may have 200,000 contexts and 60,000 words: no dense table holds their pairs, though the model lists only
a few million of them. These are kept sorted by one integer each, `context · units + unit`, and found by binary search.
What is not listed backs off to the next shorter context, at most `order − 1` times; that is the only loop, and all
rows go through it together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.lm.ngram import LN_10, SENTENCE_END, SENTENCE_START, Ngram, NgramLm


class BackoffTable(NamedTuple):
    """An n-gram model. A context is an integer, 0 the empty one; a unit is one as well."""

    order: int
    start: int  # the context at a sentence's start
    keys: Tensor  # (ngram,) int64, ascending: context · units + unit of each n-gram that is listed
    log_probs: Tensor  # (ngram,) float64 natural logs
    next_contexts: Tensor  # (ngram,) int64, the longest context that the n-gram ends with
    backoffs: Tensor  # (context,) float64 natural logs
    shorter: Tensor  # (context,) int64, the longest context that a context ends with, itself apart
    units: int

    def to(self, device: torch.device) -> BackoffTable:
        """Return the table on a device."""
        return self._replace(
            keys=self.keys.to(device),
            log_probs=self.log_probs.to(device),
            next_contexts=self.next_contexts.to(device),
            backoffs=self.backoffs.to(device),
            shorter=self.shorter.to(device),
        )

    def look_up(self, context: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        """Return the units' natural-log probabilities and the contexts after them.

        Args:
            context: `(row,)` int64.
            unit: `(row,)` int64, each in the vocabulary.

        Returns:
            `(row,)` float64 and `(row,)` int64, equal to `NgramLm.log_prob` of the whole history.
        """
        log_prob = torch.zeros(context.shape, dtype=torch.float64, device=context.device)
        after = torch.zeros_like(context)
        found = torch.zeros_like(context, dtype=torch.bool)
        for _ in range(self.order):  # the last is the empty context, which lists every unit
            key = context * self.units + unit
            place = torch.searchsorted(self.keys, key).clamp_(max=len(self.keys) - 1)
            listed = self.keys[place] == key
            step = torch.where(listed, self.log_probs[place], self.backoffs[context])
            log_prob = torch.where(found, log_prob, log_prob + step)
            after = torch.where(listed & ~found, self.next_contexts[place], after)
            found |= listed
            context = self.shorter[context]
        return log_prob, after


def backoff_table(lm: NgramLm) -> tuple[BackoffTable, dict[str, int]]:
    """Return the model as a table, and the integer of each unit that it lists."""
    units = {unit: index for index, (unit,) in enumerate(lm.ngrams[0])}
    listed = [ngram for ngrams in lm.ngrams[: lm.order - 1] for ngram in ngrams if ngram[-1] != SENTENCE_END]
    contexts = {context: index for index, context in enumerate([(), *listed])}

    backoffs = [0.0] * len(contexts)
    keys, log_probs, next_contexts = [], [], []
    for ngrams in lm.ngrams:
        for ngram, entry in ngrams.items():
            if ngram[:-1] not in contexts:
                continue  # no history leads there
            keys.append(contexts[ngram[:-1]] * len(units) + units[ngram[-1]])
            log_probs.append(LN_10 * entry.log10_probability)
            next_contexts.append(_longest_suffix(ngram, contexts))
            if ngram in contexts:
                backoffs[contexts[ngram]] = LN_10 * entry.log10_backoff
    ascending = np.argsort(keys)
    table = BackoffTable(
        order=lm.order,
        start=contexts.get((SENTENCE_START,), 0),
        keys=torch.from_numpy(np.array(keys, dtype=np.int64)[ascending]),
        log_probs=torch.from_numpy(np.array(log_probs)[ascending]),
        next_contexts=torch.from_numpy(np.array(next_contexts, dtype=np.int64)[ascending]),
        backoffs=torch.tensor(backoffs, dtype=torch.float64),
        shorter=torch.tensor([_longest_suffix(context[1:], contexts) for context in contexts]),
        units=len(units),
    )
    return table, units


def _longest_suffix(ngram: Ngram, contexts: dict[Ngram, int]) -> int:
    """Return the longest context that the n-gram ends with, itself included."""
    return next(contexts[ngram[start:]] for start in range(len(ngram) + 1) if ngram[start:] in contexts)
