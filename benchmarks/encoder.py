"""What a pretrained encoder costs: time for an hour of audio, memory, and training from stored features.

    python benchmarks/encoder.py --size base                 (large, 1b; --device cuda on a GPU)

The encoder has random weights, in a folder as transformers would write it: time and memory do not depend on them. Three
figures are printed:

* seconds for the features of an hour of audio, and the peak memory, of one process;
* the space that an hour of features takes on disk;
* steps of `asr train` in a second, from stored features and from audio with log-mel, on the same utterances with the
  default network. Runs alternate, so that a drift of the machine's speed meets both.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch
from machine import describe
from safetensors.torch import save_file

import asr
from asr.bulk.features import features_of
from asr.bundle.encoder_folder import load_encoder, read_form
from asr.corpus.manifest import make_cut, write_manifest
from asr.features.batch import collate
from asr.model.encoder import Encoder
from asr.settings_file import load_config
from asr.training.reports import EpochReport, StepReport
from asr.training.trainer import training_reports

RATE_HZ = 16000
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
SIZES: dict[str, dict[str, object]] = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
    "1b": {"hidden_size": 1280, "num_hidden_layers": 48, "num_attention_heads": 16, "intermediate_size": 5120},
    # Not published, for a quick look at whether this runs.
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
}
CONVOLUTIONS = {"conv_dim": [512] * 7, "conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2]}


def write_encoder(folder: Path, size: str) -> int:
    """Write a random encoder; return the number of its weights."""
    settings = {"model_type": "wav2vec2", **CONVOLUTIONS, **SIZES[size], **({} if size in ("base", "tiny") else LARGE)}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    encoder = Encoder(read_form(folder))
    save_file(encoder.state_dict(), folder / "model.safetensors")
    return sum(parameter.numel() for parameter in encoder.parameters())


def write_corpus(folder: Path, utterances: int, seconds: float) -> None:
    """Write noise with random letters as transcripts."""
    rng = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    for split, count in (("train", utterances), ("dev", 2)):
        cuts = []
        for number in range(count):
            path = folder / "audio" / f"{split}-{number}.wav"
            soundfile.write(path, rng.normal(0, 0.1, round(seconds * RATE_HZ)), RATE_HZ)
            text = "".join(rng.choice(list("abcdefgh "), round(8 * seconds)))
            cuts.append(make_cut(f"{split}-{number}", path, text, f"speaker {number % 4}"))
        write_manifest(cuts, folder / f"{split}.jsonl.gz")


def features_of_an_hour_s(folder: Path, device: torch.device, utterances: int, seconds: float) -> float:
    """Return the seconds that the features of an hour of audio take: utterances alone on a CPU, together on a GPU."""
    encoder, _ = load_encoder(str(folder))
    encoder.to(device)
    together = 1 if device.type == "cpu" else max(1, round(60 / seconds))
    waveforms = [0.1 * torch.randn(round(seconds * RATE_HZ)) for _ in range(utterances)]

    def compute(some: Sequence[torch.Tensor]) -> None:
        batch = collate(some, [[]] * len(some), [""] * len(some)).to(device)
        features_of(encoder, batch.waveforms, batch.lengths)

    compute(waveforms[:together])  # warms up
    began = time.perf_counter()
    for start in range(0, utterances, together):
        compute(waveforms[start : start + together])
    return (time.perf_counter() - began) / (utterances * seconds) * 3600


def steps_a_second(data: Path, out: Path, device: str) -> float:
    """Train one epoch and return the steps in a second, without the time for dev."""
    chosen = ["training.epochs=1", "training.precision=fp32", "augment.speeds=[1.0]", f"training.accelerator={device}"]
    steps, train_s = 0, 0.0
    for report in training_reports(load_config(None, chosen), data, out):
        steps += isinstance(report, StepReport)
        if isinstance(report, EpochReport):
            train_s += report.train_s
    return steps / train_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--utterances", type=int, default=60, help="of the corpus that is trained on")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of an utterance")
    parser.add_argument("--runs", type=int, default=3, help="trainings of each kind")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(describe())
    with TemporaryDirectory() as name:
        folder = Path(name)
        weights = write_encoder(folder / "encoder", arguments.size)
        seconds = features_of_an_hour_s(folder / "encoder", device, 12, arguments.seconds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{arguments.size}, {weights / 1e6:.0f} million weights: {seconds:.0f} s for an hour of audio")
        on_gpu = f", {torch.cuda.max_memory_allocated() / 1e9:.2f} GB of the GPU" if device.type == "cuda" else ""
        print(f"peak memory {peak:.2f} GB{on_gpu}")
        write_corpus(folder / "data", arguments.utterances, arguments.seconds)
        report = asr.compute_features(
            folder / "data", folder / "features", encoder=str(folder / "encoder"), accelerator=arguments.device
        )
        print(f"{report.size_bytes / 1e9 / (report.audio_s / 3600):.2f} GB for an hour of audio on disk")
        rates: dict[str, list[float]] = {"features": [], "data": []}
        for run in range(arguments.runs):
            for kind, found in rates.items():
                found.append(steps_a_second(folder / kind, folder / f"{kind}-{run}", arguments.device))
        stored, log_mel = (statistics.median(found) for found in rates.values())
        print(f"steps a second: {stored:.2f} from disk, {log_mel:.2f} with log-mel: {stored / log_mel:.2f} ×")


if __name__ == "__main__":
    main()
