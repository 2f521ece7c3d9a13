"""What do several models gain over one? Their joined n-best lists, the mean of their frames, and one network for all.

    for seed in 1 2 3; do ./run.sh an4 --corpus-dir DIR --seed $seed; done
    asr distill exp/an4-seed1 exp/an4-seed2 exp/an4-seed3 --data data/an4 --out exp/an4-distilled
    python benchmarks/ensemble.py data/an4/dev.jsonl.gz exp/an4-seed1 exp/an4-seed2 exp/an4-seed3 \\
        --distilled exp/an4-distilled

Printed are the errors and the error rate of greedy search, of the beam search without an n-gram, and of that with the
settings of the first model's folder:

    each model            by itself
    mean of posteriors    of all models' frames, then searched with the first model's language model
    mean of logarithms    the same with log-posteriors
    joined lists          what `asr decode MODEL MODEL MODEL` does
    one list              the text with the fewest expected errors of each model's own list, the mean of the models
    distilled             the network that `asr distill` made of them

Means of frames need models of the same tokens and frames; they are left out otherwise. A last line compares the joined
lists with the first model, over speakers where at least five are known. Give a dev set: a test set is for the last
number.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from machine import describe

from asr.corpus.manifest import known_speakers, load_manifest, transcripts
from asr.decoding.bayes_risk import join
from asr.features.batching import evaluation_batches
from asr.inference.decoder import Decoder, Search
from asr.inference.ensemble import Ensemble
from asr.scoring.error_counts import ErrorCounts, count_corpus, main_unit
from asr.scoring.intervals import compare_rates, speakers_of
from asr.text.normalise import normalised_hypothesis
from asr.transcript.words import Hypothesis

Frames = tuple[torch.Tensor, torch.Tensor]
SEARCHES: dict[str, dict[str, Any] | None] = {
    "greedy": None,
    "no LM": {"lm_weight": 0.0, "insertion_bonus": 0.0, "rnn_weight": 0.0, "rescore_weight": 0.0},
    "with LM": {},
}


class Comparison:
    """A manifest, heard once by each model."""

    def __init__(self, manifest: Path, folders: Sequence[Path]) -> None:
        self.decoders = [Decoder.load(folder, accelerator="cpu", precision="fp32") for folder in folders]
        self.first = self.decoders[0]
        cuts, config = list(load_manifest(manifest)), self.first.bundle.config
        self.references = transcripts(cuts, config.text)
        self.unit = main_unit(self.references.values())
        self.speakers = speakers_of(list(self.references), known_speakers(cuts))
        self.ids: list[list[str]] = []
        self.heard: list[list[Frames]] = []
        for batch in evaluation_batches(cuts, config):
            self.ids.append(batch.ids)
            self.heard.append([decoder.log_posteriors(batch) for decoder in self.decoders])

    def search(self, name: str) -> Search:
        settings = SEARCHES[name]
        if settings is None:
            return Search("greedy")
        return Search("beam", settings=self.first.bundle.config.decode.model_copy(update=settings))

    def counts(self, found: Iterable[str]) -> list[ErrorCounts]:
        """Return each utterance's errors; `found` are their texts in the order of the batches."""
        text = self.first.bundle.config.text
        recognised = (normalised_hypothesis(hypothesis, text) for hypothesis in found)
        hypotheses = dict(zip(chain.from_iterable(self.ids), recognised, strict=True))
        return list(count_corpus(self.references, hypotheses, unit=self.unit).values())

    def lists(self, decoder: Decoder, place: int, search: Search) -> list[list[Hypothesis]]:
        """Return the n-best list of each utterance."""
        return [nbest for heard in self.heard for nbest in decoder.search(*heard[place], search)]

    def texts(self, decoder: Decoder, nbest: Sequence[Hypothesis]) -> list[str]:
        return [decoder.bundle.tokens.decode(hypothesis.tokens) for hypothesis in nbest]

    def of_means(self, mean: Callable[[torch.Tensor], torch.Tensor], search: Search) -> list[ErrorCounts]:
        """Return the errors with the mean of the models' frames; `mean` maps `(model, batch, frame, token)`."""
        found: list[str] = []
        for heard in self.heard:
            stacked = torch.stack([log_posteriors.double() for log_posteriors, _ in heard])
            searched = self.first.search(mean(stacked).float(), heard[0][1], search)
            found += [self.texts(self.first, nbest[:1])[0] for nbest in searched]
        return self.counts(found)

    @property
    def frames_agree(self) -> bool:
        """Whether all models have the same tokens and frames."""
        return all(
            decoder.bundle.tokens == self.first.bundle.tokens
            and decoder.model.frame_samples == self.first.model.frame_samples
            for decoder in self.decoders
        )


def mean_of_posteriors(stacked: torch.Tensor) -> torch.Tensor:
    return stacked.logsumexp(0) - math.log(len(stacked))


def mean_of_logarithms(stacked: torch.Tensor) -> torch.Tensor:
    return stacked.mean(0).log_softmax(-1)


def measure(comparison: Comparison, name: str) -> dict[str, list[list[ErrorCounts]]]:
    """Return by the name of a way its errors; of a way that each model goes by itself, one list a model."""
    search = comparison.search(name)
    lists = [comparison.lists(decoder, place, search) for place, decoder in enumerate(comparison.decoders)]
    scored = [
        [(comparison.texts(decoder, nbest), [hypothesis.score for hypothesis in nbest]) for nbest in lists[place]]
        for place, decoder in enumerate(comparison.decoders)
    ]
    found = {
        "each model": [comparison.counts(texts[0] for texts, _ in own) for own in scored],
        "joined lists": [comparison.counts(join(together)[0].text for together in zip(*scored, strict=True))],
        "one list": [comparison.counts(join([own])[0].text for own in of_model) for of_model in scored],
    }
    if comparison.frames_agree and len(comparison.decoders) > 1:
        found["mean of posteriors"] = [comparison.of_means(mean_of_posteriors, search)]
        found["mean of logarithms"] = [comparison.of_means(mean_of_logarithms, search)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--distilled", type=Path, help="the network that asr distill made of the models")
    arguments = parser.parse_args()
    print(describe())
    comparison = Comparison(arguments.manifest, arguments.models)
    Ensemble(comparison.decoders)  # refuses models that do not fit together
    length = sum(counts.reference_length for counts in comparison.counts([""] * len(comparison.references)))
    print(f"{arguments.manifest}: {len(comparison.references)} utterances, {length} {comparison.unit}s")
    compared = ""
    for name in SEARCHES:
        found = measure(comparison, name)
        if arguments.distilled is not None:
            alone = Comparison(arguments.manifest, [arguments.distilled])
            found["distilled"] = measure(alone, name)["each model"]
        for way, counts in found.items():
            errors = [sum(utterance.errors for utterance in model) for model in counts]
            mean = sum(errors) / len(errors)
            shown = f" ({', '.join(map(str, errors))})" if len(errors) > 1 else ""
            print(f"{name:8s} {way:19s} {mean:7.1f} errors {100 * mean / length:6.2f} %{shown}")
        pair = compare_rates(found["each model"][0], found["joined lists"][0], speakers=comparison.speakers)
        interval = f"{100 * pair.interval.low:+.2f} to {100 * pair.interval.high:+.2f}"
        compared = f"joined lists against the first model: {100 * pair.difference:+.2f} %"
        compared += f" ({interval}), p {pair.p_value:.3f}"
    print(compared)


if __name__ == "__main__":
    main()
