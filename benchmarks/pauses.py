"""Which pause should cut a recording? Word error rates of single utterances, and of several voices after each other.

    python benchmarks/pauses.py exp/quickstart data/quickstart/test.jsonl.gz

Joined utterances are without the silence at their ends, with room tone of the pauses' length between them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from command_line import model_and_manifest
from numpy.typing import NDArray

import asr
from asr.audio import segment
from asr.audio.segment import FILE_RULE, speech_extent
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import read_manifest, transcripts
from asr.scoring.error_counts import ErrorCounts, count_errors

RULES = {
    "0.6 s": replace(FILE_RULE, early_pause_s=None),
    "0.3 s": replace(FILE_RULE, pause_s=0.3, early_pause_s=None),
    "as it is": FILE_RULE,
}
JOINED, GROUP = 60, 6
PAUSES_S = {"joined with 0.4 s": (0.4, 0.4), "joined with 0.2 to 1 s": (0.2, 1.0)}
ROOM_TONE = 3e-4

Item = tuple[str, NDArray[np.float32]]  # what is said, and the recording


def main() -> None:
    arguments = model_and_manifest(__doc__).parse_args()
    recognizer = asr.load(arguments.model, accelerator="cpu")
    rate_hz = recognizer.sample_rate_hz
    rng = np.random.default_rng(4)
    cuts = list(read_manifest(arguments.manifest))
    cuts = [cuts[place] for place in rng.permutation(len(cuts))]  # so that neighbours are other voices
    references = transcripts(cuts, recognizer.decoder.bundle.config.text)
    single = [(references[cut.id], load_cut(cut, rate_hz)) for cut in cuts]
    kinds = {"single": single}
    kinds |= {name: joined(single[:JOINED], *range_s, rate_hz, rng) for name, range_s in PAUSES_S.items()}
    print(f"{'':24}", *(f"{name:>10}" for name in RULES))
    for kind, items in kinds.items():
        print(f"{kind:24}", *(f"{100 * rate(recognizer, items, name):8.2f} %" for name in RULES), flush=True)


def rate(recognizer: asr.Recognizer, items: list[Item], rule: str) -> float:
    """Return the greedy word error rate of recordings that are cut by a rule."""
    segment.FILE_RULE = RULES[rule]
    total = ErrorCounts()
    for text, waveform in items:
        found = recognizer.transcribe(waveform, sample_rate_hz=recognizer.sample_rate_hz, method="greedy")
        total += count_errors(text, found.text, unit="word")
    return total.rate


def joined(items: list[Item], least_s: float, most_s: float, rate_hz: int, rng: np.random.Generator) -> list[Item]:
    """Return recordings of `GROUP` utterances each, with pauses of these lengths."""
    recordings = []
    for first in range(0, len(items), GROUP):
        group, parts = items[first : first + GROUP], []
        for _, waveform in group:
            extent = speech_extent(waveform, rate_hz)
            pause = ROOM_TONE * rng.standard_normal(round(rng.uniform(least_s, most_s) * rate_hz))
            parts += [pause, waveform[round(extent.start_s * rate_hz) : round(extent.end_s * rate_hz)]]
        parts.append(ROOM_TONE * rng.standard_normal(round(0.3 * rate_hz)))
        recordings.append((" ".join(text for text, _ in group), np.concatenate(parts).astype(np.float32)))
    return recordings


if __name__ == "__main__":
    main()
