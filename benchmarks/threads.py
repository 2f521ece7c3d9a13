"""What do threads and their waiting cost, on a quiet machine and beside other work?

    python benchmarks/threads.py exp/quickstart data/quickstart

Two threads meet at a barrier at each time step of a recurrent layer. OpenMP's threads spin while they wait. If another
process has the second core, the first thread spins until the system takes that process off the core again, thousands of
times a second. Each task is run as a command of its own, alone and beside as many spinning processes as there are
cores, with the default of this package and with other settings of the environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machine import processor

from asr.machine import cores

SETTINGS = {
    "default": {},
    "active": {"OMP_WAIT_POLICY": "ACTIVE"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
OURS = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT")


@contextmanager
def load(processes: int) -> Iterator[None]:
    """Keep so many processors busy."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def tasks(model: Path, data: Path, folder: Path) -> dict[str, list[str]]:
    """Return the commands that are timed."""
    files = sorted(map(str, (data / "audio" / "test").glob("*.wav")))[:20]
    out = ["--out", str(folder / "out")]
    short = ["--set", "training.epochs=1", "--set", "training.max_utterance_s=3.5", "--set", "training.batch_s=14"]
    return {
        "transcribe": ["transcribe", str(model), *files],
        "decode": ["decode", str(model), str(data / "test.jsonl.gz"), *out],
        "train": ["train", "--config", str(model / "config.yaml"), "--data", str(folder / "data"), *out, *short],
    }


def small_data(data: Path, folder: Path, utterances: int) -> None:
    """Write manifests with the first utterances of a data folder."""
    from asr.corpus.manifest import read_manifest, write_manifest

    for split, count in (("train", utterances), ("dev", utterances // 5)):
        write_manifest(read_manifest(data / f"{split}.jsonl.gz").subset(first=count), folder / f"{split}.jsonl.gz")


def seconds(command: list[str], settings: dict[str, str], out: Path) -> float:
    """Return the wall time of a command."""
    shutil.rmtree(out, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name not in OURS} | settings
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "asr", *command],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--train-utterances", type=int, default=300)
    arguments = parser.parse_args()
    print(f"{processor()}, {cores()} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_data(arguments.data, folder / "data", arguments.train_utterances)
        for task, command in tasks(arguments.model.resolve(), arguments.data, folder).items():
            for setting, variables in SETTINGS.items():
                medians = []
                for busy in (0, cores()):
                    with load(busy):
                        times = [seconds(command, variables, folder / "out") for _ in range(arguments.runs)]
                    medians.append(statistics.median(times))
                quiet, loaded = medians
                print(
                    f"{task:<11} {setting:<11} quiet {quiet:6.1f} s   busy {loaded:6.1f} s   {loaded / quiet:5.1f} ×",
                    flush=True,
                )


if __name__ == "__main__":
    main()
