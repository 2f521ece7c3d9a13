"""Text → numbers → counts of n-grams, in arrays: a sentence is a list of strings only while it is read.

Ten million words are 40 MB of numbers. N-grams are counted one order after the other: an n-gram is told by the row
of its history among the n-grams of the order below and the number of its last unit, which together are one integer,
so that equal n-grams are found by sorting integers, whatever their order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.errors import LanguageModelError
from asr.lm.ngram import SENTENCE_END, SENTENCE_START, UNKNOWN

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
