"""Which transcripts are finished: a record beside them, with which an interrupted run resumes.

A folder of outputs holds `.asr-transcribe.jsonl`, with a line for each output: from which recording it was made, by
which model and with which options. The line is written first, then the output, whole or not at all. So an output with a
line is finished, wherever the run was killed. An output without a line was made by somebody else, and one with another
recording's line belongs to that recording: neither is replaced unasked.

Two runs at once would not see each other's lines. So a run locks its folders with a lock of the operating system on
`.asr-transcribe.lock`. The system releases it when the process ends, so a killed run locks nobody out.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from asr.audio.sources import STDIN, is_read_once
from asr.bundle.files import READ_BY_TRANSCRIBING
from asr.errors import AsrError, AudioError
from asr.files import append_line, ignores_capitals, to_json, without_capitals, write_text
from asr.paths import ReadablePath
from asr.reading import parse_json

RECORD, LOCK = ".asr-transcribe.jsonl", ".asr-transcribe.lock"

_CHANNEL = re.compile(r"\.ch\d+(?=\.\w+$)")


@dataclass(frozen=True)
class Task:
    """An audio file and the file that its transcript goes to.

    Attributes:
        audio: the audio file.
        output: the file to write.
        made_from: the audio's name, size and time, and the model and options, as the record keeps them.
        separate: each channel gets a file of its own: not `a.txt` but `a.ch0.txt`, `a.ch1.txt` and so on.
    """

    audio: Path
    output: Path
    made_from: Mapping[str, Any]
    separate: bool = False

    @property
    def recording(self) -> str:
        """The path of the audio file, relative to the output's folder, so that both can be moved together."""
        if is_read_once(self.audio):
            return STDIN
        audio, folder = os.path.realpath(self.audio), os.path.realpath(self.output.parent)
        try:
            return os.path.relpath(audio, folder)
        except ValueError:  # they are on two drives of Windows
            return audio


@contextmanager
def hold(folders: Iterable[Path], outputs: Iterable[Path] = ()) -> Iterator[None]:
    """Keep other runs out of folders until the `with` statement ends; missing folders are made.

    Args:
        folders: the folders to hold.
        outputs: files to be written below them. A run that holds a folder between is found too, as is one that holds a
            folder above.

    Raises:
        AsrError: another run holds one of them.
    """
    with ExitStack() as held:
        mine = {folder.resolve(): folder for folder in folders}
        for folder in mine.values():
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(_locked(folder))
        below = {folder.resolve() for folder in {output.parent for output in outputs}}
        around = {folder for path in {*mine, *below} for folder in (path, *path.parents)}
        for folder in around - mine.keys():
            if os.path.exists(folder / LOCK) and _is_locked(folder):
                raise _at_work_in(folder)
        yield


def tasks_of(outputs: Mapping[Path, Path], made_by: str, *, separate: bool = False) -> list[Task]:
    """Return a task for each audio file.

    Args:
        outputs: the output of each audio file.
        made_by: the `fingerprint` of the model and the options.
        separate: whether each channel gets a file of its own.
    """
    tasks = []
    for audio, output in outputs.items():
        try:
            status = audio.stat()
            size, modified_ns = status.st_size, status.st_mtime_ns
        except OSError:  # standard input, which is another each time; or the file is missing, as reading it will show
            size, modified_ns = 0, time.time_ns()
        made_from = {"audio": audio.name, "bytes": size, "modified_ns": modified_ns, "made_by": made_by}
        tasks.append(Task(audio, output, made_from, separate))
    return tasks


