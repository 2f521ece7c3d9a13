"""Does the level or an offset of audio matter? Word error rates from 0 to -50 dB, and with offsets up to 0.5.

    python benchmarks/level.py exp/quickstart data/quickstart/test.jsonl.gz

Each utterance goes through a file of 16 bits, so that the noise floor is real. It is heard in three ways: as a whole,
as `asr decode` does it; cut by the speech detector, as `asr transcribe` does it; in blocks of a tenth of a second, as
`asr transcribe --stream` does it. With an offset the audio is scaled, so that it keeps clear of clipping.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from command_line import model_and_manifest
from numpy.typing import NDArray

import asr
from asr.audio.blocks import load_audio
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import read_manifest, transcripts
from asr.features.batch import collate
from asr.inference.decoder import Method, Search
from asr.scoring.error_counts import ErrorCounts, count_errors

LEVELS_DB = (0, -10, -20, -30, -40, -50)
OFFSETS = (0.1, 0.25, 0.5)
BLOCK_S = 0.1

Way = Callable[[asr.Recognizer, Path, Method], str]


def decoded(recognizer: asr.Recognizer, path: Path, method: Method) -> str:
    """Return the text of a file that goes through the network as a whole."""
    decoder = recognizer.decoder
    batch = collate([torch.from_numpy(load_audio(path, recognizer.sample_rate_hz))], [[]], [""])
    ((best, *_),) = decoder.search(*decoder.log_posteriors(batch), Search(method))
    return decoder.bundle.tokens.decode(best.tokens)


def transcribed(recognizer: asr.Recognizer, path: Path, method: Method) -> str:
    """Return the text of a file that is cut by the speech detector."""
    return recognizer.transcribe(path, method=method).text


def streamed(recognizer: asr.Recognizer, path: Path, method: Method) -> str:
    """Return the final texts of a file that arrives in blocks."""
    samples, rate_hz = soundfile.read(path, dtype="float32")
    step = round(BLOCK_S * rate_hz)
    blocks = (samples[start : start + step] for start in range(0, len(samples), step))
    results = recognizer.stream(blocks, sample_rate_hz=rate_hz, method=method)
    return " ".join(result.text for result in results if result.is_final)


WAYS: dict[str, Way] = {"decode": decoded, "file": transcribed, "stream": streamed}


def changed(waveform: NDArray[np.float32], level_db: float, offset: float) -> NDArray[np.float32]:
    """Return `(sample,)` at another level, with an offset, scaled by what keeps the sum within full scale."""
    room = (1 - abs(offset)) / max(1.0, float(np.abs(waveform).max())) if offset else 1.0
    return waveform * np.float32(room * 10 ** (level_db / 20)) + np.float32(offset)


def main() -> None:
    parser = model_and_manifest(__doc__)
    parser.add_argument("--method", choices=("greedy", "beam"), default="greedy")
    parser.add_argument("--utterances", type=int, help="only the first ones, for a quick look")
    parser.add_argument("--rate-hz", type=int, help="sample rate of the files; by default the model's")
    arguments = parser.parse_args()
    recognizer = asr.load(arguments.model, accelerator="cpu")
    rate_hz = arguments.rate_hz or recognizer.sample_rate_hz
    cuts = list(read_manifest(arguments.manifest))[: arguments.utterances]
    references = transcripts(cuts, recognizer.decoder.bundle.config.text)
    waveforms = [load_cut(cut, rate_hz) for cut in cuts]

    def rates(level_db: float, offset: float) -> Sequence[float]:
        totals = dict.fromkeys(WAYS, ErrorCounts())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "utterance.wav"
            for cut, waveform in zip(cuts, waveforms, strict=True):
                soundfile.write(path, changed(waveform, level_db, offset), rate_hz, subtype="PCM_16")
                for name, way in WAYS.items():
                    text = way(recognizer, path, arguments.method)
                    totals[name] += count_errors(references[cut.id], text, unit="word")
        return [100 * total.rate for total in totals.values()]

    print(f"{'':14}", *(f"{name:>18}" for name in WAYS))
    as_recorded: Sequence[float] | None = None
    for level_db, offset in [*((level_db, 0.0) for level_db in LEVELS_DB), *((0.0, offset) for offset in OFFSETS)]:
        found = rates(level_db, offset)
        as_recorded = as_recorded or found
        shown = (f"{rate:7.2f} % ({rate - first:+.2f})" for rate, first in zip(found, as_recorded, strict=True))
        label = f"offset {offset:g}" if offset else f"{level_db:g} dB"
        print(f"{label:14}", *(f"{text:>18}" for text in shown), flush=True)


if __name__ == "__main__":
    main()
