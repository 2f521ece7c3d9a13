"""How far are word times from the speech engine's own? The quickstart's manifests hold the latter.

    ./run.sh quickstart
    python benchmarks/word_times.py exp/quickstart data/quickstart/test.jsonl.gz

Aligns each reference text and prints, over words, the mean absolute error, the mean error (late is positive) and
the share within 100 ms, of the words' starts and of their ends.
"""

from __future__ import annotations

import numpy as np
from command_line import model_and_manifest

import asr
from asr.corpus.manifest import read_manifest
from asr.inference.text_alignment import align_cuts

CLOSE_MS = 100


def main() -> None:
    arguments = model_and_manifest(__doc__).parse_args()
    recognizer = asr.load(arguments.model, accelerator="cpu")
    cuts = read_manifest(arguments.manifest).to_eager()
    times = {cut.id: cut.supervisions[0].alignment["word"] for cut in cuts}
    starts, ends = [], []
    for aligned in align_cuts(recognizer.decoder, cuts):
        for word, item in zip(aligned.words, times[aligned.id], strict=True):
            assert word.text == item.symbol
            starts.append(1000 * (word.start_s - item.start))
            ends.append(1000 * (word.end_s - item.end))
    for name, errors_ms in (("starts", np.array(starts)), ("ends", np.array(ends))):
        print(
            f"{name:<7} {len(errors_ms)} words, mean absolute error {np.abs(errors_ms).mean():.0f} ms, "
            f"mean error {errors_ms.mean():+.0f} ms, "
            f"{100 * (np.abs(errors_ms) <= CLOSE_MS).mean():.1f} % within {CLOSE_MS} ms"
        )


if __name__ == "__main__":
    main()