def unfinished(tasks: Iterable[Task], *, overwrite: bool = False) -> list[Task]:
    """Return the tasks whose outputs are missing, or were made from other audio, by another model or other options.

    Args:
        tasks: all that the run is asked for.
        overwrite: return all of them, whatever exists.

    Raises:
        AsrError: an output exists that the record does not know, or that belongs to another recording. Or the outputs
            of two tasks are one file, because the file system ignores capitals.
    """
    tasks = list(tasks)
    _refuse_one_file(tasks)
    if overwrite:
        return tasks
    folders: dict[Path, _Folder] = {}
    left, strange, taken = [], [], []
    for task in tasks:
        parent = task.output.parent
        if parent not in folders:
            folders[parent] = _look_into(parent)
        folder = folders[parent]
        if (name := folder.strange.get(folder.spelling(task.output.name))) is not None:
            strange.append(parent / name)
        elif (owned := folder.of_another_recording(task)) is not None:
            taken.append(owned)
        elif not folder.has_finished(task):
            left.append(task)
    if strange:
        more = f" and {len(strange) - 1} more exist" if len(strange) > 1 else " exists"
        raise AsrError(
            f"{strange[0]}{more} already and was not written by asr transcribe; "
            "choose another folder, or replace with --overwrite"
        )
    if taken:
        output, recording = taken[0]
        more = f", and {len(taken) - 1} more belong to others" if len(taken) > 1 else ""
        raise AsrError(
            f"{output} is the transcript of another recording, {recording}{more}; "
            "choose another folder, or replace with --overwrite"
        )
    return left


def _refuse_one_file(tasks: Iterable[Task]) -> None:
    """Refuse outputs that differ in capitals alone, where the file system of the held folder around them ignores these.

    Raises:
        AsrError: there are two.
    """
    first: dict[str, Task] = {}
    for task in tasks:
        other = first.setdefault(without_capitals(os.path.abspath(task.output)), task)
        if other.output != task.output and _spelling(task.output.parent) is without_capitals:
            raise AsrError(
                f"{other.audio} and {task.audio} would both be written to {task.output}, because capitals do not "
                "matter there; rename one, or transcribe them into different folders"
            )


def finish(task: Task, outputs: Mapping[Path, str]) -> None:
    """Write the outputs of a task, by their paths beside `task.output`, and its line in the record.

    Raises:
        AudioError: the name is longer than the system allows.
        AsrError: the disk is full, or nothing may be written there.
    """
    line = {
        "output": task.output.name,
        "to": [path.name for path in outputs],
        "recording": task.recording,
        "from": task.made_from,
    }
    try:
        for path in outputs:
            path.unlink(missing_ok=True)  # or, killed after the next step, an old output would pass for the new one
        task.output.parent.mkdir(parents=True, exist_ok=True)
        append_line(task.output.parent / RECORD, to_json(line))
        for path, content in outputs.items():
            write_text(path, content)
    except OSError as error:  # of a full disk it says no file's name
        if error.errno == errno.ENAMETOOLONG:
            raise AudioError(f"{task.audio}: {task.output.name} is longer than the name of a file may be") from None
        raise AsrError(
            f"{task.output}: cannot be written ({error.strerror or error}); "
            "finished transcripts are kept, and the same command resumes"
        ) from error


def fingerprint(models: Sequence[ReadablePath], made_with: Mapping[str, Any], also: Sequence[ReadablePath] = ()) -> str:
    """Return hexadecimal digits that change if the model does, or what it is used with: a SHA-256 over both.

    Args:
        models: the model folder, or several that work as one.
        made_with: options and the version of this package; what JSON does not know counts as its `str`.
        also: further files that a transcript depends on.
    """
    digest = hashlib.sha256(json.dumps(made_with, sort_keys=True, default=str).encode())
    for file in (*(model / name for model in models for name in READ_BY_TRANSCRIBING), *also):
        if file.is_file():
            digest.update(file.name.encode())
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()[:32]


def _locked(folder: Path) -> AbstractContextManager[object]:
    try:
        return FileLock(folder / LOCK).acquire(blocking=False)
    except Timeout:
        raise _at_work_in(folder) from None


def _is_locked(folder: Path) -> bool:
    """Return whether a living run holds a folder; its lock file may belong to another user."""
    try:
        with FileLock(folder / LOCK).acquire(blocking=False):
            return False
    except Timeout:
        return True
    except OSError:
        return _is_locked_for_reading(folder / LOCK)


