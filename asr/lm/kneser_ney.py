"""Text → an n-gram model, by interpolated modified Kneser–Ney smoothing.

Counts of n-grams seen in a text are too high, and those of unseen n-grams too low. So a little is subtracted from each
count, and the next lower order gives out what was subtracted. With `a(h w)` the count of an n-gram, `h` its history and
`h'` the history without its first unit,

    p(w | h) = (a(h w) − D(a(h w))) / a(h ·)  +  γ(h) · p(w | h'),        γ(h) = Σ_w D(a(h w)) / a(h ·).

*Kneser–Ney* means that below the highest order `a` is not how often an n-gram occurs, but after how many different
units. "Francisco" is frequent, but follows hardly anything but "San", so it should be rare after other units.
*Modified* means that D depends on the count: D₁, D₂, and D₃ for three and more. They are estimated for each order from
how many n-grams have counts of one to four. *Interpolated*: the formula holds for seen n-grams too. Unigrams are
interpolated with the uniform distribution over the vocabulary.

Pruning leaves out n-grams that occur seldom. Their whole probability goes to the lower order, D = a, so the
probabilities after a history still add up to 1. The other n-grams keep theirs, because discounts and totals are those
of the whole text.

**Counting** happens in arrays; a sentence is a list of strings only while it is read. Ten million words are 40 MB of
numbers. N-grams are counted order by order. An n-gram is identified by one integer, made of the row of its history
among the n-grams of the order below and the number of its last unit. So equal n-grams of any order are found by sorting
integers.

Sources: Chen and Goodman 1998, "An empirical study of smoothing techniques for language modeling", TR-10-98, section 3
(equation 26 for D); Heafield et al. 2013, "Scalable modified Kneser-Ney language model estimation" (`<s>`; n-grams at
the start of a sentence keep their occurrence counts, because nothing is before them; pruning goes by occurrences,
before counts are adjusted, as in its lmplz).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, islice, zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.errors import LanguageModelError
from asr.lm.ngram import (
    LOG10_ZERO,
    MAX_ORDER,
    SENTENCE_END,
    SENTENCE_START,
    UNKNOWN,
    FloatArray,
    IntArray,
    NgramLm,
    NgramTable,
)

Numbers = NDArray[np.int32]
BoolArray = NDArray[np.bool_]

START, END = 0, 1  # the numbers of <s> and </s>

_BLOCK = 1 << 14  # sentences that are strings at the same time


class NumberedText(NamedTuple):
    """All sentences one after the other, each as `<s> … </s>`."""

    units: list[str]  # the vocabulary; a unit's number is its index
    numbers: Numbers  # (position,)


class NgramCounts(NamedTuple):
    """The different n-grams of one order, in `(n-gram,)` arrays."""

    context: Numbers  # the n-gram without its last unit: a row of the order below
    unit: Numbers  # the number of its last unit
    suffix: Numbers  # the n-gram without its first unit: a row of the order below
    is_initial: BoolArray  # begins with <s>
    occurrences: NDArray[np.int64]


def kneser_ney(
    sentences: Iterable[Sequence[str]],
    order: int,
    vocabulary: Iterable[str] | int | None = None,
    prune: Sequence[int] = (),
) -> NgramLm:
    """Estimate an n-gram model.

    Args:
        sentences: their units, without `<s>` and `</s>`; read once, as a stream.
        order: number of units in the longest n-gram. It becomes less if no sentence is that long, `<s>` and `</s>`
            included, or if pruning leaves no n-gram of an order.
        vocabulary: all units except `<s>` and `</s>`. If `<unk>` is one of them, every other unit of the text counts as
            `<unk>`, which gets the probability of all of these together. A number keeps that many of the most frequent
            units, and `<unk>`. None keeps all units of the text, and `<unk>`, which gets the probability of a unit that
            was never seen.
        prune: for each order from 1 on, drop n-grams that occur at most this often; the last number holds for longer
            n-grams too. The first is 0, because unigrams are never dropped. None is smaller than the one before, so
            that the history and the suffix of every n-gram are in the model too.

    Returns:
        A model in which the probabilities of the vocabulary and `</s>` add up to 1 after every history.

    Raises:
        LanguageModelError: there is no sentence; a unit is `<s>` or `</s>`, or is not in a vocabulary without `<unk>`;
            or order, vocabulary or prune is out of range.
    """
    if not 1 <= order <= MAX_ORDER:
        raise LanguageModelError(f"an n-gram's order is from 1 to {MAX_ORDER}, not {order}")
    most = [*prune, *[prune[-1] if prune else 0] * (order - len(prune))]
    if most[0] != 0 or sorted(most) != most or len(most) > order:
        raise LanguageModelError(
            f"cannot prune by {list(prune)}: give at most {order} counts, one for each order, the first 0 "
            "and none smaller than the one before"
        )
    text = number_text(sentences, vocabulary)
    levels = count_ngrams(text, order)
    kept = [np.ones(len(text.units), np.bool_)]
    kept += [level.occurrences > count for level, count in zip(levels[1:], most[1:], strict=False)]
    return _tables(levels, kept, text.units)


def number_text(sentences: Iterable[Sequence[str]], vocabulary: Iterable[str] | int | None) -> NumberedText:
    """Check the text and replace units by numbers: `<s>`, `</s>`, then the vocabulary in alphabetical order.

    Args:
        sentences: their units, without `<s>` and `</s>`; read once, as a stream.
        vocabulary: see `kneser_ney`.

    Raises:
        LanguageModelError: there is no sentence; a unit is `<s>` or `</s>`, or is not in a vocabulary without `<unk>`;
            or the vocabulary is limited to less than one unit.
    """
    seen, numbers = _number_as_met(sentences)
    counts = np.bincount(numbers, minlength=len(seen))
    known = _known(seen, counts, vocabulary)
    outside = seen.keys() - known - {SENTENCE_START, SENTENCE_END}
    if outside and UNKNOWN not in known:
        raise LanguageModelError(f"the text holds units outside the vocabulary: {sorted(outside)[:10]}")
    units = [SENTENCE_START, SENTENCE_END, *sorted(known)]
    final = {unit: number for number, unit in enumerate(units)}
    unknown = final.get(UNKNOWN, -1)
    return NumberedText(units, np.array([final.get(unit, unknown) for unit in seen], dtype=np.int32)[numbers])


def _number_as_met(sentences: Iterable[Sequence[str]]) -> tuple[dict[str, int], Numbers]:
    """Return each unit's number, in order of first occurrence, and the text."""
    seen: defaultdict[str, int] = defaultdict(lambda: len(seen), {SENTENCE_START: START, SENTENCE_END: END})
    blocks: list[Numbers] = []
    remaining, sentence_count = iter(sentences), 0
    while block := list(islice(remaining, _BLOCK)):
        units = chain.from_iterable((SENTENCE_START, *sentence, SENTENCE_END) for sentence in block)
        blocks.append(np.fromiter(map(seen.__getitem__, units), dtype=np.int32))
        sentence_count += len(block)
    if not blocks:
        raise LanguageModelError("a language model needs at least one sentence; the text has none")
    numbers = np.concatenate(blocks)
    counts = np.bincount(numbers)
    if marks := [mark for mark in (SENTENCE_END, SENTENCE_START) if counts[seen[mark]] > sentence_count]:
        raise LanguageModelError(f"the text holds {marks}; leave them out, because every sentence gets them")
    return dict(seen), numbers


