"""Back-off n-grams as arrays: a sorted table for many words, and a dense one, which is the scorer over tokens.

`BackoffTable` is for word n-grams; `word_scorer.py` uses it. A word trigram may have 200,000 contexts and 60,000 words.
No dense table can hold all pairs, but the model lists only a few million. Each listed pair is one integer,
`context · units + unit`; they are sorted and found by binary search. What is not listed backs off to the next shorter
context, at most `order − 1` times:

    log p(unit | context) = back-off weights from the context down to the longest one that lists the unit + its entry

All shorter contexts of a context are in a table, so that one look-up searches all of them at once. Shorter contexts
have smaller numbers. So among the entries found, the last is that of the longest context. The sum of the weights is a
difference: from the context down to the empty one, minus from the entry's context down. The entry's log-probability
already contains the second part.

`TokenNgramScorer` is for token n-grams. There are few tokens, so every context has a row in a dense table.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from asr.decoding.frames import Float64s, Floats, Ints
from asr.decoding.scorers import TableScorer
from asr.errors import LanguageModelError
from asr.lm.ngram import LN_10, LOG10_ZERO, SENTENCE_END, SENTENCE_START, UNKNOWN, Ngram, NgramLm
from asr.lm.texts import token_units
from asr.text.tokens import BLANK, TokenTable


class BackoffTable(NamedTuple):
    """An n-gram model. Contexts and units are integers; context 0 is the empty one."""

    start: int  # the context at a sentence's start
    # (ngram,), ascending: context · units + unit of each listed n-gram. The last is the greatest integer, so that a
    # search never ends beyond the table.
    keys: Ints
    log_probs: Float64s  # (ngram,) natural logs, minus the context's `backoff`
    next_contexts: Ints  # (ngram,), the longest context that the n-gram ends with
    chains: Ints  # (context, order): units · the context, · the longest other one that it ends with, …, · 0
    backoff: Float64s  # (context,) natural logs, the sum of the weights down to the empty context

    def look_up(self, context: Ints, unit: Ints) -> tuple[Float64s, Ints]:
        """Return the units' natural-log probabilities and the contexts after them.

        Args:
            context: `(row,)`.
            unit: `(row,)`, each in the vocabulary.

        Returns:
            Both `(row,)`, equal to `NgramLm.log_prob` of the whole history.
        """
        keys = self.chains.take(context, axis=0) + unit[:, None]
        places = np.searchsorted(self.keys, keys)
        listed = self.keys.take(places) == keys
        place = (places * listed).max(axis=1)  # of the longest context; the empty one lists every unit
        return self.log_probs.take(place) + self.backoff.take(context), self.next_contexts.take(place)


def backoff_table(lm: NgramLm) -> tuple[BackoffTable, dict[str, int]]:
    """Return the model as a table, and the integer of each unit."""
    units = {unit: index for index, (unit,) in enumerate(lm.ngrams[0])}
    contexts = _contexts(lm)

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
        keys=np.append(np.array(keys, dtype=np.int64)[ascending], np.iinfo(np.int64).max),
        log_probs=np.array(log_probs)[ascending],
        next_contexts=np.array(next_contexts, dtype=np.int64)[ascending],
        chains=np.stack(chains, axis=1) * len(units),
        backoff=backoff,
    )
    return table, units


def _longest_suffix(ngram: Ngram, contexts: dict[Ngram, int]) -> int:
    """Return the longest context that the n-gram ends with, itself included."""
    return next(contexts[ngram[start:]] for start in range(len(ngram) + 1) if ngram[start:] in contexts)


MAX_TABLE_BYTES = 2 * 2**30
_BYTES_PER_ENTRY = 4 + 8  # a float32 score and an int64 next state


class TokenNgramScorer(TableScorer):
    """A back-off n-gram over tokens, expanded into two dense tables.

    A state is a context of the model. `scores (state, token)` and `next_states (state, token)` hold what back-off would
    find, so that one index operation scores a whole beam.

    Attributes:
        contexts: the state of each context; 0 is the empty one.
        scores: float32 natural logs; column 0 is the sentence's end.
        next_states: int64; column 0 is the state itself.
    """

    def __init__(self, lm: NgramLm, tokens: TokenTable) -> None:
        """Expand the model.

        A token that the model lacks gets the probability of `<unk>`. If the model has no `<unk>` it gets 10⁻⁹⁹, which
        is how ARPA files write zero.

        Args:
            lm: an n-gram whose units are the symbols of `tokens`, with the space written as ▁.
            tokens: the acoustic model's tokens.

        Raises:
            LanguageModelError: a unit is not a token, or the tables would take more than 2 GiB.
        """
        self.contexts = _contexts(lm)
        _check_size(len(self.contexts), len(tokens), lm.order)
        super().__init__(*_expand(lm, tokens, self.contexts), self.contexts.get((SENTENCE_START,), 0))


def _contexts(lm: NgramLm) -> dict[Ngram, int]:
    """Return the number of each context: 0 is the empty one, and shorter ones come before longer ones."""
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
    """Return each unit's column: a token's id, 0 for the sentence's end, and one after all tokens for `<unk>`."""
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


def _expand(lm: NgramLm, tokens: TokenTable, states: dict[Ngram, int]) -> tuple[Floats, Ints]:
    """Return `scores (state, token)` float32 and `next_states (state, token)` int64.

    A context's row is the row of the longest shorter context plus its back-off weight, overwritten by the n-grams that
    the model lists. Contexts come in ascending order of length, so every row is finished before it is copied.
    """
    column = _columns(lm, tokens)
    scores = np.full((len(states), len(column)), LN_10 * LOG10_ZERO, dtype=np.float32)
    next_states = np.zeros(scores.shape, dtype=np.int64)
    for length, ngrams in enumerate(lm.ngrams):
        if length > 0:
            contexts = [context for context in lm.ngrams[length - 1] if context in states]
            rows = [states[context] for context in contexts]
            shorter = [_longest_suffix(context[1:], states) for context in contexts]
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
    scores, next_states = scores[:, by_token].copy(), next_states[:, by_token].copy()  # each row in one piece of memory
    next_states[:, BLANK] = np.arange(len(states))  # the prefix as it was
    return scores, next_states
