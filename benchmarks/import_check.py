"""What `asr import` and `asr check` cost for a hundred thousand utterances: time and peak memory.

    python benchmarks/import_check.py [--utterances 100000] [--format csv] [--folder DIR] [--profile]

Writes as many wav files of one second and 8 kHz (1.6 GB for 100,000), each with other samples, a text of three words
and one of 400 speakers, and lays them out as a table, JSON lines, a Kaldi folder or a folder of texts. Both commands
run as users run them, each in a process of its own. With --folder the files are kept and found again. With --profile
the import runs in this process, and the functions that take most of its time are listed.
"""

from __future__ import annotations

import argparse
import cProfile
import csv
import json
import os
import pstats
import random
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

RATE_HZ = 8000
SPEAKERS = 400
FILES_A_FOLDER = 1000


class Row(NamedTuple):
    id: str
    path: str
    text: str
    speaker: str


def write_audio(folder: Path, utterances: int) -> None:
    """Write one second of noise for each utterance: no two have a part in common, or they would be copies."""
    for number in range(utterances):
        path = folder / _path(number)
        if number % FILES_A_FOLDER == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with wave.open(str(path), "wb") as file:
                file.setparams((1, 2, RATE_HZ, RATE_HZ, "NONE", ""))
                noise = np.random.default_rng(number).normal(0, 3000, RATE_HZ)
                file.writeframes(noise.astype("<i2").tobytes())


def _path(number: int) -> str:
    return f"audio/{number // FILES_A_FOLDER:04}/u{number:07}.wav"


def rows(utterances: int) -> Iterator[Row]:
    rng = random.Random(1)
    words = ["".join(rng.choice("etaoinshrdlu") for _ in range(rng.randint(1, 5))) for _ in range(5000)]
    for number in range(utterances):
        text = " ".join(rng.choices(words, k=3))
        yield Row(f"u{number:07}", _path(number), text, f"s{number % SPEAKERS:03}")


def write_csv(folder: Path, utterances: int) -> Path:
    with (folder / "all.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(Row._fields)
        table.writerows(rows(utterances))
    return folder / "all.csv"


def write_jsonl(folder: Path, utterances: int) -> Path:
    with (folder / "all.jsonl").open("w") as file:
        for row in rows(utterances):
            record = {"audio_filepath": row.path, "duration": 1.0, "text": row.text, "speaker": row.speaker}
            file.write(json.dumps(record) + "\n")
    return folder / "all.jsonl"


def write_kaldi(folder: Path, utterances: int) -> Path:
    place = folder / "kaldi"
    place.mkdir(exist_ok=True)
    with (
        (place / "wav.scp").open("w") as audio,
        (place / "text").open("w") as texts,
        (place / "utt2spk").open("w") as who,
    ):
        for row in rows(utterances):
            audio.write(f"{row.id} cat {folder.absolute() / row.path} |\n")
            texts.write(f"{row.id} {row.text}\n")
            who.write(f"{row.id} {row.speaker}\n")
    return place


def write_folder(folder: Path, utterances: int) -> Path:
    for row in rows(utterances):
        (folder / row.path).with_suffix(".txt").write_text(row.text)
    return folder / "audio"


LAYOUTS: dict[str, Callable[[Path, int], Path]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "kaldi": write_kaldi,
    "folder": write_folder,
}


def run(*arguments: object) -> tuple[float, float, float]:
    """Run `asr` in a process of its own; return wall seconds, CPU seconds and peak memory in 10^6 bytes."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "asr", *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):  # 1: asr check found something
        raise SystemExit(f"asr {arguments[0]} ended with status {process.returncode}")
    return wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def profile(kind: str, source: Path, out: Path) -> None:
    import asr

    importer = {
        "csv": asr.import_csv,
        "jsonl": asr.import_jsonl,
        "kaldi": asr.import_kaldi,
        "folder": asr.import_folder,
    }
    profiler = cProfile.Profile()
    profiler.runcall(importer[kind], source, out)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--utterances", type=int, default=100_000)
    parser.add_argument("--format", choices=LAYOUTS, default="csv")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        write_audio(folder, arguments.utterances)
        source = LAYOUTS[arguments.format](folder, arguments.utterances)
        out = folder / "data"
        shutil.rmtree(out, ignore_errors=True)
        if arguments.profile:
            profile(arguments.format, source, out)
            return
        for command in (("import", arguments.format, source, "--out", out), ("check", out)):
            wall_s, cpu_s, peak_mb = run(*command)
            print(f"asr {command[0]:8}{wall_s:8.1f} s   CPU {cpu_s:8.1f} s   at most {peak_mb:6.0f} MB")


if __name__ == "__main__":
    main()
