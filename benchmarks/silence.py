"""Does silence around an utterance make a model write words? Word error rates with seconds of it before and after.

    python benchmarks/silence.py exp/an4-seed1 data/an4/dev.jsonl.gz

The silence is white noise with the level of the utterance's quietest twentieth of a second. `cut` is what `transcribe`
does, `whole` gives all of it to the network.
"""

from __future__ import annotations

import numpy as np
from command_line import model_and_manifest
from numpy.typing import NDArray

import asr
from asr.audio.segment import Segmentation
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import read_manifest, transcripts
from asr.features.augment import Draw
from asr.scoring.error_counts import ErrorCounts, count_errors

AROUND_S = ((0.0, 0.0), (0.1, 0.1), (0.3, 0.3), (1.0, 1.0), (3.0, 0.0), (0.0, 3.0))
SEGMENTATIONS: dict[str, Segmentation] = {"cut": "vad", "whole": "none"}


def main() -> None:
    arguments = model_and_manifest(__doc__).parse_args()
    recognizer = asr.load(arguments.model, accelerator="cpu")
    rate_hz = recognizer.sample_rate_hz
    cuts = list(read_manifest(arguments.manifest))
    references = transcripts(cuts, recognizer.decoder.bundle.config.text)
    print("    before      after        cut      whole")
    for before_s, after_s in AROUND_S:
        rates = []
        for segment in SEGMENTATIONS.values():
            total = ErrorCounts()
            for cut in cuts:
                waveform = with_silence(load_cut(cut, rate_hz), cut.id, before_s, after_s, rate_hz)
                found = recognizer.transcribe(waveform, sample_rate_hz=rate_hz, method="greedy", segment=segment)
                total += count_errors(references[cut.id], found.text, unit="word")
            rates.append(f"{100 * total.rate:9.2f} %")
        print(f"{before_s:8.1f} s {after_s:8.1f} s", *rates, sep="", flush=True)


def with_silence(
    waveform: NDArray[np.float32], name: str, before_s: float, after_s: float, rate_hz: int
) -> NDArray[np.float32]:
    """Return `(sample,)` with the silence that always belongs to this utterance."""
    width = min(rate_hz // 20, len(waveform))
    level = waveform[: len(waveform) // width * width].reshape(-1, width).std(axis=1).min()
    before, after = int(before_s * rate_hz), int(after_s * rate_hz)
    noise = level * Draw(0, 0, name).rng("silence").standard_normal(before + after, dtype=np.float32)
    return np.concatenate([noise[:before], waveform, noise[before:]])


if __name__ == "__main__":
    main()
