"""An n-gram model's entries in arrays: a tenth of the memory of dictionaries, behind the same interface."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from asr.lm.ngram import Ngram, NgramEntry

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

_BLOCK = 1 << 16  # n-grams that become Python objects at a time


class NgramTable(Mapping[Ngram, NgramEntry]):
    """The n-grams of one order, looked up by binary search, in ascending order of their keys.

    An n-gram's key is `row · units + number`, with the row of its history among the n-grams of the order below
    and the number of its last unit. A unigram's key is its unit's number.
    """

    def __init__(
        self,
        numbers: Mapping[str, int],
        keys: Sequence[IntArray],
        log10_probabilities: FloatArray,
        log10_backoffs: FloatArray,
    ) -> None:
        """Take the arrays as they are, without a copy.

        Args:
            numbers: the number of each unit: 0, 1, 2, … in the mapping's order.
            keys: `(n-gram,)` of order 1, 2, … up to the table's; ascending, the first one is 0, 1, 2, ….
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
        """Return a view that is walked without looking each n-gram up."""
        return _Items(self)

    def entries(self) -> Iterator[tuple[Ngram, NgramEntry]]:
        """Yield each n-gram with its numbers."""
        for ngrams, block in self._blocks():
            probabilities = self._log10_probabilities[block].tolist()
            yield from zip(ngrams, map(NgramEntry, probabilities, self._log10_backoffs[block].tolist()), strict=True)

    def _row(self, ngram: Ngram) -> int:
        """Return an n-gram's row, −1 if it is not listed."""
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
        """Yield the n-grams and which they are, some at a time."""
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
