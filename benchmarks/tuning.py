"""Do the weights that `asr tune` chooses suit other speakers, too? Against the usual weights and the fewest errors.

    python benchmarks/tuning.py MODEL MANIFEST [MANIFEST ...] [--draws 200] [--share 0.5] [--usual 0.2 0] [--usual 1 1]

The network runs once, and each setting is searched once, for all utterances of the manifests. Then speakers are drawn
again and again: weights are chosen by those drawn, and the errors of the others are compared with those under the usual
weights. Each `--usual` gives weights that are taken for the usual ones, to see what becomes of a bad start; figures are
then still differences from the default. Give dev sets; a test set that is given here is no test set any more.

    usual             the usual weights
    fewest errors     of all weights of the grid
    root              the most usual weights whose errors exceed the fewest by at most half the root of these
    standard error    the most usual weights whose errors exceed the fewest by at most one standard error over speakers
    asr tune          the most usual weights whose loss exceeds the lowest by at most one standard error over speakers
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from machine import describe
from numpy.typing import NDArray

from asr.cli.console import progress
from asr.corpus.manifest import known_speakers, read_manifest
from asr.inference.decoder import Decoder
from asr.scoring.error_counts import main_unit
from asr.scoring.intervals import difference_margin
from asr.search_config import DecodeSettings
from asr.text.units import words_of
from asr.tuning.dev_search import DevSearch, run_network
from asr.tuning.weights import CHANCE, INSERTION_BONUS_STEP, LM_WEIGHT_STEP, USUAL, DevSet, Measured, choose_settings

GRID = list(product([round(0.1 * step, 1) for step in range(13)], [0.25 * step - 0.5 for step in range(9)]))
LOSS = 0.003  # what is called a loss: 0.3 % absolute

Weights = tuple[float, float]
DEFAULT: Weights = (USUAL["lm_weight"], USUAL["insertion_bonus"])
Values = NDArray[np.float64]


class Table:
    """Errors and losses of each utterance under each setting that was asked for."""

    def __init__(self, decoder: Decoder, manifests: Sequence[Path]) -> None:
        cuts = list(read_manifest(*manifests))
        self.settings = decoder.bundle.config.decode
        batches = list(run_network(decoder, cuts))
        references = {name: text for batch in batches for name, text in zip(batch.ids, batch.references, strict=True)}
        self.unit = main_unit(references.values())
        split = words_of if self.unit == "word" else list
        self.lengths = np.array([len(split(text)) for text in references.values()])
        speakers = known_speakers(cuts)
        names, self.speaker_of = np.unique([speakers.get(name, name) for name in references], return_inverse=True)
        self.speakers = len(names)
        self._search = DevSearch(decoder, batches, 1)
        self._figures: dict[Weights, Values] = {}

    def __getitem__(self, weights: Weights) -> Values:
        """Return `(2, utterance)`: errors and losses."""
        if weights not in self._figures:
            settings = _with(self.settings, weights)
            (found,) = self._search.figures([settings], self.unit, lambda _: None)
            self._figures[weights] = np.array([(item.errors, item.loss) for item in found]).T
        return self._figures[weights]

    def by_speaker(self, values: NDArray[np.generic], chosen: NDArray[np.bool_]) -> Values:
        """Return the sums of utterances' values over each of the `chosen` speakers, `(speaker,)`."""
        return np.bincount(self.speaker_of, values.astype(float), self.speakers)[chosen]

    def rate(self, weights: Weights, chosen: NDArray[np.bool_]) -> float:
        """Return the error rate of the chosen speakers."""
        return float(self.by_speaker(self[weights][0], chosen).sum() / self.by_speaker(self.lengths, chosen).sum())


def _with(settings: DecodeSettings, weights: Weights) -> DecodeSettings:
    return settings.model_copy(update=dict(zip(USUAL, weights, strict=True)))


def away(weights: Weights) -> float:
    """Return how far weights are from the usual ones."""
    steps = LM_WEIGHT_STEP, INSERTION_BONUS_STEP
    return round(math.hypot(*((w - u) / s for w, u, s in zip(weights, USUAL.values(), steps, strict=True))), 6)


def usual(table: Table, chosen: NDArray[np.bool_]) -> Weights:
    return USUAL["lm_weight"], USUAL["insertion_bonus"]


