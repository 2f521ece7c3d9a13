"""What is read as a file or a folder: a `Path`, or what is inside a packed model."""

from __future__ import annotations

import os
from collections.abc import Iterator
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
