"""Two sequences of words → which was taken for which: the alignment with the fewest errors, chosen as sclite does.

Several alignments can have the fewest errors. They can differ in how many errors are substitutions, and in which words
are paired. The rule here:

1. As few errors as possible: substitutions + deletions + insertions. So the number of errors is the edit distance.
2. Among these, as few substitutions as possible, so as many words right as possible.
3. Among these, the pairs are chosen from the last word to the first: a pair where possible, else a deletion if it is
   cheaper than an insertion, else an insertion.

sclite of NIST has the weights 4 : 3 : 3 for substitutions, deletions and insertions, with the third point as here.
Wherever its alignment has the fewest errors, which is up to an error rate of about 40 % nearly always, the two are the
same, and so are S, D and I. In utterances that are mostly wrong, sclite sometimes prefers one error more with another
word right: two of every 100 at error rates near 100 %. Its error rate is then the higher one.

Source: Wagner & Fischer 1974, "The string-to-string correction problem"; sclite's order of choice is that of
`calculate_internal_cells` in SCTK 2.4, src/sclite/net_dp.c.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

Pair: TypeAlias = tuple[str | None, str | None]
"""A reference word and the hypothesis word it was taken for; None for the gap beside an error."""

_PAIR, _DELETION, _INSERTION = 0, 1, 2
_MOST_CELLS = 400_000_000  # of the table of moves, a byte each: two texts of 20,000 words


def aligned_pairs(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """Return the words of both, in order, paired by the rule above.

    Of texts so long that their table would have more than 400 million cells, such as two of 20,000 words, only the
    first point of the rule holds.
    """
    same = 0  # the last words that are equal are paired in any case
    while same < min(len(reference), len(hypothesis)) and reference[-1 - same] == hypothesis[-1 - same]:
        same += 1
    head, other = reference[: len(reference) - same], hypothesis[: len(hypothesis) - same]
    pairs: list[Pair]
    if not head or not other:
        pairs = [*((word, None) for word in head), *((None, word) for word in other)]
    elif len(head) * len(other) > _MOST_CELLS:
        pairs = _pairs_of_long_texts(head, other)
    else:
        pairs = _backtrace(_moves(head, other), head, other)
    return [*pairs, *zip(reference[len(head) :], hypothesis[len(other) :], strict=True)]


def _moves(reference: Sequence[str], hypothesis: Sequence[str]) -> NDArray[np.uint8]:
    """Return the last step to each pair of places, `(reference + 1, hypothesis + 1)`.

    The cost of a row of the table is computed at once: along it, only insertions are added, which a running minimum
    does.
    """
    numbers = {word: number for number, word in enumerate(dict.fromkeys([*reference, *hypothesis]))}
    recognised = np.array([numbers[word] for word in hypothesis])
    gap = len(reference) + len(hypothesis) + 1  # so much that no number of substitutions outweighs it
    moves = np.empty((len(reference) + 1, len(hypothesis) + 1), np.uint8)
    moves[0], moves[1:, 0] = _INSERTION, _DELETION
    ramp = gap * np.arange(len(hypothesis) + 1)
    costs = ramp
    for place, word in enumerate(reference, 1):
        paired = costs[:-1] + np.where(recognised == numbers[word], 0, gap + 1)
        deleted = costs + gap
        cheapest = deleted.copy()
        np.minimum(paired, deleted[1:], out=cheapest[1:])
        costs = np.minimum.accumulate(cheapest - ramp) + ramp
        inserted = costs[:-1] + gap
        gaps = np.where(deleted[1:] < inserted, _DELETION, _INSERTION)
        moves[place, 1:] = np.where(paired <= np.minimum(deleted[1:], inserted), _PAIR, gaps)
    return moves


def _backtrace(moves: NDArray[np.uint8], reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """Return the pairs that the moves lead through, from the last word back to the first."""
    place, other = len(reference), len(hypothesis)
    pairs: list[Pair] = []
    while place or other:
        move = moves[place, other]
        place -= move != _INSERTION
        other -= move != _DELETION
        pairs.append(
            (None if move == _INSERTION else reference[place], None if move == _DELETION else hypothesis[other])
        )
    return pairs[::-1]


def _pairs_of_long_texts(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    pairs: list[Pair] = []
    for step in Levenshtein.opcodes(reference, hypothesis):
        removed: list[str | None] = [*reference[step.src_start : step.src_end]]
        added: list[str | None] = [*hypothesis[step.dest_start : step.dest_end]]
        places = max(len(removed), len(added))  # a deletion or insertion has no words on one side
        pairs += zip(removed + [None] * (places - len(removed)), added + [None] * (places - len(added)), strict=True)
    return pairs
