"""A recogniser that only says the names of files, and cannot read those called bad, for tests of `asr transcribe`."""

import os
from pathlib import Path

from asr.errors import AudioError
from asr.transcript.transcript import Transcript
from asr.transcript.words import Word


class NameSayer:
    """Stands for a loaded model: the transcript of `one two.wav` is "one two"."""

    def __init__(self) -> None:
        self.asked = []

    def transcribe(self, path, **wishes):
        self.asked.append((path, wishes))
        if path.stem.startswith("bad"):
            raise AudioError(f"{path}: truncated")
        wishes["on_progress"] and wishes["on_progress"](0.5)
        words = tuple(Word(text, float(i), i + 0.5, 1.0) for i, text in enumerate(path.stem.split()))
        return Transcript(path.stem, words, 9.0, 1.0, os.fspath(path), wishes["channel"])


def install(monkeypatch):
    """Put the fake in place of `asr.load`; return the list of how it was called, and of the fakes."""
    calls = []

    def load(folder, **wishes):
        calls.append((folder, wishes, NameSayer()))
        return calls[-1][-1]

    monkeypatch.setattr("asr.bulk.transcriber.load", load)
    return calls


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def files_in(folder: str) -> dict[str, str]:
    found = (path for path in Path(folder).rglob("[!.]*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in found}
