"""How far do noise and a room set a model back? Greedy word error rates, clean and with each added.

    python benchmarks/noise.py exp/an4 data/an4/dev.jsonl.gz --snr-db 5

Noise and rooms are generated and belong to the utterance: every model, on every run, hears the same. They are of the
kind that training generates without `noise_dir` and `reverb_dir`: a model trained with those has met the kind before,
and what it gains here it need not gain with noise of other kinds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from command_line import model_and_manifest
from numpy.typing import NDArray

import asr
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import read_manifest, transcripts
from asr.features.augment import Draw
from asr.features.batch import collate
from asr.features.noise import add_noise, generated_noise, generated_room, reverberate
from asr.inference.decoder import Search
from asr.scoring.error_counts import ErrorCounts, count_errors

BATCH = 16

Waveform = NDArray[np.float32]


def with_noise(waveform: Waveform, utterance_id: str, snr_db: float, rate_hz: int) -> Waveform:
    """Return the waveform with the generated noise that always belongs to this utterance."""
    rng = Draw(0, 0, utterance_id).rng("evaluation noise")
    return add_noise(waveform, generated_noise(len(waveform), rate_hz, rng), snr_db)


def in_room(waveform: Waveform, utterance_id: str, rate_hz: int) -> Waveform:
    """Return the waveform in the synthetic room that always belongs to this utterance."""
    return reverberate(waveform, generated_room(rate_hz, Draw(0, 0, utterance_id).rng("evaluation reverb")))


def main() -> None:
    parser = model_and_manifest(__doc__)
    parser.add_argument("--snr-db", type=float, default=5.0, help="signal-to-noise ratio over the whole utterance")
    arguments = parser.parse_args()
    recognizer = asr.load(arguments.model, accelerator="cpu")
    rate_hz = recognizer.sample_rate_hz
    cuts = list(read_manifest(arguments.manifest))
    references = transcripts(cuts, recognizer.decoder.bundle.config.text)

    def errors(condition: Callable[[Waveform, str], Waveform]) -> ErrorCounts:
        total = ErrorCounts()
        for start in range(0, len(cuts), BATCH):
            group = cuts[start : start + BATCH]
            waveforms = [torch.from_numpy(condition(load_cut(cut, rate_hz), cut.id)) for cut in group]
            batch = collate(waveforms, [[]] * len(group), [cut.id for cut in group])
            for name, (best, *_) in zip(
                batch.ids,
                recognizer.decoder.search(*recognizer.decoder.log_posteriors(batch), Search("greedy")),
                strict=True,
            ):
                hypothesis = recognizer.decoder.bundle.tokens.decode(best.tokens)
                total += count_errors(references[name], hypothesis, unit="word")
        return total

    conditions: dict[str, Callable[[Waveform, str], Waveform]] = {
        "clean": lambda waveform, _: waveform,
        f"noise at {arguments.snr_db:g} dB": lambda waveform, name: with_noise(
            waveform, name, arguments.snr_db, rate_hz
        ),
        "synthetic room": lambda waveform, name: in_room(waveform, name, rate_hz),
    }
    for name, condition in conditions.items():
        counts = errors(condition)
        print(f"{name:>16}: {100 * counts.rate:5.2f} % WER greedy, {counts.errors} of {counts.reference_length} words")


if __name__ == "__main__":
    main()
