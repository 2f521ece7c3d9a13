"""How far an error rate can be trusted: the interval of one system's rate, and the comparison of two systems.

A test set is a sample; another one would give another rate. The unit of the sample is what was drawn independently. The
utterances of a speaker share a voice, a microphone and a room, so speakers are the unit where enough of them are known.
An interval over utterances is then too narrow: with ten speakers who differ, it holds the true rate in half of all test
sets, not in 95 %.

The interval comes from the delete-one jackknife. Each unit is left out once; the spread of the rates that remain is the
standard error. It is taken of the logarithm of the rate, since rates are skewed, with Student's t for the number of
units. `benchmarks/intervals.py` simulates test sets: the interval holds the true rate in 94 to 96 % of them, from 5
speakers or 40 utterances on, and in 92 to 93 % where the speakers' rates differ by factors of two and a half. The
bootstrap's percentiles hold it in 82 to 92 %, BCa in 83 to 92 %; the studentised bootstrap in 91 to 94 %, with
intervals that are up to one and a half times as wide.

Two systems are compared by a randomisation test. If they were equal, the errors of each unit could as well have come
from the other system. The p-value is the share of random exchanges that give at least the difference that was seen; a
difference of the same size counts half.

Sources: Tukey 1958, "Bias and confidence in not quite large samples"; Efron & Tibshirani 1993, "An introduction to the
bootstrap", chapter 11 (jackknife); Noreen 1989, "Computer-intensive methods for testing hypotheses" (randomisation);
Lancaster 1961, "Significance tests in discrete distributions" (counting ties half); Clopper & Pearson 1934 (the bound
where there is no error).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.errors import ScoringError
from asr.reading import counted
from asr.scoring.error_counts import RATE_NAMES, ErrorCounts, Unit
from asr.scoring.matched_pairs import MatchedPairs

# With fewer, Student's t makes the interval so wide that it says nothing, and utterances are the lesser evil.
FEWEST_SPEAKERS = 5
LEVEL = 0.95  # the probability with which an interval holds the true value
_EXCHANGES = 20_000
_SEED = 0  # of the exchanges, where not all are tried
_ALL_EXCHANGES_UNITS = 14  # up to this many units every exchange is tried: 16,384
_AT_ONCE = 1_000_000  # exchanges × units: bounds the memory to 8 MB


@dataclass(frozen=True)
class Interval:
    """A range that holds the true error rate, or the true difference, with a probability of `level`.

    Attributes:
        low, high: its ends; fractions, not per cent.
        level: 0.95 is usual.
        units: how many independent units the sample has.
        unit: what they are: "speakers" or "utterances".
    """

    low: float
    high: float
    level: float
    units: int
    unit: str

    @property
    def sample(self) -> str:
        """The size of the sample in words, e.g. `40 speakers`."""
        return f"{self.units} {self.unit if self.units != 1 else self.unit.removesuffix('s')}"


@dataclass(frozen=True)
class PairedComparison:
    """System B against system A on the same utterances.

    Attributes:
        difference: error rate of B minus that of A; negative if B is better.
        interval: of the difference.
        p_value: the probability of at least this difference between equal systems. Below 0.05 is usually called
            significant.
        unit: in what errors were counted.
        matched_pairs: the test of NIST, over stretches with errors; None if only the numbers of errors are known.
    """

    difference: float
    interval: Interval
    p_value: float
    unit: Unit = "word"
    matched_pairs: MatchedPairs | None = None

    @property
    def rate_name(self) -> str:
        """The error rate that was compared: WER or CER."""
        return RATE_NAMES[self.unit]


def speakers_of(names: Sequence[str], speakers: Mapping[str, str]) -> list[str] | None:
    """Return each utterance's speaker, or None where utterances are to be the unit.

    An utterance whose speaker is unknown counts as a speaker of its own.

    Args:
        names: utterance ids.
        speakers: those that are known, by utterance id.
    """
    known = {speakers[name] for name in names if name in speakers}
    if len(known) < FEWEST_SPEAKERS:
        return None
    return [f"speaker {speakers[name]}" if name in speakers else f"utterance {name}" for name in names]


def rate_interval(
    counts: Sequence[ErrorCounts], *, speakers: Sequence[str] | None = None, level: float = LEVEL
) -> Interval:
    """Return the interval of a corpus's error rate.

    One unit says nothing of others: its interval is 0 to 1. Without any error the spread would be 0; the upper end is
    then the exact bound for this many independent words, about 3 ÷ N at 95 %.

    Args:
        counts: each utterance's errors.
        speakers: each utterance's speaker; None takes utterances as units.
        level: the probability with which the interval holds the true rate.

    Raises:
        ScoringError: no reference holds any text, or an argument does not fit.
    """
    if not 0 < level < 1:
        raise ScoringError(f"level {level} of an interval: must be between 0 and 1, e.g. 0.95")
    errors, lengths = _units(counts, speakers)
    units, unit = len(lengths), "utterances" if speakers is None else "speakers"
    rate = float(errors.sum() / lengths.sum())
    if rate == 0:
        return Interval(0.0, 1 - (1 - level) ** (1 / int(lengths.sum())), level, units, unit)
    highest = max(1.0, rate)
    if units == 1:
        return Interval(0.0, highest, level, units, unit)
    # Where one unit has all errors, half an error remains without it: the logarithm of 0 is not finite.
    rates = np.maximum(errors.sum() - errors, 0.5) / np.maximum(lengths.sum() - lengths, 1)
    half = students_t(level, units - 1) * _jackknife_error(np.log(rates))
    return Interval(rate * math.exp(-half), min(highest, rate * math.exp(min(half, 700.0))), level, units, unit)


def compare_rates(
    counts_a: Sequence[ErrorCounts],
    counts_b: Sequence[ErrorCounts],
    *,
    speakers: Sequence[str] | None = None,
) -> PairedComparison:
    """Compare two systems on the same utterances.

    What is easy or hard for both cancels, so a difference smaller than either system's own interval can be significant.

    Args:
        counts_a: each utterance's errors by system A.
        counts_b: each utterance's errors by system B, in the same order.
        speakers: see `rate_interval`.

    Raises:
        ScoringError: the systems were not scored on the same references, or an argument does not fit.
    """
    if [a.reference_length for a in counts_a] != [b.reference_length for b in counts_b]:
        raise ScoringError("a paired comparison needs both systems scored on the same utterances, in the same order")
    errors_a, lengths = _units(counts_a, speakers)
    errors_b, _ = _units(counts_b, speakers)
    units, unit = len(lengths), "utterances" if speakers is None else "speakers"
    gains = errors_b - errors_a
    difference = float(gains.sum() / lengths.sum())
    half = difference_margin(gains, lengths)
    interval = Interval(max(-1.0, difference - half), min(1.0, difference + half), LEVEL, units, unit)
    return PairedComparison(difference, interval, _randomisation_test(gains))


def difference_margin(gains: NDArray[Any], lengths: NDArray[np.int64], level: float = LEVEL) -> float:
    """Return how far from its true value a difference of two rates is at most, with a probability of `level`.

    A difference that is no greater is no more than chance. With one unit any difference may be chance.

    Args:
        gains: `(unit,)` errors, or another loss, of one system minus those of the other.
        lengths: `(unit,)` lengths of the references.
        level: of the interval.
    """
    if len(gains) < 2:
        return math.inf
    differences = (gains.sum() - gains) / np.maximum(lengths.sum() - lengths, 1)
    return students_t(level, len(gains) - 1) * _jackknife_error(differences)


def _units(
    counts: Sequence[ErrorCounts], speakers: Sequence[str] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the errors and reference lengths of each unit, `(unit,)`; units without either are left out."""
    if speakers is not None and len(speakers) != len(counts):
        given = f"{counted(len(speakers), 'speaker')} for {counted(len(counts), 'utterance')}"
        raise ScoringError(f"{given}: give each utterance its speaker")
    pairs = np.array([(c.errors, c.reference_length) for c in counts], dtype=np.int64).reshape(-1, 2)
    if pairs[:, 1].sum() == 0:
        raise ScoringError("no reference holds any text: an error rate has nothing to be measured against")
    if speakers is not None:
        names, unit_of = np.unique(np.asarray(speakers), return_inverse=True)
        sums = np.zeros((len(names), 2), dtype=np.int64)
        np.add.at(sums, unit_of, pairs)
        pairs = sums
    return pairs[:, 0], pairs[:, 1]


