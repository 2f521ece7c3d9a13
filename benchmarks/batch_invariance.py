"""Does an utterance's result depend on its neighbours? Each one alone against batches of 2, 8 and 32.

    python benchmarks/batch_invariance.py exp/an4 data/an4/test.jsonl.gz

Prints the largest difference of any log-posterior (float32) and how many hypotheses differ, greedy and beam.
"""

from __future__ import annotations

import torch
from command_line import model_and_manifest

import asr
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import read_manifest
from asr.features.batch import collate
from asr.inference.decoder import Search

SIZES = (2, 8, 32)


def main() -> None:
    arguments = model_and_manifest(__doc__).parse_args()
    recognizer = asr.load(arguments.model, accelerator="cpu")
    cuts = list(read_manifest(arguments.manifest))
    waveforms = [torch.from_numpy(load_cut(cut, recognizer.sample_rate_hz)) for cut in cuts]

    def results(size: int) -> tuple[list[torch.Tensor], dict[str, list[tuple[int, ...]]]]:
        posteriors: list[torch.Tensor] = []
        tokens: dict[str, list[tuple[int, ...]]] = {"greedy": [], "beam": []}
        for start in range(0, len(cuts), size):
            group = slice(start, start + size)
            ids = [cut.id for cut in cuts[group]]
            log_posteriors, lengths = recognizer.decoder.log_posteriors(collate(waveforms[group], [[]] * len(ids), ids))
            posteriors += [row[:length] for row, length in zip(log_posteriors, lengths.tolist(), strict=True)]
            for method in ("greedy", "beam"):
                tokens[method] += [
                    best[0].tokens for best in recognizer.decoder.search(log_posteriors, lengths, Search(method))
                ]
        return posteriors, tokens

    alone, alone_tokens = results(1)
    for size in SIZES:
        batched, batched_tokens = results(size)
        largest = max(float((a - b).abs().max()) for a, b in zip(alone, batched, strict=True))
        differing = {
            method: sum(a != b for a, b in zip(alone_tokens[method], batched_tokens[method], strict=True))
            for method in alone_tokens
        }
        print(
            f"batches of {size:2d}: {len(cuts)} utterances, largest difference of a log-posterior {largest:.1e}, "
            f"differing hypotheses: {differing['greedy']} greedy, {differing['beam']} beam"
        )


if __name__ == "__main__":
    main()
