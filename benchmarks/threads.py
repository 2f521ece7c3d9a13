"""Threads and number format: is the default near the best fixed choice, and good on a busy machine?

    python benchmarks/threads.py exp/quickstart data/quickstart      8 minutes on two cores, on a quiet machine

Two threads meet at a barrier at each time step of a recurrent layer. OpenMP's threads spin while they wait, unless they
are told to sleep. If another process has the second core, the first thread spins until the system takes that process
off the core again, thousands of times a second.

Each task is run as a command of its own, with the default of this package and with fixed choices, which take turns. The
default and one thread are run again beside as many spinning processes as there are cores. Times are wall times of the
whole command. Those of training are the epoch's, as `log.jsonl` has them, because each run times its network for some
seconds at its start.

The bars: on a quiet machine the default takes at most 1.05 × the time of the best fixed choice; on a busy one at most
2.5 × its own time on a quiet one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from asr.machine import cores, processor_name

OURS = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT")
QUIET_BAR, BUSY_BAR = 1.05, 2.5


@dataclass(frozen=True)
class Setting:
    """How a command is to compute: options and variables of the environment."""

    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def settings(task: str) -> dict[str, Setting]:
    """Return the default and the fixed choices of a task."""
    option = {"transcribe": "--precision {}", "train": "--set training.precision={}"}
    found = {"default": Setting()}
    for precision in ("fp32", "bf16") if task in option else ("auto",):
        for count in sorted({1, cores()}):
            given = option[task].format(precision).split() if task in option else []
            name = f"{precision}, {count} thread{'s' * (count > 1)}"
            found[name] = Setting(given, {"OMP_NUM_THREADS": str(count)})
    return found


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
    out = ["--out", str(folder / "out")]
    short = ["--set", "training.epochs=1", "--set", "training.max_utterance_s=3.5"]
    return {
        "transcribe": ["transcribe", str(model), str(data / "audio" / "test"), *out],
        "decode": ["decode", str(model), str(data / "test.jsonl.gz"), *out],
        "train": ["train", "--config", str(model / "config.yaml"), "--data", str(folder / "data"), *out, *short],
    }


def small_data(data: Path, folder: Path, utterances: int) -> None:
    """Write manifests with the first utterances of a data folder."""
    from asr.corpus.manifest import read_manifest, write_manifest

    for split, count in (("train", utterances), ("dev", utterances // 5)):
        write_manifest(read_manifest(data / f"{split}.jsonl.gz").subset(first=count), folder / f"{split}.jsonl.gz")


def seconds(command: Sequence[str], setting: Setting, out: Path) -> float:
    """Return the wall time of a command; of training that of its epoch."""
    shutil.rmtree(out, ignore_errors=True)
    environment = {name: value for name, value in os.environ.items() if name not in OURS} | dict(setting.environment)
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "asr", *command, *setting.options],
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    took_s = time.perf_counter() - begin
    if command[0] != "train":
        return took_s
    (epoch,) = map(json.loads, (out / "log.jsonl").read_text().splitlines())
    return float(epoch["train_s"] + epoch["dev_s"])


def verdict(ratio: float, bar: float) -> str:
    """Return a ratio and whether it is within the bar."""
    return f"{ratio:5.2f} × ({'holds' if ratio <= bar else 'MISSED'}: at most {bar:g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--train-utterances", type=int, default=600)
    parser.add_argument("--tasks", nargs="+", default=["transcribe", "decode", "train"])
    arguments = parser.parse_args()
    print(f"{processor_name()}, {cores()} cores; medians of {arguments.runs} runs")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_data(arguments.data, folder / "data", arguments.train_utterances)
        commands = tasks(arguments.model.resolve(), arguments.data, folder)
        for task in arguments.tasks:
            command, ways = commands[task], settings(task)
            quiet: dict[str, list[float]] = {way: [] for way in ways}
            busy: dict[str, list[float]] = {way: [] for way in list(ways)[:2]}
            seconds(command, ways["default"], folder / "out")  # reads the files and fills the cache of formats
            for _ in range(arguments.runs):
                for way in ways:
                    quiet[way].append(seconds(command, ways[way], folder / "out"))
            with load(cores()):
                for _ in range(arguments.runs):
                    for way in busy:
                        busy[way].append(seconds(command, ways[way], folder / "out"))
            medians = {way: statistics.median(times) for way, times in quiet.items()}
            for way, times in quiet.items():
                beside = f"   busy {statistics.median(busy[way]):6.2f} s" if way in busy else ""
                print(f"{task:<11} {way:<16} quiet {medians[way]:6.2f} s ({min(times):.2f}–{max(times):.2f}){beside}")
            best = min(median for way, median in medians.items() if way != "default")
            print(f"{task:<11} default ÷ best fixed, quiet: {verdict(medians['default'] / best, QUIET_BAR)}")
            slower = statistics.median(busy["default"]) / medians["default"]
            print(f"{task:<11} default, busy ÷ quiet:       {verdict(slower, BUSY_BAR)}", flush=True)


if __name__ == "__main__":
    main()