def fewest_errors(table: Table, chosen: NDArray[np.bool_]) -> Weights:
    return min(GRID, key=lambda point: (table.by_speaker(table[point][0], chosen).sum(), away(point)))


def root(table: Table, chosen: NDArray[np.bool_]) -> Weights:
    errors = {point: table.by_speaker(table[point][0], chosen).sum() for point in GRID}
    most = min(errors.values()) + 0.5 * math.sqrt(min(errors.values()))
    return min((point for point in GRID if errors[point] <= most), key=away)


def standard_error(table: Table, chosen: NDArray[np.bool_]) -> Weights:
    lengths = table.by_speaker(table.lengths, chosen).astype(int)
    errors = {point: table.by_speaker(table[point][0], chosen) for point in GRID}
    lowest = errors[fewest_errors(table, chosen)]

    def is_chance(point: Weights) -> bool:
        gains = errors[point] - lowest
        return bool(gains.sum() / lengths.sum() <= difference_margin(gains, lengths, CHANCE))

    return min(filter(is_chance, GRID), key=away)


def asr_tune(table: Table, chosen: NDArray[np.bool_]) -> Weights:
    def measure(what: str, several: Sequence[DecodeSettings]) -> list[Measured]:
        if what == "beam size":  # it is only shown
            return [Measured(0, np.zeros(int(chosen.sum()))) for _ in several]
        found = [table[item.lm_weight, item.insertion_bonus] for item in several]
        return [Measured(0, table.by_speaker(losses, chosen)) for _, losses in found]

    dev = DevSet(table.unit, table.by_speaker(table.lengths, chosen).astype(int), "speakers")
    best = choose_settings(measure, table.settings, dev).best
    return best.lm_weight, best.insertion_bonus


METHODS: dict[str, Callable[[Table, NDArray[np.bool_]], Weights]] = {
    "usual": usual,
    "fewest errors": fewest_errors,
    "root": root,
    "standard error": standard_error,
    "asr tune": asr_tune,
}


def judge(table: Table, draws: int, share: float) -> None:
    """Print what each method does, as it starts from the weights that are now taken for the usual ones."""
    rng, drawn = np.random.default_rng(0), round(share * table.speakers)
    differences: dict[str, list[float]] = {name: [] for name in METHODS}
    weights: dict[str, list[Weights]] = {name: [] for name in METHODS}
    for _ in range(draws):
        chosen = np.zeros(table.speakers, bool)
        chosen[rng.permutation(table.speakers)[:drawn]] = True
        for name, choose in METHODS.items():
            point = choose(table, chosen)
            weights[name].append(point)
            differences[name].append(table.rate(point, ~chosen) - table.rate(DEFAULT, ~chosen))
    for name, found in differences.items():
        gains, (weight, bonus) = np.array(found), np.mean(weights[name], axis=0)
        print(
            f"  {name:16} {100 * gains.mean():+.3f} % on the others, more than 0.3 % in "
            f"{100 * np.mean(gains > LOSS):3.0f} % of the draws; weight {weight:.2f}, bonus {bonus:.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--draws", type=int, default=200, help="how often speakers are drawn")
    parser.add_argument("--share", type=float, default=0.5, help="of the speakers that weights are chosen by")
    parser.add_argument("--usual", type=float, nargs=2, action="append", default=[], metavar=("WEIGHT", "BONUS"))
    arguments = parser.parse_args()
    table = Table(Decoder.load(arguments.model, accelerator="cpu"), arguments.manifests)
    everybody = np.ones(table.speakers, bool)
    print(describe())
    with progress("grid", len(GRID)) as advance:
        for point in GRID:
            table.rate(point, everybody)
            advance(1)
    best = min(GRID, key=lambda point: table.rate(point, everybody))
    print(
        f"{table.speakers} speakers, weights chosen by {round(arguments.share * table.speakers)}: "
        f"{100 * table.rate(DEFAULT, everybody):.2f} % of {table.lengths.sum()} {table.unit}s wrong with {DEFAULT}, "
        f"{100 * table.rate(best, everybody):.2f} % with the best of the grid, {best}"
    )
    for start in [DEFAULT, *arguments.usual]:
        USUAL.update(zip(USUAL, start, strict=True))
        print(f"from {tuple(start)}")
        judge(table, arguments.draws, arguments.share)


if __name__ == "__main__":
    main()