def _known(seen: dict[str, int], counts: NDArray[np.int64], vocabulary: Iterable[str] | int | None) -> set[str]:
    """Return the vocabulary without the marks."""
    marks = {SENTENCE_START, SENTENCE_END}
    if vocabulary is None:
        return (seen.keys() | {UNKNOWN}) - marks
    if not isinstance(vocabulary, int):
        return set(vocabulary) - marks
    if vocabulary < 1:
        raise LanguageModelError(f"a vocabulary holds at least one unit, not {vocabulary}")
    by_count = sorted(seen.keys() - marks - {UNKNOWN}, key=lambda unit: (-counts[seen[unit]], unit))
    return {*by_count[:vocabulary], UNKNOWN}


def count_ngrams(text: NumberedText, order: int) -> list[NgramCounts]:
    """Return the n-grams of orders 1 to `order`, or to the length of the longest sentence if that is less.

    Unigrams are the whole vocabulary, seen or not. N-grams of higher orders are those seen, sorted by context and unit.
    """
    numbers, unit_count = text.numbers, len(text.units)
    nothing, units = np.zeros(unit_count, dtype=np.int32), np.arange(unit_count, dtype=np.int32)
    occurrences = np.bincount(numbers, minlength=unit_count)
    occurrences[START] = 0  # it is a history, never a prediction
    levels = [NgramCounts(nothing, units, nothing, units == START, occurrences)]
    rows = numbers  # (position,) the row of the n-gram that begins here
    begins = np.arange(len(numbers))  # the positions where an n-gram of this length begins
    for length in range(2, order + 1):
        begins = begins[numbers[begins + (length - 2)] != END]
        if not len(begins):
            break
        keys = rows[begins].astype(np.int64) * unit_count + numbers[begins + (length - 1)]
        ascending = np.argsort(keys)
        keys = keys[ascending]
        is_first = np.concatenate([[True], keys[1:] != keys[:-1]])
        first = np.flatnonzero(is_first)
        context, unit = np.divmod(keys[first], unit_count)
        del keys
        example = begins[ascending[first]]
        levels.append(
            NgramCounts(
                context.astype(np.int32),
                unit.astype(np.int32),
                suffix=rows[example + 1],
                is_initial=numbers[example] == START,
                occurrences=np.diff(first, append=len(is_first)),
            )
        )
        rows = np.zeros_like(numbers)
        rows[begins[ascending]] = np.cumsum(is_first, dtype=np.int32) - 1
    return levels


