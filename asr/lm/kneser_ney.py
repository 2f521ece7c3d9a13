"""Text → numbers → counts of n-grams, in arrays: a sentence is a list of strings only while it is read.

Ten million words are 40 MB of numbers. N-grams are counted one order after the other: an n-gram is told by the row
of its history among the n-grams of the order below and the number of its last unit, which together are one integer,
so that equal n-grams are found by sorting integers, whatever their order.


Interpolated modified Kneser–Ney smoothing: text → n-gram model.

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

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, islice, zip_longest
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.errors import LanguageModelError
from asr.lm.ngram import LOG10_ZERO, SENTENCE_END, SENTENCE_START, UNKNOWN, FloatArray, IntArray, NgramLm, NgramTable

Numbers = NDArray[np.int32]

START, END = 0, 1  # the numbers of <s> and </s>

_BLOCK = 1 << 14  # sentences that are strings at a time


class NumberedText(NamedTuple):
    """All sentences end to end, each as `<s> … </s>`."""

    units: list[str]  # the vocabulary; a unit's number is its place
    numbers: Numbers  # (position,)


class NgramCounts(NamedTuple):
    """The distinct n-grams of one order, in `(n-gram,)` arrays; context and suffix are rows of the order below."""

    context: Numbers  # the n-gram without its last unit
    unit: Numbers  # number of its last unit
    suffix: Numbers  # the n-gram without its first unit
    is_initial: NDArray[np.bool_]  # begins with <s>
    occurrences: NDArray[np.int64]


def number_text(sentences: Iterable[Sequence[str]], vocabulary: Iterable[str] | int | None) -> NumberedText:
    """Check the text and replace units by numbers: `<s>`, `</s>`, then the vocabulary in alphabetical order.

    Args:
        sentences: their units, without `<s>` and `</s>`; walked through once.
        vocabulary: see `kneser_ney`.

    Raises:
        LanguageModelError: there is no sentence, a unit is one of the marks or neither in the vocabulary nor
            covered by its `<unk>`, or the vocabulary is limited to less than one unit.
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


def count_ngrams(text: NumberedText, order: int) -> list[NgramCounts]:
    """Return the n-grams of orders 1 to `order`, or to the longest sentence's length if that is less.

    Unigrams are the whole vocabulary, seen or not; n-grams of other orders are seen, and sorted by context, unit.
    """
    numbers, unit_count = text.numbers, len(text.units)
    nothing, units = np.zeros(unit_count, dtype=np.int32), np.arange(unit_count, dtype=np.int32)
    occurrences = np.bincount(numbers, minlength=unit_count)
    occurrences[START] = 0  # it is a history, never a prediction
    levels = [NgramCounts(nothing, units, nothing, units == START, occurrences)]
    rows = numbers  # (position,) row of the n-gram that begins here
    begins = np.arange(len(numbers))  # positions where an n-gram of the length begins
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


def _number_as_met(sentences: Iterable[Sequence[str]]) -> tuple[dict[str, int], Numbers]:
    """Return each unit's number, in the order in which they are met, and the text."""
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
        raise LanguageModelError(f"the text holds {marks}; these marks are added to every sentence")
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
