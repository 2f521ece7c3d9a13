"""Are words found that neither lexicon nor language model knows, once they are given as hotwords? And at what price?

    ./run.sh an4 --corpus-dir DIR --seed 1
    python benchmarks/hotwords.py exp/an4-seed1 data/an4
    python benchmarks/hotwords.py                           what many hotwords cost, without a model

Ten of the test set's words of four letters or more are drawn. Every training sentence with one of them is left out of
the language model's text, so that the lexicon lacks them too; the acoustic model has heard them. The test set is
decoded without and with the ten as hotwords, for the n-gram of tokens, that of words with a closed vocabulary and with
an open one. Printed are, over several draws, the ten words' recall (occurrences found in their place), how often one of
them was found where it was not said, and the word error rate of all other words, insertions included.

The language model's weight and the insertion bonus are tuned on dev, with all words in the model, at a fixed penalty
for words outside the vocabulary. The hotwords' bonus is then chosen on dev, with ten of its words drawn and left out
likewise: of those whose word error rate of the rest is within 0.25 % absolute of the lowest, the one with the highest
recall.

Without a model, made-up phrases over 5,000 made-up pieces become scorers, each in a fresh process: with spaces, and in
Thai letters without. Printed are the time to build one, its memory above what the process took before, and the CPU time
of a step of the search, in which three rows in ten take a token. For a few hotwords, sparse tables are timed too.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from machine import describe

import asr
from asr.bundle.files import CONFIG, DECODER, LANGUAGE_MODEL, TOKENS, WEIGHTS, WORD_LANGUAGE_MODEL
from asr.corpus.manifest import read_manifest, transcripts
from asr.decoding.hotwords import DENSE_BYTES, HotwordScorer
from asr.inference.decoder import Search
from asr.inference.recognizer import Recognizer
from asr.lm.arpa import write_arpa
from asr.lm.estimate import token_ngram
from asr.lm.kneser_ney import kneser_ney
from asr.scoring.error_counts import align_words
from asr.search_config import DecodeSettings
from asr.text.tokens import TokenTable
from asr.tuning.dev_search import DevBatch, Task, run_network, utterance_figures
from asr.tuning.weights import DevSet, Measured, choose_settings

HOTWORDS = 10
LEAST_LETTERS = 4
WORD_ORDER = 3
LETTERS = {
    "spaces": "abcdefghijklmnopqrstuvwxyz",
    "no spaces": "".join(map(chr, [*range(0xE01, 0xE2F), *range(0xE40, 0xE45)])),
}
PIECES = 5000
ROWS, STEPS = 16 * 16, 200  # a beam of 16 in a batch of 16
BONUSES = (2.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0)
WITHIN = 0.0025
LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "tokens": {"lm": "tokens"},
    "words, closed": {"lm": "words"},
    "words, open": {"lm": "words", "oov_penalty": 5.0},
}


class Found(NamedTuple):
    """What was found of the hotwords and of the rest; adds up."""

    said: int = 0
    right: int = 0
    false_alarms: int = 0
    rest: int = 0
    rest_errors: int = 0

    def plus(self, other: Found) -> Found:
        return Found(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def recall(self) -> float:
        return self.right / self.said

    @property
    def rest_wer(self) -> float:
        return self.rest_errors / self.rest

    def __str__(self) -> str:
        return (
            f"recall {100 * self.recall:5.1f} % of {self.said}, {self.false_alarms:3d} false alarms, "
            f"WER of the rest {100 * self.rest_wer:5.2f} % of {self.rest} words"
        )


def draw(batches: Sequence[DevBatch], seed: int) -> list[str]:
    """Return ten words of the references."""
    words = {word for batch in batches for text in batch.references for word in text.split()}
    return random.Random(seed).sample(sorted(word for word in words if len(word) >= LEAST_LETTERS), HOTWORDS)


def with_language_models(model: Path, texts: Sequence[str], folder: Path, decode: Mapping[str, Any]) -> Recognizer:
    """Return the model with n-grams of the texts."""
    folder.mkdir(exist_ok=True)
    for name in (CONFIG, DECODER, TOKENS, WEIGHTS):
        shutil.copy(model / name, folder)
    bundle = asr.load(folder, accelerator="cpu").decoder.bundle
    write_arpa(token_ngram(texts, bundle.tokens, bundle.config.decode.lm_order), folder / LANGUAGE_MODEL)
    write_arpa(kneser_ney([text.split() for text in texts], WORD_ORDER), folder / WORD_LANGUAGE_MODEL)
    return asr.load(folder, accelerator="cpu", decode=decode)


def count(recognizer: Recognizer, batches: Sequence[DevBatch], words: Sequence[str], bonus: float) -> Found:
    """Decode, with the words as hotwords if the bonus is not 0."""
    total = Found()
    hotwords = dict.fromkeys(words, bonus) if bonus else {}
    for batch in batches:
        nbest = recognizer.decoder.search(batch.log_posteriors, batch.lengths, Search("beam", hotwords))
        for reference, hypotheses in zip(batch.references, nbest, strict=True):
            total = total.plus(compare(reference, recognizer.decoder.bundle.tokens.decode(hypotheses[0].tokens), words))
    return total


def compare(reference: str, hypothesis: str, words: Sequence[str]) -> Found:
    found = Found()
    for place in align_words(reference, hypothesis):
        wrong = place.mark != "C"
        found = found.plus(
            Found(
                said=place.reference in words,
                right=place.reference in words and not wrong,
                false_alarms=place.hypothesis in words and wrong,
                rest=place.reference is not None and place.reference not in words,
                rest_errors=wrong and place.reference not in words,
            )
        )
    return found


def tuned(recognizer: Recognizer, dev: Sequence[DevBatch]) -> DecodeSettings:
    lengths = np.array([len(reference.split()) for batch in dev for reference in batch.references])

    def measure(_: str, settings: Sequence[DecodeSettings]) -> list[Measured]:
        found = []
        for item in settings:
            figures = [one for batch in dev for one in utterance_figures(recognizer.decoder, batch, Task(item))]
            found.append(Measured(sum(one.errors for one in figures), np.array([one.loss for one in figures])))
        return found

    return choose_settings(measure, recognizer.decoder.bundle.config.decode, DevSet("word", lengths, "utterances")).best


class Pieces(TokenTable):
    """A table with tokens of several characters, of which the scorer needs the texts alone."""

    def __post_init__(self) -> None:
        """Accept them."""


def made_up(kind: str, count: int) -> tuple[Pieces, dict[str, float]]:
    rng = random.Random(0)

    def word(shortest: int, longest: int) -> str:
        return "".join(rng.choices(LETTERS[kind], k=rng.randint(shortest, longest)))

    pieces = {" ", *LETTERS[kind]}
    while len(pieces) < PIECES:
        pieces.add(rng.choice(("", " ")) + word(1, 5))
    phrases: dict[str, float] = {}
    while len(phrases) < count:
        phrases[word(5, 14) if rng.random() < 0.6 else f"{word(3, 8)} {word(3, 8)}"] = 5.0
    return Pieces(("<blank>", *sorted(pieces))), phrases


def cost(kind: str, count: int, dense_bytes: int) -> None:
    """Print what a scorer costs in this process."""

    def peak_mb() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)

    table, phrases = made_up(kind, count)
    before_mb, start_s, start_cpu_s = peak_mb(), time.perf_counter(), time.process_time()
    scorer = HotwordScorer(phrases, table, dense_bytes=dense_bytes)
    built_s, built_cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    rng = np.random.default_rng(0)
    state = scorer.start(ROWS)
    rows, start_s = np.arange(ROWS), time.process_time()
    for _ in range(STEPS):
        best = scorer.score(state).argmax(axis=1)
        takes = rng.random(ROWS) < 0.3
        state = scorer.advance(state, rows, np.where(takes, best, 0))
    step_ms = 1000 * (time.process_time() - start_s) / STEPS
    tables = "sparse" if dense_bytes == 0 else "as built"
    print(
        f"{count:7d} phrases, {kind:<9} {tables}: built in {built_s:.2f} s (CPU {built_cpu_s:.2f}), "
        f"{peak_mb() - before_mb:.0f} MB, CPU {step_ms:.2f} ms a step of {ROWS} rows"
    )


def costs() -> None:
    print(describe())
    for kind in LETTERS:
        for count, dense_bytes in ((10, DENSE_BYTES), (10, 0), (1000, DENSE_BYTES), (100_000, DENSE_BYTES)):
            subprocess.run([sys.executable, __file__, "--cost", kind, str(count), str(dense_bytes)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("data", type=Path, nargs="?", help="the folder of manifests")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--cost", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cost:
        cost(arguments.cost[0], *map(int, arguments.cost[1:]))
        return
    if arguments.model is None or arguments.data is None:
        costs()
        return
    recognizer = asr.load(arguments.model, accelerator="cpu")
    texts = list(
        transcripts(read_manifest(arguments.data / "train.jsonl.gz"), recognizer.decoder.bundle.config.text).values()
    )
    dev, test = (
        list(run_network(recognizer.decoder, read_manifest(arguments.data / f"{split}.jsonl.gz").to_eager()))
        for split in ("dev", "test")
    )

    with TemporaryDirectory() as place:

        def decoded(
            batches: Sequence[DevBatch], decode: Mapping[str, Any], bonuses: Sequence[float]
        ) -> dict[float, Found]:
            """Return what is found by each bonus, over all draws."""
            found = dict.fromkeys(bonuses, Found())
            for seed in range(arguments.draws):
                words = draw(batches, seed)
                left = [text for text in texts if not set(words) & set(text.split())]
                lacking = with_language_models(arguments.model, left, Path(place) / "less", decode)
                for bonus in bonuses:
                    found[bonus] = found[bonus].plus(count(lacking, batches, words, bonus))
            return found

        for name, kind in LANGUAGE_MODELS.items():
            whole = with_language_models(arguments.model, texts, Path(place) / "whole", kind)
            settings = tuned(whole, dev)
            decode = settings.model_dump()
            print(f"{name}: {settings.model_dump(exclude_defaults=True)}")
            on_dev = list(decoded(dev, decode, (0.0, *BONUSES)).items())
            for bonus, found in on_dev:
                print(f"  dev, bonus {bonus:4g}   {found}")
            most = min(found.rest_wer for _, found in on_dev) + WITHIN
            chosen, _ = max((item for item in on_dev if item[1].rest_wer <= most), key=lambda item: item[1].recall)
            for bonus, found in decoded(test, decode, (0.0, chosen)).items():
                print(f"  test, bonus {bonus:4g}  {found}", flush=True)


if __name__ == "__main__":
    main()
