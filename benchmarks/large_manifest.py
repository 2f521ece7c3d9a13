"""What a million utterances cost before and during training: time to the first batch, resident memory, resuming.

    python benchmarks/large_manifest.py [--utterances 1000000] [--small 10000] [--folder DIR]

Writes two manifests that differ in length alone; utterances last 1 to 16 s (8.5 on average) and have 23 words of 6
characters. Each is then used by a fresh process as `asr train` does: opened, surveyed, batches drawn. The audio is that
of one file. CPU time is given beside wall time, since only the former means something on a busy machine. With --folder
the manifests are kept and found again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

BATCHES = 20
RATE_HZ = 16000
LONGEST_S = 16.0


def write_manifest(path: Path, utterances: int, audio: Path) -> None:
    rng = random.Random(1)
    letters = "etaoinshrdlucmfwypvbgkqjxz"
    words = ["".join(rng.choice(letters) for _ in range(rng.randint(1, 10))) for _ in range(20_000)]
    with gzip.open(path, "wt", compresslevel=6, encoding="utf-8") as lines:
        for number in range(utterances):
            duration_s = round(rng.uniform(1.0, LONGEST_S), 3)
            speaker, name = f"s{number // 400:05d}", f"s{number // 400:05d}-{number:07d}"
            cut = {
                "id": name,
                "start": 0.0,
                "duration": duration_s,
                "channel": 0,
                "supervisions": [
                    {
                        "id": name,
                        "recording_id": name,
                        "start": 0.0,
                        "duration": duration_s,
                        "channel": 0,
                        "text": " ".join(rng.choices(words, k=max(1, int(2.5 * duration_s)))),
                        "language": "en",
                        "speaker": speaker,
                    }
                ],
                "recording": {
                    "id": name,
                    "sources": [{"type": "file", "channels": [0], "source": str(audio)}],
                    "sampling_rate": RATE_HZ,
                    "num_samples": int(LONGEST_S * RATE_HZ),
                    "duration": LONGEST_S,
                    "channel_ids": [0],
                },
                "type": "MonoCut",
            }
            lines.write(json.dumps(cut) + "\n")


def measure(path: Path, skip: int) -> dict[str, float]:
    """Do in this process what training does up to its twentieth step, without the network."""
    from asr.corpus.manifest import read_manifest
    from asr.features.batching import training_batches
    from asr.settings_file import load_config
    from asr.training.survey import is_usable, survey_training_cuts

    config = load_config(None, [])
    figures = {"imported_mb": resident_mb()}
    began, cpu = time.perf_counter(), time.process_time()

    def lap(name: str) -> None:
        figures[f"{name}_s"], figures[f"{name}_cpu_s"] = time.perf_counter() - began, time.process_time() - cpu

    cuts = read_manifest(path)
    survey = survey_training_cuts(cuts, config)
    lap("survey")
    usable = cuts.filter(partial(is_usable, survey))
    batches = training_batches(usable, survey.tokens, config, epoch=0)
    next(batches)
    lap("first_batch")
    for _ in range(BATCHES - 1):
        next(batches)
    figures |= {"utterances": survey.utterances, "resident_mb": resident_mb()}
    del batches
    began, cpu = time.perf_counter(), time.process_time()
    next(training_batches(usable, survey.tokens, config, epoch=0, skip=skip))
    lap("resume")
    return figures


def resident_mb() -> float:
    """Return this process's resident memory, in 10^6 bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("no VmRSS in /proc/self/status")


def run(folder: Path, counts: list[int]) -> Iterator[tuple[int, dict[str, float]]]:
    import numpy as np
    import soundfile

    audio = folder / "noise.flac"
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, int(LONGEST_S * RATE_HZ))
    soundfile.write(audio, samples, RATE_HZ)
    for utterances in counts:
        path = folder / f"train-{utterances}.jsonl.gz"
        if not path.exists():
            print(f"writing {path} ...", flush=True)
            write_manifest(path, utterances, audio)
        skip = utterances // 10  # of about 4.4 utterances a batch, so 44 % of the epoch
        command = [sys.executable, __file__, "--measure", str(path), "--skip", str(skip)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        yield skip, json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--skip", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.skip)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        resident = {}
        for skip, figures in run(folder, [arguments.small, arguments.utterances]):
            resident[figures["utterances"]] = figures["resident_mb"]
            print(f"{figures['utterances']:,.0f} usable utterances")
            for name, what in (
                ("survey", "opened and surveyed"),
                ("first_batch", "first batch, all before included"),
                ("resume", f"resumed at batch {skip:,}"),
            ):
                print(f"  {what:34}{figures[f'{name}_s']:8.2f} s   CPU {figures[f'{name}_cpu_s']:6.2f} s")
            print(f"  resident after {BATCHES} batches         {figures['resident_mb']:8.0f} MB", end="")
            print(f"  (imports alone: {figures['imported_mb']:.0f} MB)")
        small, large = resident.values()
        print(f"memory of the long manifest against the short one: {large / small:.3f} ×")


if __name__ == "__main__":
    main()
