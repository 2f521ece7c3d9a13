"""What does it cost to recognise speech while it arrives? Word errors against whole files, delay, and time a block.

    python benchmarks/streaming.py exp/an4 data/an4/test.jsonl.gz

Each utterance of the manifest is recognised as a whole and as a stream; then all of them, joined into one recording
with pauses of 0.3 to 3 s, as a stream. A model with one direction and global normalisation carries its state on through
an utterance. Its log-posteriors should be those of the whole utterance; the greatest difference is printed. Any other
model hears the utterance again while it grows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from machine import describe
from numpy.typing import NDArray

import asr
from asr.audio.segment import STREAM_RULE
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import read_manifest, transcripts
from asr.decoding.streaming import AGAIN_S, PIECE_S
from asr.features.batch import collate
from asr.inference.decoder import Search
from asr.inference.recognizer import Recognizer
from asr.inference.stream import CarriedState
from asr.scoring.error_counts import ErrorCounts, count_errors

PAUSE_S = (0.3, 3.0)
SEED = 1

Waveform = NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--method", choices=("greedy", "beam"), default="greedy")
    parser.add_argument("--block-s", type=float, default=0.1, help="of the arriving audio")
    arguments = parser.parse_args()
    recognizer = asr.load(arguments.model, accelerator="cpu")
    rate_hz = recognizer.sample_rate_hz
    cuts = list(read_manifest(arguments.manifest))
    references = list(transcripts(cuts, recognizer.decoder.bundle.config.text).values())
    waveforms = [load_cut(cut, rate_hz) for cut in cuts]
    joined = join(waveforms, rate_hz)
    print(describe())
    print(f"network          {recognizer.decoder.bundle.config.model.network}")
    if recognizer.decoder.model.streams:
        print(
            f"heard            with a carried state; a frame looks {recognizer.decoder.model.lookahead_s:.3f} s ahead"
        )
    else:
        print(f"heard            again from the utterance's start after each {AGAIN_S:g} s of new audio")
    print(
        f"final            {STREAM_RULE.pause_s:.2f} to {STREAM_RULE.pause_s + PIECE_S:.2f} s after an utterance's end"
    )

    whole, wholly = ErrorCounts(), []
    for waveform, reference in zip(waveforms, references, strict=True):
        log_posteriors, lengths = recognizer.decoder.log_posteriors(collate([torch.from_numpy(waveform)], [[]], [""]))
        wholly.append(log_posteriors[0])
        best = recognizer.decoder.search(log_posteriors, lengths, Search(arguments.method))[0][0]
        whole += count_errors(reference, recognizer.decoder.bundle.tokens.decode(best.tokens), unit="word")
    print_errors("whole utterances", whole)

    streamed, difference = ErrorCounts(), 0.0
    for waveform, reference, log_posteriors in zip(waveforms, references, wholly, strict=True):
        text, _ = stream(recognizer, waveform, arguments)
        streamed += count_errors(reference, text, unit="word")
        if recognizer.decoder.model.streams:
            in_blocks = carried(recognizer, waveform, arguments.block_s)
            difference = max(difference, float((in_blocks - log_posteriors).abs().max()))
    print_errors("each as a stream", streamed)
    if recognizer.decoder.model.streams:
        print(f"log-posteriors   differ by {difference:.1e} at most")

    text, blocks_s = stream(recognizer, joined, arguments)
    print_errors("one long stream", count_errors(" ".join(references), text, unit="word"))
    duration_s = len(joined) / rate_hz
    milliseconds = 1000 * np.array(blocks_s)
    print(
        f"time             RTF {sum(blocks_s) / duration_s:.4f} over {duration_s:.0f} s in blocks of "
        f"{arguments.block_s:g} s; a block {np.median(milliseconds):.1f} ms (median), "
        f"{np.percentile(milliseconds, 95):.1f} ms (95 %), {milliseconds.max():.1f} ms (most)"
    )


def join(waveforms: list[Waveform], rate_hz: int) -> Waveform:
    """Return one recording of all, with pauses between them that hold the quiet end of the utterance before, again."""
    rng = np.random.default_rng(SEED)
    pieces = []
    for waveform in waveforms:
        quiet = waveform[-rate_hz // 20 :]
        back_and_forth = np.concatenate([quiet, quiet[::-1]])
        pieces += [waveform, np.resize(back_and_forth, round(rng.uniform(*PAUSE_S) * rate_hz))]
    return np.concatenate(pieces)


def carried(recognizer: Recognizer, waveform: Waveform, block_s: float) -> torch.Tensor:
    """Return the log-posteriors `(frame, token)` of a waveform that arrives in blocks."""
    hearing, step = CarriedState(recognizer.decoder), round(block_s * recognizer.sample_rate_hz)
    for end in range(step, len(waveform), step):
        hearing.more_of(waveform[:end])
    return hearing.all_of(waveform)


def stream(recognizer: Recognizer, waveform: Waveform, arguments: argparse.Namespace) -> tuple[str, list[float]]:
    """Return the final text, and the seconds from each block's arrival until the next one was asked for."""
    size = round(arguments.block_s * recognizer.sample_rate_hz)
    seconds: list[float] = []

    def blocks() -> Iterator[Waveform]:
        for start in range(0, len(waveform), size):
            began = time.perf_counter()
            yield waveform[start : start + size]
            seconds.append(time.perf_counter() - began)

    results = recognizer.stream(blocks(), sample_rate_hz=recognizer.sample_rate_hz, method=arguments.method)
    return " ".join(result.text for result in results if result.is_final), seconds


def print_errors(name: str, counts: ErrorCounts) -> None:
    print(
        f"{name:<16} {100 * counts.rate:5.2f} % WER, {counts.errors} of {counts.reference_length} words "
        f"({counts.substitutions} sub, {counts.deletions} del, {counts.insertions} ins)"
    )


if __name__ == "__main__":
    main()
