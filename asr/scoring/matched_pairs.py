"""Two systems' alignments → the matched pairs test of NIST (MAPSSWE): do they make as many errors a segment?

A segment is a stretch of an utterance where at least one system makes errors. Before and after it are at least two
successive words that both systems have right, or the end of the utterance. Errors of different segments are taken to be
independent, so the mean difference of their numbers of errors, divided by its standard error, is close to normal if
there are many segments.

The randomisation test of `intervals.py` supposes less: whole utterances or speakers are independent. This one is for
comparison with published results, and with `sc_stats -t mapsswe` of NIST's SCTK, which gives the same segments, the
same statistic and the same verdict.

Source: Gillick & Cox 1989, "Some statistical issues in the comparison of speech recognition algorithms", section 4;
SCTK 2.4, src/sclite/mtchprs.c (two right words; the normal distribution).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from asr.scoring.error_counts import WordPair

_RIGHT_WORDS = 2  # between two segments


@dataclass(frozen=True)
class MatchedPairs:
    """What the matched pairs test found about system B against system A.

    Attributes:
        segments: number of segments with errors.
        mean: errors of B minus errors of A, a segment; negative if B is better.
        z: the mean divided by its standard error. It is 0 if all segments have the same difference, as in sc_stats.
        p_value: the probability of a statistic of at least this size between equal systems. Below 0.05 is usually
            called significant.
    """

    segments: int
    mean: float
    z: float
    p_value: float


def matched_pairs_test(
    utterances: Iterable[tuple[Sequence[WordPair], Sequence[WordPair]]],
) -> MatchedPairs:
    """Return the matched pairs test of two systems, from the alignments of each utterance by A and by B.

    Utterances that both have right may be left out: they have no segments.
    """
    gains = [b - a for of_a, of_b in utterances for a, b in error_segments(of_a, of_b)]
    segments = len(gains)
    mean = sum(gains) / segments if segments else 0.0
    squares = sum((gain - mean) ** 2 for gain in gains)
    z = mean / math.sqrt(squares / (segments - 1) / segments) if squares else 0.0
    return MatchedPairs(segments, mean, z, math.erfc(abs(z) / math.sqrt(2)))


def error_segments(of_a: Sequence[WordPair], of_b: Sequence[WordPair]) -> Iterator[tuple[int, int]]:
    """Yield the numbers of errors of A and B in each segment of an utterance; both are aligned to the same words."""
    errors_a = errors_b = right = 0
    is_open = False
    for (inserted_a, wrong_a), (inserted_b, wrong_b) in zip(_places(of_a), _places(of_b), strict=True):
        if inserted_a or inserted_b:
            is_open, right = True, 0
        if wrong_a or wrong_b:
            is_open, right = True, 0
        elif is_open:
            right += 1
        errors_a += inserted_a + wrong_a
        errors_b += inserted_b + wrong_b
        if right == _RIGHT_WORDS:
            yield errors_a, errors_b
            errors_a = errors_b = right = 0
            is_open = False
    if is_open:
        yield errors_a, errors_b


def _places(alignment: Sequence[WordPair]) -> Iterator[tuple[int, bool]]:
    """Yield for each reference word the insertions before it and whether it is wrong; last, those at the end."""
    inserted = 0
    for word in alignment:
        if word.mark == "I":
            inserted += 1
        else:
            yield inserted, word.mark != "C"
            inserted = 0
    yield inserted, False
