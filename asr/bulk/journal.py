"""Which transcripts are finished: a record beside them, by which a run that was killed goes on where it was.

A folder of outputs holds `.asr-transcribe.jsonl`, a line for each output: from which audio file it was made, by which
model and options. The line comes first, then the output, whole or not at all. So what is there and has its line is
finished, wherever the run was killed, and what is there without one is somebody else's, not to be replaced unasked.
Two runs at once would not see each other's lines, so a run holds its folders by a lock of the operating system, on
`.asr-transcribe.lock`, which ends with the process: what a killed run leaves behind locks nobody out.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from asr.bulk.workers import Options
from asr.bundle.files import READ_BY_TRANSCRIBING
from asr.errors import AsrError, AudioError
from asr.files import append_line, write_text

RECORD, LOCK = ".asr-transcribe.jsonl", ".asr-transcribe.lock"

_CHANNEL = re.compile(r"\.ch\d+(?=\.\w+$)")


@dataclass(frozen=True)
class Task:
    """An audio file, the file its transcript goes to, and what that is made from, as its line in the record says it."""

    audio: Path
    output: Path
    made_from: Mapping[str, Any]


@contextmanager
def hold(folders: Iterable[Path], outputs: Iterable[Path] = ()) -> Iterator[None]:
    """Keep other runs out of folders, which are made if they are not there, until the `with` statement ends.

    Args:
        folders: those to hold.
        outputs: files to be written below them: a run that holds a folder on the way there is found too, as is one that
            holds a folder above.

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
            if (folder / LOCK).exists():
                with _locked(folder):
                    pass
        yield


def _locked(folder: Path) -> AbstractContextManager[object]:
    try:
        return FileLock(folder / LOCK).acquire(blocking=False)
    except Timeout:
        raise AsrError(
            f"{folder}: another asr transcribe is at work there; wait for its end, or choose another folder"
        ) from None


def tasks_of(outputs: Mapping[Path, Path], made_by: str) -> list[Task]:
    """Return what is to be done.

    Args:
        outputs: of each audio file, the file that its transcript goes to.
        made_by: the `fingerprint` of the model and the options.
    """
    tasks = []
    for audio, output in outputs.items():
        try:
            status = audio.stat()
            size, modified_ns = status.st_size, status.st_mtime_ns
        except OSError:  # standard input, which is another each time, or missing, as reading it will tell
            size, modified_ns = 0, time.time_ns()
        made_from = {"audio": audio.name, "bytes": size, "modified_ns": modified_ns, "made_by": made_by}
        tasks.append(Task(audio, output, made_from))
    return tasks


def unfinished(tasks: Iterable[Task], *, overwrite: bool = False) -> list[Task]:
    """Return the tasks whose outputs are missing or were made from other audio, by another model, with other options.

    Args:
        tasks: what is to be done.
        overwrite: return all of them, whatever is there.

    Raises:
        AsrError: an output is there that the record does not know.
    """
    if overwrite:
        return list(tasks)
    folders: dict[Path, _Folder] = {}
    left, strange = [], []
    for task in tasks:
        parent, name = task.output.parent, task.output.name
        if parent not in folders:
            folders[parent] = _look_into(parent)
        line = folders[parent].lines.get(name)
        if name in folders[parent].strange:
            strange.append(parent / folders[parent].strange[name])
        elif line is None or line["from"] != task.made_from or not folders[parent].files.issuperset(line["to"]):
            left.append(task)
    if strange:
        more = f" and {len(strange) - 1} more are" if len(strange) > 1 else " is"
        raise AsrError(
            f"{strange[0]}{more} there already and not the work of asr transcribe; "
            "--overwrite replaces them, or choose another folder"
        )
    return left


def finish(task: Task, outputs: Mapping[Path, str]) -> None:
    """Write the outputs of a task, by their paths beside `task.output`, and its line in the record.

    Raises:
        AudioError: the name is longer than the system allows.
        AsrError: there is no room, or no leave to write there.
    """
    line = {"output": task.output.name, "to": [path.name for path in outputs], "from": task.made_from}
    try:
        for path in outputs:
            path.unlink(missing_ok=True)  # or, killed after the next step, an old output would pass for the new one
        task.output.parent.mkdir(parents=True, exist_ok=True)
        append_line(task.output.parent / RECORD, json.dumps(line))
        for path, content in outputs.items():
            write_text(path, content)
    except OSError as error:  # of a full disk it says no file's name
        if error.errno == errno.ENAMETOOLONG:
            raise AudioError(f"{task.audio}: {task.output.name} is longer than the name of a file may be") from None
        raise AsrError(
            f"{task.output}: cannot be written ({error.strerror or error}); "
            "what is done is kept, and the same command goes on from there"
        ) from error


def fingerprint(model: Path, options: Options, version: str) -> str:
    """Return what changes if the model, the options or this package do: hexadecimal digits of a SHA-256 over them.

    Args:
        model: the model folder.
        options: how to transcribe.
        version: of this package.
    """
    made_with = {"asr": version, **asdict(options)}
    digest = hashlib.sha256(json.dumps(made_with, sort_keys=True, default=str).encode())
    for name in READ_BY_TRANSCRIBING:
        file = model / name
        if file.is_file():
            digest.update(file.name.encode())
            with file.open("rb") as content:
                while block := content.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()[:32]


@dataclass(frozen=True)
class _Folder:
    """The record, all files that are there, and by the output that would replace it each one not in the record."""

    lines: dict[str, dict[str, Any]]
    files: frozenset[str]
    strange: dict[str, str]


def _look_into(folder: Path) -> _Folder:
    lines = list(_read(folder / RECORD))
    files = frozenset(os.listdir(folder)) if folder.exists() else frozenset()
    known = {name for line in lines for name in line["to"]}
    # An output called a.srt may become a.ch0.srt and so on, one file a channel.
    strange = {replaced: name for name in sorted(files - known) for replaced in (name, _CHANNEL.sub("", name))}
    return _Folder({line["output"]: line for line in lines}, files, strange)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines; one that a failure of power cut short counts for nothing."""
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                line = json.loads(text)
                yield {"output": str(line["output"]), "to": [str(name) for name in line["to"]], "from": line["from"]}
