"""Bulk transcription killed again and again with SIGKILL, against a run that nobody disturbed.

python benchmarks/bulk_kill.py MODEL FOLDER [--files 300] [--kills 10] [--jobs 2] [--seed 0]

In turn the kill hits the run's first process, all of its processes at once, or one of its workers; after the first two
the run is started again. Every transcript must be there once, and to the byte that of the undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from asr.audio.sound_file import audio_files
from asr.bulk.journal import RECORD


def start(model: Path, files: list[Path], out: Path, jobs: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "asr", "transcribe", model, *files, "--format", "json", "--out", out]
    return subprocess.Popen([*map(str, command), "--jobs", str(jobs)], start_new_session=True)


def finished(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("[!.]*")}


def workers_of(process: int) -> list[int]:
    """Return the children that transcribe; the other child is multiprocessing's own."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    chance = random.Random(given.seed)
    every = list(audio_files(given.folder, lambda error: sys.exit(str(error))))
    files = sorted(chance.sample(every, given.files))

    with tempfile.TemporaryDirectory() as folder:
        calm, killed = Path(folder, "calm"), Path(folder, "killed")
        begin = time.monotonic()
        assert start(given.model, files, calm, given.jobs).wait() == 0
        print(f"undisturbed: {len(finished(calm))} transcripts, {time.monotonic() - begin:.1f} s", flush=True)

        runs, begin = 1, time.monotonic()
        run = start(given.model, files, killed, given.jobs)
        for kill in range(given.kills):
            wanted = len(finished(killed)) + chance.randint(1, given.files // (given.kills + 1))
            while len(finished(killed)) < wanted and run.poll() is None:
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.1))
            assert run.poll() is None, "the run was done before it was killed; take more files"
            there = len(finished(killed))
            if kill % 3 == 2:
                os.kill(chance.choice(workers_of(run.pid)), signal.SIGKILL)
                print(f"kill {kill + 1}: a worker, {there} transcripts there", flush=True)
                continue
            os.killpg(run.pid, signal.SIGKILL) if kill % 3 else run.kill()
            run.wait()
            print(f"kill {kill + 1}: {'all processes' if kill % 3 else 'the first process'}, {there} transcripts there")
            run, runs = start(given.model, files, killed, given.jobs), runs + 1
        status = run.wait()
        seconds = time.monotonic() - begin

        lines = [json.loads(line)["output"] for line in (killed / RECORD).read_text().splitlines()]
        again = sum(times - 1 for times in Counter(lines).values())
        print(f"killed {given.kills} times: {len(finished(killed))} transcripts, {runs} runs, {seconds:.1f} s")
        print(f"recorded but not yet written when a kill came, so done again: {again}")
        found, expected = finished(killed), finished(calm)
        same = found == expected
        for name in sorted(found.keys() ^ expected.keys()):
            print(f"only in one of them: {name}")
        for name in sorted(name for name in found.keys() & expected.keys() if found[name] != expected[name]):
            print(f"differs: {name}\n{expected[name].decode()}{found[name].decode()}")
        print(f"exit status {status}")
        print("equal to the undisturbed run's, to the byte" if same and status == 0 else "NOT EQUAL")
        sys.exit(0 if same and status == 0 and len(lines) - again == given.files else 1)


if __name__ == "__main__":
    main()
