"""What is read as a file or a folder: a `Path`, or what is inside a packed model; and what is below a folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, runtime_checkable


@runtime_checkable
class ReadablePath(Protocol):
    """A file or folder that is read: a `Path`, or one inside a packed model (`asr/sharing/packed.py`)."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def suffix(self) -> str: ...  # noqa: D102
    def __truediv__(self, name: str, /) -> ReadablePath: ...
    def __fspath__(self) -> str: ...
    def __hash__(self) -> int: ...
    def absolute(self) -> ReadablePath: ...  # noqa: D102
    def exists(self) -> bool: ...  # noqa: D102
    def is_file(self) -> bool: ...  # noqa: D102
    def is_dir(self) -> bool: ...  # noqa: D102
    def glob(self, pattern: str, /) -> Iterator[ReadablePath]: ...  # noqa: D102
    def open(self, mode: Literal["rb"], /) -> BinaryIO: ...  # noqa: D102
    def read_bytes(self) -> bytes: ...  # noqa: D102


def readable(path: str | os.PathLike[str]) -> ReadablePath:
    """Return a path as one that can be read; what is inside a packed model stays what it is."""
    return path if isinstance(path, ReadablePath) else Path(path)


def walk(source: Path, on_error: Callable[[OSError], None]) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and all folders below it, each with the names of its files, in the order of names.

    Hidden files and folders are left out. Links to folders are not followed, since they may lead round in circles.

    Args:
        source: the folder.
        on_error: is called with the error of each folder that cannot be read, and of each link to a folder elsewhere.
    """
    root = os.path.join(os.path.realpath(source), "")
    for parent, folders, names in os.walk(source, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in filter(os.path.islink, (os.path.join(parent, name) for name in folders)):
            if not os.path.join(os.path.realpath(path), "").startswith(root):
                on_error(OSError(errno.ELOOP, "is a link to another folder, which is not followed", path))
        yield Path(parent), sorted(name for name in names if not name.startswith("."))
