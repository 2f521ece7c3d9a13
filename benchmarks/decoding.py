"""Beam search with a word trigram through a lexicon: ours against flashlight-text's C++ decoder.

    python benchmarks/decoding.py MODEL DATA [--rounds 9]     e.g. exp/an4-seed1 data/an4; needs the extra `bench`

Both get the same log-posteriors of DATA's test set, the same trigram (of the training transcripts; flashlight reads it
through the KenLM inside its wheel), the same lexicon, a beam of 50, and log-added paths. LM weight and insertion bonus
(ours for each token, flashlight's for each word) are each decoder's own best of 30 pairs on dev.

flashlight's decoder takes one utterance at a time and holds Python's lock. So that both use two cores, each decoder has
two processes of one thread, which share the utterances; ours searches 32 at once. The rounds take turns. Timed is
from log-posteriors to texts, the n-best lists included; the medians of the rounds are printed, with their range.

What `blank_skip` and `token_floor` do, on AN4's dev set with seeds 1 and 2, this trigram and beam 50:

    blank_skip                         1      0.999        0.99         0.95
    frames skipped                     0      26 to 29 %   34 to 36 %   38 to 40 %
    largest error of a best score      0      0.010        0.15         0.25
    best hypotheses changed, of 206    0      0            0            1
    WER in %, seed 1 and 2     5.92, 5.58     the same     the same     5.92, 5.75
    time with token_floor 0            1      0.85         0.76         0.72
                          0.000001     1.10   0.92         0.84         0.78
                          0.00001      1.05   0.86         0.80         0.77
                          0.0001       0.94   0.78         0.74         0.70
                          0.001        0.86   0.73         0.68         0.67

`token_floor` alone changes no best hypothesis and its score by at most 0.001 at 0.00001, 0.005 at 0.0001 and 0.17 at
0.001. With the token 6-gram and the recipe's beams of 4 and 8 nothing changes either; there `blank_skip` 0.99 takes
0.83 of the time, and a `token_floor` costs up to a fifth more than it saves. So both are off by default and the search
is exact; who has large beams sets `blank_skip` to 0.99 first. `token_floor` pays for large vocabularies: with made-up
posteriors of 500 tokens and beam 50, 0.0001 takes 0.8 of the time. It may rule out a word that the audio makes
improbable, even where a closed vocabulary has no other.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import product
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from machine import describe
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

import asr
from asr.bundle.bundle import ModelBundle
from asr.corpus.manifest import read_manifest, transcripts
from asr.decoding.beam import BeamOptions, beam_search
from asr.decoding.scorers import WeightedScorer
from asr.decoding.word_scorer import WordNgramScorer
from asr.features.batching import evaluation_batches
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.kneser_ney import kneser_ney
from asr.scoring.error_counts import count_errors
from asr.text.tokens import TokenTable

BEAM_SIZE, BATCH, ORDER, PROCESSES = 50, 32, 3, 2
LM_WEIGHTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.2)
# A word and the space after it are about four tokens.
BONUSES = {"asr": (-0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0), "flashlight-text": (-4.0, -2.0, 0.0, 2.0, 4.0, 6.0)}


class Settings(NamedTuple):
    lm_weight: float
    bonus: float
    token_floor: float = 0.0
    blank_skip: float = 1.0


Decode = Callable[[Sequence[Tensor], Settings], list[str]]
# How each is timed; the weights come from dev.
TIMED = {
    "flashlight-text": ("flashlight-text", {}),
    "asr, exact": ("asr", {}),
    "asr, blank_skip 0.99": ("asr", {"blank_skip": 0.99}),
    "asr, token_floor 0.0001, blank_skip 0.99": ("asr", {"token_floor": 1e-4, "blank_skip": 0.99}),
}


def ours(tokens: TokenTable, arpa: Path) -> Decode:
    scorer = WordNgramScorer(read_arpa(arpa), tokens)

    def decode(posteriors: Sequence[Tensor], settings: Settings) -> list[str]:
        texts = []
        for first in range(0, len(posteriors), BATCH):
            batch = posteriors[first : first + BATCH]
            found = beam_search(
                pad_sequence(list(batch), batch_first=True).numpy(),
                np.array([len(frames) for frames in batch]),
                BeamOptions(
                    beam_size=BEAM_SIZE,
                    insertion_bonus=settings.bonus,
                    token_floor=settings.token_floor,
                    blank_skip=settings.blank_skip,
                ),
                [WeightedScorer(scorer, settings.lm_weight)],
            )
            texts += [tokens.decode(hypotheses[0].tokens) for hypotheses in found]
        return [" ".join(text.split()) for text in texts]

    return decode


def flashlights(tokens: TokenTable, arpa: Path) -> Decode:
    from flashlight.lib.text.decoder import CriterionType, LexiconDecoder, LexiconDecoderOptions, SmearingMode, Trie
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    words = Dictionary()
    for word in (*WordNgramScorer(read_arpa(arpa), tokens).words, "<unk>"):
        words.add_entry(word)
    unknown = words.get_index("<unk>")
    words.set_default_index(unknown)
    lm = KenLM(str(arpa), words)
    [space] = tokens.encode(" ")
    trie = Trie(len(tokens), space)
    for index in range(words.index_size()):
        if index != unknown:
            _, score = lm.score(lm.start(False), index)
            trie.insert([*tokens.encode(words.get_entry(index)), space], index, score)
    trie.smear(SmearingMode.MAX)

    def decode(posteriors: Sequence[Tensor], settings: Settings) -> list[str]:
        options = LexiconDecoderOptions(
            beam_size=BEAM_SIZE,
            beam_size_token=len(tokens),
            beam_threshold=25.0,
            lm_weight=settings.lm_weight,
            word_score=settings.bonus,
            unk_score=float("-inf"),
            sil_score=0.0,
            log_add=True,
            criterion_type=CriterionType.CTC,
        )
        decoder = LexiconDecoder(options, trie, lm, space, 0, unknown, [], False)
        texts = []
        for frames in posteriors:
            best = decoder.decode(frames.data_ptr(), *frames.shape)[0]
            texts.append(" ".join(words.get_entry(word) for word in best.words if word >= 0))
        return texts

    return decode


def compute_posteriors(model: Path, manifest: Path) -> tuple[list[Tensor], list[str]]:
    """Return each utterance's log-posteriors, the longest first, and its reference."""
    recognizer = asr.load(model, accelerator="cpu")
    cuts = read_manifest(manifest).to_eager()
    references = transcripts(cuts, recognizer.decoder.bundle.config.text)
    pairs = []
    for batch in evaluation_batches(cuts, recognizer.decoder.bundle.config):
        for name, frames, length in zip(batch.ids, *recognizer.decoder.log_posteriors(batch), strict=True):
            pairs.append((frames[:length].clone(), references[name]))
    pairs.sort(key=lambda pair: -len(pair[0]))
    return [frames for frames, _ in pairs], [text for _, text in pairs]


