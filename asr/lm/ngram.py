"""Back-off n-gram models: a history and a unit → a probability. Units are strings: words, or symbols of tokens.

`NgramTable` keeps the n-grams of one order in arrays. It takes a tenth of the memory of a dictionary and is read like
one.
"""

from __future__ import annotations

import math
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SENTENCE_START, SENTENCE_END, UNKNOWN = "<s>", "</s>", "<unk>"
MARKS = frozenset({SENTENCE_START, SENTENCE_END, UNKNOWN})  # units of a model over words that are no words

# How ARPA files write the logarithm of zero, as for `<s>`, which is never predicted.
LOG10_ZERO = -99.0
MAX_ORDER = 20

LN_10 = math.log(10.0)

Ngram = tuple[str, ...]


class NgramEntry(NamedTuple):
    """An n-gram's numbers as in an ARPA file; a missing back-off weight is 0, which is a factor of 1."""

    log10_probability: float
    log10_backoff: float = 0.0


class Perplexity(NamedTuple):
    """How well a model predicts a text: `exp(−mean log-probability)` of its units and sentence ends.

    Attributes:
        perplexity: the smaller, the better.
        units: how many units are predicted, sentence ends included.
        oovs: how many units are not in the vocabulary; the mean leaves them out.
    """

    perplexity: float
    units: int
    oovs: int


@dataclass(frozen=True)
class NgramLm:
    """A back-off n-gram model.

    Attributes:
        ngrams: `ngrams[n - 1]` holds the n-grams of `n` units; the last unit is the predicted one.
    """

    ngrams: tuple[Mapping[Ngram, NgramEntry], ...]

    @property
    def order(self) -> int:
        """The number of units in the longest n-gram."""
        return len(self.ngrams)

    def log_prob(self, history: Sequence[str], unit: str) -> float:
        """Return the natural-log probability that `unit` follows `history`.

        Units outside the vocabulary count as `<unk>`. If the model has no `<unk>`, their probability is 0, and the
        result is −inf.

        Args:
            history: the units before, with `<s>` at the start of the sentence. Only the last ones matter.
            unit: the predicted unit; `</s>` for the end of the sentence.

        Source: Katz 1987, in the form of the ARPA format: p(w | h) is what the model lists for h w, else
        backoff(h) · p(w | h without its first unit).
        """
        unit = self._known(unit)
        context = tuple(self._known(past) for past in history[max(0, len(history) - self.order + 1) :])
        log10_backoff = 0.0
        for start in range(len(context) + 1):
            past = context[start:]
            entry = self.ngrams[len(past)].get((*past, unit))
            if entry is not None:
                return LN_10 * (log10_backoff + entry.log10_probability)
            if past and past in self.ngrams[len(past) - 1]:
                log10_backoff += self.ngrams[len(past) - 1][past].log10_backoff
        return -math.inf

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> Perplexity:
        """Return the perplexity on sentences without `<s>` and `</s>`; NaN if no unit is predicted."""
        total, units, oovs = 0.0, 0, 0
        for sentence in sentences:
            units_and_end = [SENTENCE_START, *sentence, SENTENCE_END]
            for position in range(1, len(units_and_end)):
                unit = units_and_end[position]
                if (unit,) not in self.ngrams[0]:
                    oovs += 1
                    continue
                total += self.log_prob(units_and_end[max(0, position - self.order + 1) : position], unit)
                units += 1
        return Perplexity(math.exp(-total / units) if units else math.nan, units, oovs)

    def _known(self, unit: str) -> str:
        return unit if (unit,) in self.ngrams[0] else UNKNOWN


IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_BLOCK = 1 << 16  # n-grams that are Python objects at the same time


class NgramTable(Mapping[Ngram, NgramEntry]):
    """The n-grams of one order in ascending order of their keys, looked up by binary search.

    An n-gram's key is `row · units + number`: the row of its history among the n-grams of the order below, and the
    number of its last unit. A unigram's key is the number of its unit.
    """

    def __init__(
        self,
        numbers: Mapping[str, int],
        keys: Sequence[IntArray],
        log10_probabilities: FloatArray,
        log10_backoffs: FloatArray,
    ) -> None:
        """Keep the arrays without copying them.

        Args:
            numbers: the number of each unit: 0, 1, 2, … in the mapping's order.
            keys: `(n-gram,)` for each order from 1 to the table's, ascending; those of order 1 are 0, 1, 2, ….
            log10_probabilities: `(n-gram,)` of the table's order.
            log10_backoffs: `(n-gram,)` of the table's order, 0 for a factor of 1.
        """
        self._numbers = numbers
        self._keys = tuple(keys)
        self._log10_probabilities = log10_probabilities
        self._log10_backoffs = log10_backoffs

    def __len__(self) -> int:
        return len(self._log10_probabilities)

    def __getitem__(self, ngram: Ngram) -> NgramEntry:
        row = self._row(ngram)
        if row < 0:
            raise KeyError(ngram)
        return NgramEntry(float(self._log10_probabilities[row]), float(self._log10_backoffs[row]))

    def __contains__(self, ngram: object) -> bool:
        return isinstance(ngram, tuple) and self._row(ngram) >= 0

    def __iter__(self) -> Iterator[Ngram]:
        for ngrams, _ in self._blocks():
            yield from ngrams

    def items(self) -> ItemsView[Ngram, NgramEntry]:
        """Return a view; going through it looks no n-gram up."""
        return _Items(self)

    def entries(self) -> Iterator[tuple[Ngram, NgramEntry]]:
        """Yield each n-gram with its numbers."""
        for ngrams, block in self._blocks():
            probabilities = self._log10_probabilities[block].tolist()
            yield from zip(ngrams, map(NgramEntry, probabilities, self._log10_backoffs[block].tolist()), strict=True)

    def _row(self, ngram: Ngram) -> int:
        """Return an n-gram's row, or −1 if it is not listed."""
        if len(ngram) != len(self._keys):
            return -1
        row = 0
        for keys, unit in zip(self._keys, ngram, strict=True):
            number = self._numbers.get(unit, -1)
            if number < 0:
                return -1
            key = row * len(self._numbers) + number
            row = int(keys.searchsorted(key))
            if row == len(keys) or keys[row] != key:
                return -1
        return row

    def _blocks(self) -> Iterator[tuple[list[Ngram], slice]]:
        """Yield blocks of n-grams, each with the slice of its rows."""
        units = np.array(list(self._numbers), dtype=object)
        for start in range(0, len(self), _BLOCK):
            block = slice(start, start + _BLOCK)
            keys, columns = self._keys[-1][block], []
            for shorter in reversed(self._keys[:-1]):
                history, number = np.divmod(keys, len(units))
                columns.append(units[number].tolist())
                keys = shorter[history]
            columns.append(units[keys].tolist())
            yield list(zip(*reversed(columns), strict=True)), block


class _Items(ItemsView[Ngram, NgramEntry]):
    def __init__(self, table: NgramTable) -> None:
        super().__init__(table)
        self._table = table

    def __iter__(self) -> Iterator[tuple[Ngram, NgramEntry]]:
        return self._table.entries()
