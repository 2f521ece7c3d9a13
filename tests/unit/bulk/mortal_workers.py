"""Workers for tests, which can be killed by their files; as a script, a bulk run of its own that can be killed.

python mortal_workers.py FOLDER OUT JOBS
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from asr.bulk import journal
from asr.bulk.workers import Result, Transcribe, in_processes
from asr.errors import AudioError, ModelError
from asr.transcript.transcript import Transcript


def load() -> Transcribe:
    """Return what says the contents of a file, and dies of some names."""
    return _say


def load_nothing() -> Transcribe:
    raise ModelError("not a model folder")


def load_and_die() -> Transcribe:
    os._exit(7)


def _say(path: Path) -> Result:
    kind = path.stem.partition(" ")[0]
    if kind == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "unlucky" and not path.with_suffix(".seen").exists():
        path.with_suffix(".seen").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "where":
        return (Transcript(str(path.absolute()), (), 1.0, 1.0),)
    if kind == "senseless":
        raise ModelError("no file will do")
    if kind == "bad":
        return AudioError(f"{path}: truncated")
    if kind == "endless":
        path.with_suffix(".seen").touch()
        time.sleep(1000)
    time.sleep(0.2 if kind == "slow" else 0.005)
    return (Transcript(path.read_text(encoding="utf-8"), (), 1.0, 1.0, str(path)),)


def main(folder: Path, out: Path, jobs: int) -> None:
    outputs = {path: out / f"{path.stem}.txt" for path in sorted(folder.glob("*.wav"))}
    with journal.hold([out]):
        tasks = {task.audio: task for task in journal.unfinished(journal.tasks_of(outputs, "fake"))}
        for path, result in in_processes(load, list(tasks), jobs):
            assert not isinstance(result, AudioError), result
            journal.finish(tasks[path], {tasks[path].output: result[0].to_txt()})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
