"""Damaged audio files given to the recogniser: each must end in a transcript or in an error that names it, in time.

python benchmarks/damaged_files.py MODEL FOLDER [--files 2000] [--seed 0] [--limit-s 5] [--keep DIR]

The damages, of wav, flac, ogg, opus, mp3, sphere and aiff files made from recordings in FOLDER, are those of
`tests/damaged_audio.py`. A process transcribes the files one after the other, by segments found by voice activity. One
that takes longer than the limit, counted in the process' own time, is killed; files that were so punished, or of which
the process died, are kept in DIR.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import soundfile

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from damaged_audio import damaged_files

from asr.audio.sound_file import audio_files
from asr.bulk.transcriber import Options, load_transcriber
from asr.bulk.workers import Load
from asr.errors import AudioError
from asr.inference.decoder import Search

RECORDINGS = 25
HANGS_S = 120.0  # of the clock: longer than the limit, since the machine may be busy with other things
MEMORY_BYTES = 8 << 30


def work(connection: Connection, load: Load) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    transcribe = load()
    while (path := connection.recv()) is not None:
        begin = time.process_time()
        result = transcribe(path)
        failure = str(result) if isinstance(result, AudioError) else None
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        connection.send((failure, time.process_time() - begin, peak_mb))


def outcome(path: Path, failure: str | None) -> str:
    if failure is None:
        return "transcript"
    if not failure.startswith(f"{path}: ") or "cannot be transcribed (" in failure:
        return "UNCLEAR"
    return "clear error"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-s", type=float, default=5.0)
    parser.add_argument("--keep", type=Path, default=Path("damaged"))
    given = parser.parse_args()
    every = list(audio_files(given.folder, lambda error: sys.exit(str(error))))
    chosen = random.Random(given.seed).sample(sorted(every), RECORDINGS)
    recordings = [soundfile.read(path, dtype="float32") for path in chosen]
    load = partial(load_transcriber, [given.model], "cpu", Options(Search()), threads=1)

    context = multiprocessing.get_context("spawn")
    process = None
    table: defaultdict[str, Counter[str]] = defaultdict(Counter)
    longest_s = first_peak_mb = peak_mb = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for path, damage in damaged_files(recordings, Path(folder), given.files, given.seed):
            if process is None:
                connection, theirs = context.Pipe()
                process = context.Process(target=work, args=(theirs, load), daemon=True)
                process.start()
                theirs.close()
            connection.send(path)
            found = "HANG"
            if connection.poll(HANGS_S):
                try:
                    failure, seconds, peak_mb = connection.recv()
                    found = outcome(path, failure) if seconds <= given.limit_s else "HANG"
                    longest_s, first_peak_mb = max(longest_s, seconds), first_peak_mb or peak_mb
                    if found not in ("transcript", "clear error"):
                        print(f"{path.name}, {damage}: {found}, {seconds:.1f} s, {failure}", flush=True)
                except EOFError:
                    found = "CRASH"
            table[damage][found] += 1
            if found in ("HANG", "CRASH"):
                print(f"{path.name}, {damage}: {found}", flush=True)
                process.kill()
                process = None
            if found not in ("transcript", "clear error"):
                given.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, given.keep)
            path.unlink()

    if process is not None:
        connection.send(None)
        process.join()
    columns = ["transcript", "clear error", "UNCLEAR", "HANG", "CRASH"]
    print(f"{'damage':28}" + "".join(f"{column:>13}" for column in columns))
    for damage, counts in sorted(table.items()):
        print(f"{damage:28}" + "".join(f"{counts[column]:13}" for column in columns))
    total = sum(table.values(), Counter())
    print(f"{'all':28}" + "".join(f"{total[column]:13}" for column in columns))
    print(
        f"longest {longest_s:.2f} s of processor time; memory {first_peak_mb:.0f} MB at first, {peak_mb:.0f} MB at most"
    )
    sys.exit(0 if total["transcript"] + total["clear error"] == given.files else 1)


if __name__ == "__main__":
    main()
