"""The source of a recording → a file: paths as they are; standard input, pipes, bytes, open files as a temporary copy.

A copy is needed since decoders look twice at the start of most formats, and at the end of many.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from asr.errors import AudioError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

STDIN = "-"
_BLOCK_BYTES = 1 << 20

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"
"""Where a recording is: a path, `-` for standard input, the bytes of a file, or a file open for reading bytes."""

# The names that shells and systems give to what a process has open: `<(command)` becomes /dev/fd/63.
_OPEN_FILE = re.compile(r"/dev/(?:std(in)|fd/(\d+))|/proc/self/fd/(\d+)")


def is_source(audio: object) -> TypeIs[Source]:
    """Return whether something is a recording to be opened, in contrast to its samples."""
    return isinstance(audio, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(audio, "read")


def source_name(source: Source) -> str | None:
    """Return the path of a recording as it was given; None for bytes and open files."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


def is_read_once(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is standard input or a pipe that this process has open: its bytes come only once."""
    return os.fspath(path) == STDIN or open_pipe(path) is not None


def open_pipe(path: str | os.PathLike[str]) -> int | None:
    """Return the descriptor of the open pipe that a path such as /dev/fd/63 names; None if it names something else.

    Pipes with a name of their own are no such: whoever opens one waits until another program does.
    """
    match = _OPEN_FILE.fullmatch(os.fspath(path))
    if match is None:
        return None
    descriptor = 0 if match[1] else int(match[2] or match[3])
    try:
        mode = os.fstat(descriptor).st_mode
    except (OSError, OverflowError):
        return None
    return descriptor if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else None


@contextmanager
def as_file(source: Source) -> Iterator[tuple[Path, str]]:
    """Yield the file to read and its name in messages.

    Raises:
        AudioError: standard input is closed, an open file gives text, or the temporary folder is full.
    """
    if isinstance(source, (str, os.PathLike)) and not is_read_once(source):
        yield Path(source), os.fspath(source)
        return
    name = _name(source)
    try:
        folder = tempfile.TemporaryDirectory()
    except OSError as error:
        raise AudioError(f"{name}: no temporary folder to copy it to ({error}); set TMPDIR to one") from None
    with folder:
        copy = Path(folder.name) / "audio"
        _copy(source, copy, name)
        yield copy, name


def _name(source: Source) -> str:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the bytes given"
    if isinstance(source, (str, os.PathLike)):
        return "standard input" if os.fspath(source) == STDIN else os.fspath(source)
    return "the file object"


def _copy(source: Source, copy: Path, name: str) -> None:
    """Write what a source gives to a file.

    Raises:
        AudioError: see `as_file`.
    """
    blocks = _blocks(source, name)
    try:
        with copy.open("wb") as file:
            for block in blocks:
                file.write(block)
    except TypeError:
        raise AudioError(f"{name}: gives text, not bytes; open it with mode 'rb'") from None
    except OSError as error:
        raise AudioError(
            f"{name}: does not fit into the temporary folder {copy.parent.parent} ({error.strerror or error}); "
            "set TMPDIR to a folder with room for it"
        ) from None


def _blocks(source: Source, name: str) -> Iterator[bytes | bytearray | memoryview]:
    """Yield all bytes of a source that is no file with a name."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        yield source
        return
    given: BinaryIO
    if not isinstance(source, (str, os.PathLike)):
        given = source
    elif (descriptor := open_pipe(source)) is not None:
        given = os.fdopen(descriptor, "rb", closefd=False)
    elif sys.stdin is None or sys.stdin.closed:
        raise AudioError(f"{name} is closed")
    else:
        given = sys.stdin.buffer
    try:
        while block := given.read(_BLOCK_BYTES):
            yield block
    except OSError as error:
        raise AudioError(f"{name}: cannot be read ({error.strerror or error})") from None