def _jackknife_error(without: NDArray[np.float64]) -> float:
    """Return the standard error of a figure from its values without each of the units, `(unit,)`."""
    units = len(without)
    return math.sqrt((units - 1) / units * float(np.square(without - without.mean()).sum()))


def students_t(level: float, degrees: float) -> float:
    """Return the quantile of Student's t that bounds the middle `level` of the distribution."""
    from scipy.special import stdtrit  # takes a third of a second to load

    return float(stdtrit(degrees, (1 + level) / 2))


def _randomisation_test(gains: NDArray[np.int64]) -> float:
    """Return the two-sided p-value of the units' differences `(unit,)` under exchanges of the two systems."""
    gains = gains[gains != 0]
    seen, units = abs(int(gains.sum())), len(gains)
    if units == 0:
        return 1.0
    if units <= _ALL_EXCHANGES_UNITS:
        sums = _after_exchanges(gains, (np.arange(2**units)[:, None] >> np.arange(units)) & 1)
    else:
        generator, rows = np.random.default_rng(_SEED), max(1, _AT_ONCE // units)
        blocks = [
            _after_exchanges(gains, generator.integers(0, 2, (min(rows, _EXCHANGES - start), units)))
            for start in range(0, _EXCHANGES, rows)
        ]
        sums = np.concatenate(blocks)
    return float(np.mean(sums > seen) + np.mean(sums == seen) / 2) if seen else 1.0


def _after_exchanges(gains: NDArray[np.int64], exchanged: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far the systems differ in all after each exchange, `(exchange,)`.

    Floats hold these integers exactly, and their matrix product is many times faster.

    Args:
        gains: `(unit,)`.
        exchanged: `(exchange, unit)`, 1 where the systems change places in a unit, else 0.
    """
    differences: NDArray[np.float64] = gains.sum() - 2 * (exchanged.astype(np.float64) @ gains.astype(np.float64))
    return np.abs(differences)
