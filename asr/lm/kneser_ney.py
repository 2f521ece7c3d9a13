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

Sources: Chen and Goodman 1998, "An empirical study of smoothing techniques for language modeling", TR-10-98,
section 3 (equation 26 for D); Heafield et al. 2013, "Scalable modified Kneser-Ney language model estimation"
(`<s>`, and n-grams at the start of a sentence: nothing stands before them, so they keep their occurrence
counts).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.errors import LanguageModelError
from asr.lm.ngram import LOG10_ZERO, SENTENCE_END, SENTENCE_START, UNKNOWN, Ngram, NgramEntry, NgramLm

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

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


def kneser_ney(sentences: Iterable[Sequence[str]], order: int, vocabulary: Iterable[str] | None = None) -> NgramLm:
    """Estimate an n-gram model.

    Args:
        sentences: their units, without `<s>` and `</s>`.
        order: the longest n-gram's units; less if no sentence, `<s>` and `</s>` included, is that long.
        vocabulary: all units there are, besides `<s>` and `</s>`. Without it, the units of the text and
            `<unk>`, which gets the probability of a unit never seen.

    Returns:
        A model in which the probabilities of the vocabulary and `</s>` add up to 1 after every history.

    Raises:
        LanguageModelError: there is no sentence, a unit is not in the vocabulary or is one of the marks, or
            the order is out of range.
    """
    if not 1 <= order <= MAX_ORDER:
        raise LanguageModelError(f"an n-gram's order lies between 1 and {MAX_ORDER}, not {order}")
    text = _number(sentences, vocabulary)
    return NgramLm(tuple(_entries(_count(text, order), text.units)))


_START = 0  # the number of <s>


class _Text(NamedTuple):
    """All sentences end to end, each as `<s> … </s>`."""

    units: list[str]  # the vocabulary; a unit's number is its place
    numbers: IntArray  # (position,)
    left: IntArray  # (position,) units from here to the sentence's end, both included


class _Level(NamedTuple):
    """The distinct n-grams of one order, in `(n-gram,)` arrays; context and suffix are of the order below."""

    context: IntArray  # index of the n-gram without its last unit
    unit: IntArray  # number of its last unit
    suffix: IntArray  # index of the n-gram without its first unit
    is_initial: NDArray[np.bool_]  # begins with <s>
    occurrences: IntArray


def _number(sentences: Iterable[Sequence[str]], vocabulary: Iterable[str] | None) -> _Text:
    """Check the text and replace units by numbers, so that n-grams can be counted by sorting integers."""
    listed = list(sentences)
    if not listed:
        raise LanguageModelError("a language model needs at least one sentence; the text has none")
    seen = set().union(*listed)
    marks = {SENTENCE_START, SENTENCE_END}
    if seen & marks:
        raise LanguageModelError(f"the text holds {sorted(seen & marks)}; these marks are added to every sentence")
    known = (seen | {UNKNOWN} if vocabulary is None else set(vocabulary)) - marks
    if seen - known:
        raise LanguageModelError(f"the text holds units outside the vocabulary: {sorted(seen - known)[:10]}")
    units = [SENTENCE_START, SENTENCE_END, *sorted(known)]
    number = {unit: index for index, unit in enumerate(units)}
    lengths = np.array([len(sentence) + 2 for sentence in listed])
    numbers = np.fromiter(
        (number[unit] for sentence in listed for unit in (SENTENCE_START, *sentence, SENTENCE_END)), np.int64
    )
    ends = np.repeat(np.cumsum(lengths), lengths)  # (position,) where its sentence ends
    return _Text(units, numbers, ends - np.arange(len(numbers)))


def _count(text: _Text, order: int) -> list[_Level]:
    """Return the n-grams of orders 1 to `order`; the unigrams are the whole vocabulary, seen or not.

    An n-gram is told by the index of its context among the n-grams of the order below, and its last unit.
    """
    unit_count = len(text.units)
    nothing = np.zeros(unit_count, dtype=np.int64)
    units = np.arange(unit_count)
    occurrences = np.bincount(text.numbers, minlength=unit_count)
    occurrences[_START] = 0  # it is a history, never a prediction
    levels = [_Level(nothing, units, nothing, units == _START, occurrences)]
    ids = text.numbers  # (position,) index of the n-gram that begins here
    for length in range(2, min(order, int(text.left.max())) + 1):
        begins = np.flatnonzero(text.left >= length)
        keys = ids[begins] * unit_count + text.numbers[begins + length - 1]
        distinct, first, inverse, occurrences = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        example = begins[first]
        levels.append(
            _Level(
                context=distinct // unit_count,
                unit=distinct % unit_count,
                suffix=ids[example + 1],
                is_initial=text.numbers[example] == _START,
                occurrences=occurrences,
            )
        )
        ids = np.zeros_like(text.numbers)
        ids[begins] = inverse
    return levels


def _adjusted_counts(level: _Level, above: _Level | None) -> IntArray:
    """Return `a`: occurrences at the highest order and of initial n-grams, else the distinct units before."""
    if above is None:
        return level.occurrences
    distinct_before = np.bincount(above.suffix, minlength=len(level.unit))
    return np.where(level.is_initial, level.occurrences, distinct_before)


def _entries(levels: Sequence[_Level], units: Sequence[str]) -> list[dict[Ngram, NgramEntry]]:
    """Return each order's n-grams with their probabilities and back-off weights."""
    probabilities, backoffs = _smooth(levels, len(units))
    names: list[Ngram] = [()]
    tables = []
    for level, probability, backoff in zip(levels, probabilities, backoffs, strict=True):
        names = [
            (*names[context], units[unit])
            for context, unit in zip(level.context.tolist(), level.unit.tolist(), strict=True)
        ]
        numbers = zip(np.log10(probability).tolist(), np.log10(backoff).tolist(), strict=True)
        tables.append({name: NgramEntry(*pair) for name, pair in zip(names, numbers, strict=True)})
    start = (SENTENCE_START,)
    tables[0][start] = tables[0][start]._replace(log10_probability=LOG10_ZERO)
    return tables


def _smooth(levels: Sequence[_Level], unit_count: int) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return each order's probabilities and back-off weights γ, `(n-gram,)`; γ is 1 where no history ends."""
    probabilities = [np.array([1 / (unit_count - 1)])]  # order 0, uniform; <s> is never predicted
    backoffs = []
    for level, above in zip_longest(levels, levels[1:]):
        counts = _adjusted_counts(level, above)
        discount = np.array([0.0, *estimate_discounts(counts)])[np.minimum(counts, 3)]
        contexts = len(probabilities[-1])
        total = np.bincount(level.context, counts, minlength=contexts)
        taken = np.bincount(level.context, discount, minlength=contexts)
        backoff = np.divide(taken, total, out=np.ones(contexts), where=total > 0)
        lower = backoff[level.context] * probabilities[-1][level.suffix]
        probabilities.append((counts - discount) / total[level.context] + lower)
        backoffs.append(backoff)
    return probabilities[1:], [*backoffs[1:], np.ones(len(probabilities[-1]))]
