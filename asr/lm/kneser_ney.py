"""Interpolated modified Kneser–Ney smoothing: text → n-gram model.

Counts of n-grams seen in a text are too high, and those of unseen ones too low. So a little is taken off each
count, and what was taken is given out by the next lower order. With `a(h w)` the count of an n-gram, `h` its
history and `h'` the history without its first unit,

    p(w | h) = (a(h w) − D(a(h w))) / a(h ·)  +  γ(h) · p(w | h'),        γ(h) = Σ_w D(a(h w)) / a(h ·).

What makes it Kneser–Ney is that below the highest order `a` is not how often an n-gram occurs, but after how
many different units: "Francisco" is frequent, yet follows little but "San", and should be rare after anything
else. What makes it modified is that D depends on the count: D₁, D₂, and D₃ for three and more, estimated per
order from how many n-grams have counts of one to four. Unigrams are interpolated with the uniform
distribution over the vocabulary.

Pruning leaves out n-grams that occur seldom. All they had goes to the lower order, D = a, so the probabilities after
a history still add up to 1; the other n-grams keep theirs, since discounts and totals are those of the whole text.

Sources: Chen and Goodman 1998, "An empirical study of smoothing techniques for language modeling", TR-10-98,
section 3 (equation 26 for D); Heafield et al. 2013, "Scalable modified Kneser-Ney language model estimation"
(`<s>`, and n-grams at the start of a sentence: nothing stands before them, so they keep their occurrence
counts; pruning: by occurrences, before counts are adjusted, as its lmplz does).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.errors import LanguageModelError
from asr.lm.counting import START, NgramCounts, count_ngrams, number_text
from asr.lm.ngram import LOG10_ZERO, NgramLm
from asr.lm.ngram_table import FloatArray, IntArray, NgramTable

BoolArray = NDArray[np.bool_]

MAX_ORDER = 20


class Discounts(NamedTuple):
    """What is taken off counts of one, two, and three or more."""

    one: float
    two: float
    three_or_more: float


# For orders with too few counts of counts to estimate from; the values that KenLM's --discount_fallback uses.
FALLBACK_DISCOUNTS = Discounts(0.5, 1.0, 1.5)


def estimate_discounts(counts: IntArray) -> Discounts:
    """Return an order's discounts, or `FALLBACK_DISCOUNTS` where the estimate breaks down.

    It breaks down on small or very regular texts: where no n-gram has a count of one, of two or of three (no
    character follows only one other), or a discount lies outside (0, count]. With nothing taken off, unseen
    units would have no probability, and with more than the count, seen ones a negative one.

    Args:
        counts: `(n-gram,)`, zeros are ignored.

    Source: Chen and Goodman 1998, equation 26.
    """
    n1, n2, n3, n4 = (int(np.count_nonzero(counts == count)) for count in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    discounts = Discounts(1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    usable = all(0 < discount <= count for count, discount in enumerate(discounts, start=1))
    return discounts if usable else FALLBACK_DISCOUNTS


def kneser_ney(
    sentences: Iterable[Sequence[str]],
    order: int,
    vocabulary: Iterable[str] | int | None = None,
    prune: Sequence[int] = (),
) -> NgramLm:
    """Estimate an n-gram model.

    Args:
        sentences: their units, without `<s>` and `</s>`; walked through once, never held as strings.
        order: the longest n-gram's units; less if no sentence, `<s>` and `</s>` included, is that long, or if
            pruning leaves none.
        vocabulary: all units there are, besides `<s>` and `</s>`. If `<unk>` is among them, every other unit of
            the text counts as `<unk>`, which so gets the probability that such units have together. A number
            means that many of the text's most frequent units, and `<unk>`. Without it, the units of the text
            and `<unk>`, which gets the probability of a unit never seen.
        prune: for each order from 1 on, how often an n-gram may occur and still be left out; the last one holds
            for all longer ones too. Unigrams are never left out, so that the first is 0, and none is below the
            one before: an n-gram's history and suffix are in the model whenever it is.

    Returns:
        A model in which the probabilities of the vocabulary and `</s>` add up to 1 after every history. Its
        tables are arrays.

    Raises:
        LanguageModelError: there is no sentence, a unit is not in a vocabulary without `<unk>` or is one of the
            marks, or order, vocabulary or prune is out of range.
    """
    if not 1 <= order <= MAX_ORDER:
        raise LanguageModelError(f"an n-gram's order lies between 1 and {MAX_ORDER}, not {order}")
    most = [*prune, *[prune[-1] if prune else 0] * (order - len(prune))]
    if most[0] != 0 or sorted(most) != most or len(most) > order:
        raise LanguageModelError(
            f"cannot prune by {list(prune)}: at most {order} counts are expected, one an order, the first 0 "
            "and none less than the one before"
        )
    text = number_text(sentences, vocabulary)
    levels = count_ngrams(text, order)
    kept = [np.ones(len(text.units), np.bool_)]
    kept += [level.occurrences > count for level, count in zip(levels[1:], most[1:], strict=False)]
    return _tables(levels, kept, text.units)


def _adjusted_counts(level: NgramCounts, above: NgramCounts | None) -> IntArray:
    """Return `a`: occurrences at the highest order and of initial n-grams, else the distinct units before."""
    if above is None:
        return level.occurrences
    distinct_before = np.bincount(above.suffix, minlength=len(level.unit))
    return np.where(level.is_initial, level.occurrences, distinct_before)


def _smooth(
    levels: Sequence[NgramCounts], kept: Sequence[BoolArray], unit_count: int
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return each order's probabilities and back-off weights γ, `(n-gram,)`; γ is 1 where no history ends.

    The probability of an n-gram that is not kept is the one that it has by backing off.
    """
    probabilities = [np.array([1 / (unit_count - 1)])]  # order 0, uniform; <s> is never predicted
    backoffs = []
    for level, above, keep in zip_longest(levels, levels[1:], kept):
        counts = _adjusted_counts(level, above)
        discount = np.array([0.0, *estimate_discounts(counts)])[np.minimum(counts, 3)]
        discount = np.where(keep, discount, counts)
        contexts = len(probabilities[-1])
        total = np.bincount(level.context, counts, minlength=contexts)
        taken = np.bincount(level.context, discount, minlength=contexts)
        backoff = np.divide(taken, total, out=np.ones(contexts), where=total > 0)
        lower = backoff[level.context] * probabilities[-1][level.suffix]
        probabilities.append((counts - discount) / total[level.context] + lower)
        backoffs.append(backoff)
    return probabilities[1:], [*backoffs[1:], np.ones(len(probabilities[-1]))]


def _tables(levels: Sequence[NgramCounts], kept: Sequence[BoolArray], units: Sequence[str]) -> NgramLm:
    """Return the n-grams that are kept, with their probabilities and back-off weights."""
    numbers = {unit: number for number, unit in enumerate(units)}
    rows = np.zeros(1, dtype=np.int64)  # (n-gram of the order below,) its row among those kept
    keys: list[IntArray] = []
    tables: list[NgramTable] = []
    for level, keep, probability, backoff in zip(levels, kept, *_smooth(levels, kept, len(units)), strict=True):
        if not keep.any():
            break  # nor are there longer ones, which occur no more often
        keys.append(rows[level.context[keep]] * len(units) + level.unit[keep])
        rows = np.cumsum(keep) - 1
        log10_probability = np.log10(np.minimum(probability[keep], 1))  # rounding may lead beyond 1
        if not tables:
            log10_probability[START] = LOG10_ZERO
        tables.append(NgramTable(numbers, keys, log10_probability, np.log10(backoff[keep])))
    return NgramLm(tuple(tables))
