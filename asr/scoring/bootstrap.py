"""How far an error rate can be trusted: the bootstrap over utterances or speakers.

A test set is a sample: another set of utterances from the same speakers would give another error rate. The
bootstrap draws as many units as there are, with replacement, many times, and looks at the spread of the rate.
Words within an utterance are not independent, hence whole utterances are drawn; with several utterances a
speaker, whole speakers are the more honest unit, and give a wider interval.

Source: Bisani & Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation"
(ICASSP).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.errors import ScoringError
from asr.scoring.error_counts import ErrorCounts

_DRAWS_AT_ONCE = 1_000_000  # bounds the memory of the drawn indices to 8 MB, whatever the size of the corpus


@dataclass(frozen=True)
class Interval:
    """A range of error rates that holds the given share of the bootstrap's replicates."""

    low: float
    high: float
    level: float


@dataclass(frozen=True)
class PairedComparison:
    """System B against system A on the same utterances."""

    difference: float
    """WER of B minus WER of A: negative if B is better."""
    interval: Interval
    """Of the difference."""
    probability_b_better: float
    """Share of the replicates in which B has the lower WER; ties count half. 0.5: no evidence either way."""


def bootstrap_interval(
    counts: Sequence[ErrorCounts],
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    replicates: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return the percentile interval of the corpus error rate.

    One unit gives a point: the bootstrap cannot see what the sample does not hold. In a corpus without any error it
    would see none; the upper end is then the exact bound for as many independent words, about 3 ÷ N at 95 %.

    Args:
        counts: each utterance's errors.
        groups: each utterance's speaker, or other unit to be drawn as a whole; None draws utterances.
        level: the share of replicates inside the interval.
        replicates: how often the corpus is drawn anew.
        seed: of the drawing; the same arguments give the same interval.

    Raises:
        ScoringError: there is no reference unit to count against, or an argument does not fit.

    Source: Efron & Tibshirani 1993, chapter 13 (percentile interval); Bisani & Ney 2004; without errors, Clopper &
    Pearson 1934, one-sided.
    """
    _check(len(counts), groups, level, replicates)
    errors, lengths = _per_unit(counts, groups)
    if not errors.any():
        return Interval(0.0, 1 - (1 - level) ** (1 / int(lengths.sum())), level)
    rates = _rates(errors, lengths, replicates, seed)[:, 0]
    return _percentile_interval(rates, level)


def paired_bootstrap(
    counts_a: Sequence[ErrorCounts],
    counts_b: Sequence[ErrorCounts],
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    replicates: int = 10_000,
    seed: int = 0,
) -> PairedComparison:
    """Compare two systems on the same utterances; each replicate draws the same utterances for both.

    What is easy or hard for both cancels, so that a difference smaller than either system's own interval can
    still be significant.

    Args:
        counts_a: each utterance's errors by system A.
        counts_b: each utterance's errors by system B, in the same order.
        groups: see `bootstrap_interval`; so `level`, `replicates` and `seed`.
        level: the share of replicates inside the difference's interval.
        replicates: how often the corpus is drawn anew.
        seed: of the drawing.

    Raises:
        ScoringError: the systems were not scored on the same references, or an argument does not fit.

    Source: Bisani & Ney 2004 ("probability of improvement"); counting ties half, for symmetry, is ours.
    """
    _check(len(counts_a), groups, level, replicates)
    if [a.reference_length for a in counts_a] != [b.reference_length for b in counts_b]:
        raise ScoringError("a paired comparison needs both systems scored on the same utterances, in the same order")
    errors_a, lengths = _per_unit(counts_a, groups)
    errors_b, _ = _per_unit(counts_b, groups)
    rates = _rates(np.concatenate([errors_a, errors_b], axis=1), lengths, replicates, seed)
    differences = rates[:, 1] - rates[:, 0]
    better = np.count_nonzero(differences < 0) + 0.5 * np.count_nonzero(differences == 0)
    return PairedComparison(
        difference=float((errors_b.sum() - errors_a.sum()) / lengths.sum()),
        interval=_percentile_interval(differences, level),
        probability_b_better=float(better / len(differences)),
    )


def _check(utterances: int, groups: Sequence[str] | None, level: float, replicates: int) -> None:
    if groups is not None and len(groups) != utterances:
        raise ScoringError(f"{len(groups)} groups for {utterances} utterances: give each utterance its group")
    if not 0 < level < 1:
        raise ScoringError(f"level {level} of a bootstrap interval: must lie between 0 and 1, e.g. 0.95")
    if replicates < 100:
        raise ScoringError(f"{replicates} bootstrap replicates: fewer than 100 say nothing; 10000 is usual")


def _per_unit(
    counts: Sequence[ErrorCounts], groups: Sequence[str] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sum the errors `(unit, 1)` and reference lengths `(unit,)` of each drawn unit."""
    pairs = np.array([(c.errors, c.reference_length) for c in counts], dtype=np.int64).reshape(-1, 2)
    if pairs[:, 1].sum() == 0:
        raise ScoringError("no reference holds any text: an error rate has nothing to be measured against")
    if groups is not None:
        names, unit_of = np.unique(np.asarray(groups), return_inverse=True)
        sums = np.zeros((len(names), 2), dtype=np.int64)
        np.add.at(sums, unit_of, pairs)
        pairs = sums
    return pairs[:, :1], pairs[:, 1]


def _rates(errors: NDArray[np.int64], lengths: NDArray[np.int64], replicates: int, seed: int) -> NDArray[np.float64]:
    """Return `(replicate, system)` error rates, given `(unit, system)` errors and `(unit,)` lengths.

    Replicates in which only units without reference text were drawn have no rate and are left out.
    """
    blocks = []
    for drawn in _draw(len(lengths), replicates, np.random.default_rng(seed)):
        total = lengths[drawn].sum(axis=1)
        kept = total > 0
        blocks.append(errors[drawn].sum(axis=1)[kept] / total[kept, None])
    return np.concatenate(blocks)


def _draw(units: int, replicates: int, generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield blocks `(replicate, unit)` of unit indices, drawn with replacement."""
    rows = max(1, _DRAWS_AT_ONCE // units)
    for start in range(0, replicates, rows):
        yield generator.integers(units, size=(min(rows, replicates - start), units))


def _percentile_interval(values: NDArray[np.float64], level: float) -> Interval:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)
