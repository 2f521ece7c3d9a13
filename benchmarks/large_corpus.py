"""Many utterances from a table to a report: time and memory of `asr import` and `asr check`.

    python benchmarks/large_corpus.py [--utterances 100000] [--folder DIR]

The utterances last 2 to 4 s at 16 kHz and are all different; they take 10 GB. With --folder they are kept and found
again. CPU time is given beside wall time, since only the former means something on a busy machine. Memory is that of
the process and its workers together, shared pages counted once (proportional set size).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16000
WORDS = [f"{first}{last}" for first in ("ba", "ko", "lu", "mi", "ne", "ta") for last in ("do", "ri", "sen", "pal")]


def generate(folder: Path, utterances: int) -> None:
    """Write the corpus: syllables of random pitch and colour in noise."""
    rng = np.random.default_rng(0)
    time_s = np.arange(round(0.15 * RATE_HZ)) / RATE_HZ
    voices = []
    for _ in range(400):
        partials = rng.uniform(90, 250) * np.arange(1, 16)
        voices.append(
            np.hanning(len(time_s)) * (np.sin(2 * np.pi * np.outer(time_s, partials)) @ rng.uniform(0, 0.1, 15))
        )
    lines = ["path,text,speaker"]
    for number in range(utterances):
        place = folder / f"{number // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        count = int(rng.integers(12, 25))
        speech = np.concatenate(
            [np.zeros(1600), *(voices[voice] for voice in rng.integers(0, 400, count)), np.zeros(1600)]
        )
        noise = 0.002 * rng.standard_normal(len(speech), dtype=np.float32)
        soundfile.write(place / f"{number:06d}.wav", np.clip(speech + noise, -1, 1), RATE_HZ)
        lines.append(f"{place.name}/{number:06d}.wav,{' '.join(rng.choice(WORDS, count // 2))},s{number // 200:04d}")
    (folder / "corpus.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tree_mib(process: int) -> float:
    """Return the memory of a process and all that it started, in MiB."""
    total = 0.0
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) / 1024
        for task in Path(f"/proc/{process}/task").iterdir():
            total += sum(tree_mib(int(child)) for child in (task / "children").read_text(encoding="ascii").split())
    return total


def measure(*arguments: str | Path) -> None:
    """Run a command of this package; print its time and its memory."""
    start, before = time.perf_counter(), os.times()
    process = subprocess.Popen([sys.executable, "-m", "asr", *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    peak_mib, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak_mib
        while not done.wait(0.5):
            peak_mib = max(peak_mib, tree_mib(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    printed, _ = process.communicate()
    done.set()
    watcher.join()
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    wall_s = time.perf_counter() - start
    print(
        f"asr {arguments[0]:<8}{wall_s:8.1f} s wall{cpu_s:8.1f} s CPU{peak_mib:8.0f} MiB  status {process.returncode}"
    )
    print("\n".join(printed.splitlines()[-12:]))


def main() -> None:
    """Generate, import, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "corpus.csv").exists():
            generate(folder, arguments.utterances)
        measure("import", "csv", folder / "corpus.csv", "--out", folder / "data")
        measure("check", folder / "data")


if __name__ == "__main__":
    main()
