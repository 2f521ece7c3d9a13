"""Which transcripts are finished: a record beside them, by which a run that was killed goes on where it was.

A folder of outputs holds `.asr-transcribe.jsonl`, a line for each output: from which audio file it was made, by which
model and options. The line comes first, then the output, whole or not at all. So what is there and has its line is
finished, wherever the run was killed, and what is there without one is somebody else's, not to be replaced unasked.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr.data.files import write_text
from asr.errors import AsrError
from asr.inference.bulk import Options

RECORD = ".asr-transcribe.jsonl"


@dataclass(frozen=True)
class Task:
    """An audio file, the file its transcript goes to, and what that is made from, as its line in the record says it."""

    audio: Path
    output: Path
    made_from: Mapping[str, Any]


def tasks_of(outputs: Mapping[Path, Path], made_by: str) -> list[Task]:
    """Return what is to be done.

    Args:
        outputs: of each audio file, the file that its transcript goes to.
        made_by: the `fingerprint` of the model and the options.
    """
    tasks = []
    for audio, output in outputs.items():
        made_from: dict[str, Any] = {"audio": audio.name, "made_by": made_by}
        with suppress(OSError):  # a file that is missing will be named when it is read
            status = audio.stat()
            made_from |= {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
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
    records: dict[Path, dict[str, dict[str, Any]]] = {}
    left, strange = [], []
    for task in tasks:
        folder = task.output.parent
        if folder not in records:
            records[folder] = _read(folder / RECORD)
        line = records[folder].get(task.output.name)
        if line is None and os.path.lexists(task.output):
            strange.append(task.output)
        elif line is None or line["from"] != task.made_from or not all((folder / name).exists() for name in line["to"]):
            left.append(task)
    if strange:
        more = f" and {len(strange) - 1} more are" if len(strange) > 1 else " is"
        raise AsrError(
            f"{strange[0]}{more} there already and not the work of asr transcribe; "
            "--overwrite replaces them, or choose another folder"
        )
    return left


def finish(task: Task, outputs: Mapping[Path, str]) -> None:
    """Write the outputs of a task, by their paths beside `task.output`, and its line in the record."""
    for path in outputs:
        path.unlink(missing_ok=True)  # or, killed after the next step, an old output would pass for the new one
    line = {"output": task.output.name, "to": [path.name for path in outputs], "from": task.made_from}
    task.output.parent.mkdir(parents=True, exist_ok=True)
    _append(task.output.parent / RECORD, json.dumps(line))
    for path, content in outputs.items():
        write_text(path, content)


def fingerprint(model: Path, options: Options) -> str:
    """Return what changes if the model or the options do: hexadecimal digits of a SHA-256 of all their contents."""
    from asr.decode.confidence import CALIBRATION
    from asr.model import bundle

    names = (
        *(bundle.CONFIG, bundle.TOKENS, bundle.WEIGHTS, bundle.DECODER, CALIBRATION),
        *(bundle.LANGUAGE_MODEL, bundle.WORD_LANGUAGE_MODEL, bundle.RECURRENT_LANGUAGE_MODEL),
    )
    digest = hashlib.sha256(json.dumps(asdict(options), sort_keys=True, default=str).encode())
    for name in names:
        path = model / name
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(file.name.encode())
                with file.open("rb") as content:
                    while block := content.read(1 << 20):
                        digest.update(block)
    return digest.hexdigest()[:32]


def _append(path: Path, line: str) -> None:
    with path.open("ab+") as file:
        size = file.tell()
        file.seek(max(0, size - 1))
        cut_short = size > 0 and file.read(1) != b"\n"  # power failed while the last line was written
        file.write(f"{chr(10) * cut_short}{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Return the last line of each output; a line that a failure of power cut short counts for nothing."""
    lines: dict[str, dict[str, Any]] = {}
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                line = json.loads(text)
                lines[line["output"]] = {"to": [str(name) for name in line["to"]], "from": line["from"]}
    return lines