def _is_locked_for_reading(lock: Path) -> bool:
    """Return whether a lock file is locked that may only be read; one that may not be read counts as not locked."""
    try:
        import fcntl

        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False


def _at_work_in(folder: Path) -> AsrError:
    return AsrError(f"{folder}: another asr transcribe is at work there; wait for its end, or choose another folder")


@dataclass(frozen=True)
class _Folder:
    """What a folder of outputs holds.

    Attributes:
        path: the folder.
        spelling: returns what a name is found by in the folder; names are kept here so, but for those that are shown.
        lines: of the record, the last one of each output.
        owners: the line of the run that last wrote a file, by the file's name.
        files: the names of all files.
        strange: files that are not in the record, by the output that would replace them.
        channels: files of single channels, by the output without the channel's number.
    """

    path: Path
    spelling: Callable[[str], str]
    lines: dict[str, dict[str, Any]]
    owners: dict[str, dict[str, Any]]
    files: frozenset[str]
    strange: dict[str, str]
    channels: dict[str, list[str]]

    def has_finished(self, task: Task) -> bool:
        line = self.lines.get(self.spelling(task.output.name))
        if line is None or line["from"] != task.made_from:
            return False
        return self.files.issuperset(map(self.spelling, line["to"]))

    def of_another_recording(self, task: Task) -> tuple[Path, Path] | None:
        """Return a file that the task would replace although it belongs to another recording, and that recording."""
        output = self.spelling(task.output.name)
        for name in self.channels.get(output, []) if task.separate else [output]:
            line = self.owners[name] if name in self.files else {}
            recording = line.get("recording", task.recording)
            if recording != task.recording and not self._is_the_same(recording, line["from"], task):
                return self.path / name, Path(os.path.normpath(self.path / recording))
        return None

    def _is_the_same(self, recording: str, made_from: Mapping[str, Any], task: Task) -> bool:
        """Return whether a recording is the task's, by another name or moved."""
        path = self.path / recording
        if os.path.exists(path):
            return os.path.exists(task.audio) and os.path.samefile(path, task.audio)
        return all(made_from.get(key) == task.made_from.get(key) for key in ("bytes", "modified_ns"))


def _look_into(folder: Path) -> _Folder:
    spelling = _spelling(folder)
    lines = list(_read(folder / RECORD))
    files = {spelling(name): name for name in os.listdir(folder)} if folder.exists() else {}
    owners = {spelling(name): line for line in lines for name in line["to"]}
    # An output called a.srt may become a.ch0.srt and so on, one file a channel.
    unknown = sorted(files.keys() - owners.keys())
    strange = {replaced: files[name] for name in unknown for replaced in (name, _CHANNEL.sub("", name))}
    channels = defaultdict(list)
    for name in sorted(files.keys() & owners.keys()):
        if (output := _CHANNEL.sub("", name)) != name:
            channels[output].append(name)
    of_outputs = {spelling(line["output"]): line for line in lines}
    return _Folder(folder, spelling, of_outputs, owners, frozenset(files), strange, channels)


def _spelling(folder: Path) -> Callable[[str], str]:
    """Return what makes equal the names that are one in a folder: `without_capitals` where capitals do not matter.

    The lock file of the held folder shows it, which is this one or is around it.
    """
    locks = (place / LOCK for place in (folder.absolute(), *folder.absolute().parents))
    lock = next(filter(os.path.exists, locks), None)
    return without_capitals if lock is not None and ignores_capitals(lock) else str


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines; one that a failure of power cut short counts for nothing."""
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(AsrError, KeyError, TypeError):
                line = parse_json(text, AsrError, RECORD)
                known = {"recording": str(line["recording"])} if "recording" in line else {}
                to = [str(name) for name in line["to"]]
                yield {"output": str(line["output"]), "to": to, "from": {**line["from"]}, **known}