class Discounts(NamedTuple):
    """What is subtracted from counts of one, two, and three or more."""

    one: float
    two: float
    three_or_more: float


# For orders with too few n-grams to estimate from. KenLM's --discount_fallback uses the same values.
FALLBACK_DISCOUNTS = Discounts(0.5, 1.0, 1.5)


def estimate_discounts(counts: IntArray) -> Discounts:
    """Return an order's discounts, or `FALLBACK_DISCOUNTS` if they cannot be estimated.

    They cannot on small or very regular texts: no n-gram has a count of one, of two or of three, or a discount is not
    above 0 and at most the count. With a discount of 0, unseen units would have no probability. With one above the
    count, seen units would have a negative probability.

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


def _adjusted_counts(level: NgramCounts, above: NgramCounts | None) -> IntArray:
    """Return `a`: occurrences at the highest order and of initial n-grams, else how many different units are before."""
    if above is None:
        return level.occurrences
    distinct_before = np.bincount(above.suffix, minlength=len(level.unit))
    return np.where(level.is_initial, level.occurrences, distinct_before)


def _smooth(
    levels: Sequence[NgramCounts], kept: Sequence[BoolArray], unit_count: int
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Return each order's probabilities and back-off weights γ, `(n-gram,)`; γ is 1 if the n-gram is no history.

    An n-gram that is not kept has the probability that backing off gives it.
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
    """Return the model of the n-grams that are kept."""
    numbers = {unit: number for number, unit in enumerate(units)}
    rows = np.zeros(1, dtype=np.int64)  # (n-gram of the order below,) its row among those kept
    keys: list[IntArray] = []
    tables: list[NgramTable] = []
    for level, keep, probability, backoff in zip(levels, kept, *_smooth(levels, kept, len(units)), strict=True):
        if not keep.any():
            break  # longer ones occur no more often
        keys.append(rows[level.context[keep]] * len(units) + level.unit[keep])
        rows = np.cumsum(keep) - 1
        log10_probability = np.log10(np.minimum(probability[keep], 1))  # rounding may lead beyond 1
        if not tables:
            log10_probability[START] = LOG10_ZERO
        tables.append(NgramTable(numbers, keys, log10_probability, np.log10(backoff[keep])))
    return NgramLm(tuple(tables))
