"""How long a word n-gram takes from text to ARPA file, and how much memory: `asr lm ngram` in a process of its own.

    python benchmarks/ngram.py [--words 10000000] [--order 3] [--prune 0] [--vocabulary N] [--text FILE]

The text is synthetic, generated from a seed: 20 words a sentence on average, drawn from a Zipf distribution over
200,000 words; half of them from a hundred that the word before prefers. Writing it is not timed. How many n-grams there
are decides time and memory, so they are printed. With --text, that text is counted instead.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import describe

VOCABULARY, SENTENCE_WORDS, BLOCK_WORDS = 200_000, 20, 1_000_000
SUCCESSORS, DEPENDENT = 100, 0.5  # how many words a word prefers, and the share of words drawn from them
GOLDEN_RATIO = 0.5 * (5**0.5 - 1)

# What the `asr` script does. VmHWM is the process's own peak; getrusage would count what it was forked from.
RUN = """
import atexit, re, resource, time
from pathlib import Path

def report():
    used, status = resource.getrusage(resource.RUSAGE_SELF), Path("/proc/self/status").read_text()
    peak_gib = int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) / 2**20
    wall_s = time.perf_counter() - start
    print(f"time       {wall_s:.1f} s wall, {used.ru_utime + used.ru_stime:.1f} s of processor time")
    print(f"memory     {peak_gib:.2f} GiB at most")

start = time.perf_counter()
atexit.register(report)
from asr.cli.main import run
run()
"""


def write_text(path: Path, words: int, seed: int) -> None:
    """Write a sentence a line; the same for the same seed."""
    rng = np.random.default_rng(seed)
    cumulative = np.cumsum(1 / np.arange(1, VOCABULARY + 1))
    names = np.array([f"w{number}" for number in range(VOCABULARY)], dtype=object)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, words, BLOCK_WORDS):
            count = min(BLOCK_WORDS, words - start)
            drawn = np.searchsorted(cumulative, rng.random(count) * cumulative[-1])
            # A word's successors are Zipf-distributed too: its multiples of the golden ratio are spread evenly.
            successor = np.searchsorted(cumulative, rng.random(count - 1) * cumulative[SUCCESSORS - 1])
            even = (drawn[:-1] * SUCCESSORS + successor) * GOLDEN_RATIO % 1
            preferred = np.searchsorted(cumulative, even * cumulative[-1])
            drawn[1:] = np.where(rng.random(count - 1) < DEPENDENT, preferred, drawn[1:])
            ends = rng.random(count) < 1 / SENTENCE_WORDS
            separators = np.where(ends, "\n", " ").astype(object)
            file.write("".join((names[drawn] + separators).tolist()).rstrip() + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=10_000_000)
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--prune", default="0", help="as of `asr lm ngram`")
    parser.add_argument("--vocabulary", help="as of `asr lm ngram`")
    parser.add_argument("--text", type=Path, help="count this text instead")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(describe("numpy"))
    with tempfile.TemporaryDirectory() as folder:
        text, arpa = arguments.text, Path(folder) / "lm.arpa.gz"
        if text is None:
            text = Path(folder) / "text.txt"
            write_text(text, arguments.words, arguments.seed)
            print(f"text       {arguments.words:,} words, {text.stat().st_size / 1e6:.0f} MB, seed {arguments.seed}")
        options = ["--order", str(arguments.order), "--prune", arguments.prune, "--out", str(arpa)]
        options += [] if arguments.vocabulary is None else ["--vocabulary", arguments.vocabulary]
        command = [sys.executable, "-c", RUN, "lm", "ngram", str(text), *options]
        subprocess.run(command, check=True)
        print(f"file       {arpa.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
