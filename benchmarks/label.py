"""What `asr label` keeps: the word error rate that it expects, against the true one.

    python benchmarks/label.py MODEL... --test MANIFEST [--dev MANIFEST] [--wanted 2 5 10 20]

Each model labels the transcribed utterances of --test as if they had no transcripts. With --dev the expected errors are
learnt there anew, in a copy of the model folder. A line says what share of the words was kept at a wanted rate, what
rate was expected of it, its true rate, and by how much of the true rate the expected one is off. With several models,
the last lines sum up their errors.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from machine import describe

import asr
from asr.corpus.manifest import load_manifest, transcripts
from asr.labelling.guess import Guess, Guesser
from asr.labelling.label import Part, best_within
from asr.machine import silent
from asr.scoring.error_counts import ErrorCounts, count_errors
from asr.text.normalise import normalised_hypothesis

WIDTH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--test", type=Path, required=True, metavar="MANIFEST")
    parser.add_argument("--dev", type=Path, metavar="MANIFEST")
    parser.add_argument("--wanted", nargs="+", type=float, default=[2, 5, 10, 20], metavar="PERCENT")
    arguments = parser.parse_args()
    print(describe())
    print(f"{'model':<{WIDTH}} wanted   kept  expected    true   off")
    sums: dict[float, list[tuple[Part, ErrorCounts, int]]] = {wanted: [] for wanted in arguments.wanted}
    for model in arguments.models:
        guesses, errors = listen(model, arguments.test, arguments.dev)
        for wanted in arguments.wanted:
            kept = best_within([guess for guess in guesses if guess.words], wanted / 100)
            found = Part.of(kept), sum((errors[guess.cut.id] for guess in kept), ErrorCounts()), total(errors)
            sums[wanted].append(found)
            show(str(model), wanted, [found])
    if len(arguments.models) > 1:
        for wanted, found in sums.items():
            show("all", wanted, found)


def listen(model: Path, test: Path, dev: Path | None) -> tuple[list[Guess], dict[str, ErrorCounts]]:
    """Return what a model recognises in the utterances, and its word errors."""
    cuts = list(load_manifest(test))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model"
        shutil.copytree(model, copy, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
        guesser = Guesser.load(copy, dev, "auto", silent)
        guesses = guesser.guess(cuts, silent)
    text = asr.load_config(model / "config.yaml").text
    references = transcripts(cuts, text)
    errors = {
        guess.cut.id: count_errors(references[guess.cut.id], normalised_hypothesis(guess.text, text), unit="word")
        for guess in guesses
    }
    return guesses, errors


def total(errors: Mapping[str, ErrorCounts]) -> int:
    return sum(count.reference_length for count in errors.values())


def show(name: str, wanted: float, found: Sequence[tuple[Part, ErrorCounts, int]]) -> None:
    errors, words = (sum(getattr(part, field) for part, _, _ in found) for field in ("errors", "words"))
    counts = sum((count for _, count, _ in found), ErrorCounts())
    share = counts.reference_length / sum(length for _, _, length in found)
    line = f"{name[-WIDTH:]:<{WIDTH}} {wanted:4g} %  {100 * share:3.0f} %"
    if not counts.reference_length:
        print(f"{line}  nothing")
        return
    expected, true = errors / words, counts.rate
    off = f"{100 * (expected / true - 1):+5.0f} %" if counts.errors else "    -"
    print(f"{line}  {100 * expected:6.2f} %  {100 * true:6.2f} % {off}  ({counts.errors} errors)")


if __name__ == "__main__":
    main()