def work(name: str, part: int, model: Path, folder: Path, orders: Connection) -> None:
    """Be one of a decoder's processes: decode every `PROCESSES`-th utterance of the set that is asked for."""
    torch.set_num_threads(1)
    make = {"asr": ours, "flashlight-text": flashlights}[name]
    decode = make(ModelBundle.load(model).tokens, folder / "lm.arpa")
    sets = {split: torch.load(folder / f"{split}.pt")[part::PROCESSES] for split in ("dev", "test")}
    orders.send("ready")
    with suppress(EOFError):  # nothing more is asked
        while True:
            split, settings = orders.recv()
            orders.send(decode(sets[split], settings))


class Decoder:
    """A decoder's processes, and the utterances' texts in order."""

    def __init__(self, name: str, model: Path, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._orders: list[Connection] = []
        for part in range(PROCESSES):
            mine, theirs = context.Pipe()
            context.Process(target=work, args=(name, part, model, folder, theirs), daemon=True).start()
            theirs.close()
            self._orders.append(mine)
        for orders in self._orders:
            orders.recv()

    def decode(self, split: str, settings: Settings) -> tuple[list[str], float]:
        """Return the texts, and the seconds that it took."""
        began = time.perf_counter()
        for orders in self._orders:
            orders.send((split, settings))
        parts = [orders.recv() for orders in self._orders]
        wall_s = time.perf_counter() - began
        texts = [""] * sum(map(len, parts))
        for part, found in enumerate(parts):
            texts[part::PROCESSES] = found
        return texts, wall_s


def wer(references: Sequence[str], texts: Sequence[str]) -> float:
    """Return the word error rate in percent."""
    errors = sum(count_errors(*pair, unit="word").errors for pair in zip(references, texts, strict=True))
    return 100 * errors / sum(len(reference.split()) for reference in references)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="a folder of manifests")
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    print(describe("flashlight-text"))
    config = ModelBundle.load(arguments.model).config
    with tempfile.TemporaryDirectory() as temporary:
        folder, references = Path(temporary), {}
        training = transcripts(read_manifest(arguments.data / "train.jsonl.gz").to_eager(), config.text)
        write_arpa(kneser_ney([text.split() for text in training.values()], ORDER), folder / "lm.arpa")
        for split in ("dev", "test"):
            posteriors, references[split] = compute_posteriors(arguments.model, arguments.data / f"{split}.jsonl.gz")
            torch.save(posteriors, folder / f"{split}.pt")
        frames = sum(map(len, posteriors))
        print(f"test: {len(posteriors)} utterances, {frames} frames; {PROCESSES} processes of one thread each")

        decoders = {name: Decoder(name, arguments.model, folder) for name in BONUSES}
        chosen = {}
        for name, decoder in decoders.items():
            pairs = [Settings(*pair) for pair in product(LM_WEIGHTS, BONUSES[name])]
            chosen[name] = min(pairs, key=lambda pair: wer(references["dev"], decoder.decode("dev", pair)[0]))
            print(f"{name:16} LM weight {chosen[name].lm_weight}, bonus {chosen[name].bonus}, by dev WER")
        walls_ms: dict[str, list[float]] = {name: [] for name in TIMED}
        rates: dict[str, float] = {}
        for round_number in range(arguments.rounds + 1):
            for name, (decoder, options) in TIMED.items():
                texts, wall_s = decoders[decoder].decode("test", chosen[decoder]._replace(**options))
                rates[name] = wer(references["test"], texts)
                if round_number:  # the first warms up
                    walls_ms[name].append(1e3 * wall_s)
    theirs = statistics.median(walls_ms["flashlight-text"])
    for name, times in walls_ms.items():
        median = statistics.median(times)
        print(
            f"{name:41} WER {rates[name]:5.2f} %   {median:6.0f} ms ({min(times):.0f} to {max(times):.0f})   "
            f"{median / theirs:.2f} × flashlight's time"
        )


if __name__ == "__main__":
    main()
