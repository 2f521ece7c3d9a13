"""Does the interval of an error rate hold the true rate as often as it says? And how often do equal systems differ?

    python benchmarks/intervals.py

Test sets are simulated: a speaker's error rate is 6 % times a lognormal factor whose logarithm has a standard deviation
of `spread`; an utterance of 2 to 14 words has that rate times a gamma-distributed factor. Systems that are compared are
equal on the average of all speakers; `interaction` is the spread of what each is better or worse at with one speaker.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from asr.scoring.error_counts import ErrorCounts
from asr.scoring.intervals import compare_rates, rate_interval

RATE = 0.06


def draw_corpus(
    rng: np.random.Generator, speakers: int, of_each: int, spread: float, interaction: float = 0.0
) -> tuple[list[list[ErrorCounts]], list[str]]:
    """Return the errors of two equal systems, and each utterance's speaker."""
    size = speakers * of_each
    speaker = np.repeat(np.arange(speakers), of_each)
    lengths = rng.integers(2, 15, size)
    rate = RATE * lognormal(rng, spread, speakers)[speaker] * rng.gamma(2, 0.5, size)
    systems = []
    for _ in range(2):
        wrong = rng.binomial(lengths, np.minimum(rate * lognormal(rng, interaction, speakers)[speaker], 0.9))
        systems.append([ErrorCounts(int(e), 0, 0, int(n)) for e, n in zip(wrong, lengths, strict=True)])
    return systems, [str(number) for number in speaker]


def lognormal(rng: np.random.Generator, spread: float, size: int) -> NDArray[np.float64]:
    """Return factors of mean 1."""
    factors: NDArray[np.float64] = np.exp(rng.normal(0, spread, size) - spread**2 / 2)
    return factors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpora", type=int, default=1000, help="simulated test sets of each kind")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)

    print("the 95 % interval holds the true rate in")
    for speakers, of_each, spread, by_speaker in (
        *((number, 13, spread, True) for number in (5, 7, 10, 20, 40) for spread in (0.3, 0.5, 0.8)),
        *((number, 1, 0.3, False) for number in (40, 130, 1000)),
    ):
        held = 0
        for _ in range(arguments.corpora):
            (counts, _), names = draw_corpus(rng, speakers, of_each, spread)
            interval = rate_interval(counts, speakers=names if by_speaker else None)
            held += interval.low <= RATE <= interval.high
        unit = "speakers of 13 utterances" if by_speaker else "utterances"
        print(f"  {100 * held / arguments.corpora:5.1f} %  {speakers:4} {unit}, spread {spread}", flush=True)

    print("equal systems have p < 0.05 in")
    for speakers in (10, 20, 40):
        for interaction in (0.0, 0.3, 0.8):
            found = 0
            for _ in range(arguments.corpora):
                systems, names = draw_corpus(rng, speakers, 13, 0.5, interaction)
                found += compare_rates(*systems, speakers=names).p_value < 0.05
            print(
                f"  {100 * found / arguments.corpora:5.1f} %  {speakers:4} speakers, interaction {interaction}",
                flush=True,
            )


if __name__ == "__main__":
    main()
