"""A shared model: its files with sizes and checksums, read as a `Path` is and checked whenever one is read. No torch.

The list is the file `files.json`, in a packed model as on the hub:

    {"format": 1, "files": {"config.yaml": {"bytes": 812, "sha256": "9f86d0…"}, …}}

Only what is listed can be read.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, Literal

from asr.bundle.files import (
    CONFIG,
    DECODER,
    ONNX_DESCRIPTION,
    ONNX_NETWORK,
    PACKED_LIST,
    PULLED,
    SHARED,
    TOKENS,
    WEIGHTS,
)
from asr.errors import ModelError
from asr.files import complete_folder
from asr.paths import ReadablePath
from asr.reading import parse_json, shown

MIB = 1 << 20
MOST_LIST_BYTES = MIB
AGAIN = "copy the file again"
_FORMAT = 1


@dataclass(frozen=True)
class Member:
    """What a list says of a file: its size, and its SHA-256 in hexadecimal digits."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class ListedPath:
    """A file or a folder of a shared model, which is read as a `Path` is.

    Attributes:
        model: the model's name, which `asr.load` takes.
        root: where its files are: a folder.
        members: the files, by name.
        inside: the name of this one inside; empty for the model as a whole.
    """

    model: str
    root: Path
    members: Mapping[str, Member] = field(compare=False, repr=False)
    inside: str = ""

    def __str__(self) -> str:
        """Return where it is, for messages."""
        return f"{self.model}/{self.inside}" if self.inside else self.model

    def __fspath__(self) -> str:
        """Return the same; of the whole it is the model's name."""
        return str(self)

    def __truediv__(self, name: str) -> ListedPath:
        """Return what has this name in a folder."""
        return replace(self, inside=f"{self.inside}/{name}" if self.inside else name)

    @property
    def name(self) -> str:
        """The last part of the name."""
        return str(self).rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The end of the name, from its last dot on."""
        return Path(self.name).suffix

    def absolute(self) -> ListedPath:
        """Return the same, as it is called from any working directory."""
        return self

    def is_file(self) -> bool:
        """Whether it is a file."""
        return self.inside in self.members

    def is_dir(self) -> bool:
        """Whether it is a folder."""
        return not self.inside or any(name.startswith(f"{self.inside}/") for name in self.members)

    def exists(self) -> bool:
        """Whether it is there."""
        return self.is_file() or self.is_dir()

    def glob(self, pattern: str) -> Iterator[ListedPath]:
        """Yield the files directly in a folder whose names match a pattern without `/`; none for other patterns."""
        start = f"{self.inside}/" if self.inside else ""
        for name in self.members:
            rest = name.removeprefix(start)
            if name.startswith(start) and "/" not in rest and fnmatchcase(rest, pattern):
                yield self / rest

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """Return the file in memory, after its size and checksum were compared.

        Raises:
            FileNotFoundError: there is none.
            ModelError: it is damaged.
        """
        return io.BytesIO(self.read_bytes())

    def read_bytes(self) -> bytes:
        """Return the bytes of the file; errors are those of `open`."""
        member = self.members.get(self.inside)
        if member is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        data = self._stored(member.size_bytes)
        if len(data) != member.size_bytes or hashlib.sha256(data).hexdigest() != member.sha256:
            raise ModelError(f"{self}: damaged (its size or checksum is another than {PACKED_LIST} says); {AGAIN}")
        return data

    def _stored(self, most_bytes: int) -> bytes:
        """Return the bytes as they are stored, one more than `most_bytes` at most."""
        with (self.root / self.inside).open("rb") as file:
            return file.read(most_bytes + 1)


def parse_list(data: bytes, place: str) -> dict[str, Member]:
    """Return what a `files.json` says of each file.

    Args:
        data: its bytes.
        place: where it is, for the message.

    Raises:
        ModelError: it is damaged, or of a newer version.
    """
    try:
        text = data[: MOST_LIST_BYTES + 1].decode()
    except UnicodeDecodeError:
        raise ModelError(f"{place}: damaged (not UTF-8); {AGAIN}") from None
    if len(data) > MOST_LIST_BYTES:
        raise ModelError(f"{place}: larger than 1 MiB; {AGAIN}")
    content = parse_json(text, ModelError, place, way_out=AGAIN)
    if isinstance(content, dict) and content.get("format", _FORMAT) != _FORMAT:
        raise ModelError(
            f"{place}: format {shown(content['format'])} is not {_FORMAT}, which this version reads; take a newer "
            "version of asr"
        )
    files = content.get("files") if isinstance(content, dict) else None
    if not isinstance(files, dict) or not all(_is_member(value) for value in files.values()):
        raise ModelError(f"{place}: damaged (not a list of files with sizes and checksums); {AGAIN}")
    return {name: Member(value["bytes"], value["sha256"]) for name, value in files.items()}


def _is_member(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("bytes")) is int
        and value["bytes"] >= 0
        and isinstance(value.get("sha256"), str)
        and re.fullmatch("[0-9a-f]{64}", value["sha256"]) is not None
    )


def list_text(members: Mapping[str, Member]) -> str:
    """Return the text of `files.json` for these files."""
    files = {name: {"bytes": member.size_bytes, "sha256": member.sha256} for name, member in sorted(members.items())}
    return json.dumps({"format": _FORMAT, "files": files}, indent=1) + "\n"


@dataclass(frozen=True)
class SharedFiles:
    """What is passed on of a folder.

    Attributes:
        folder: a model folder, an exported folder, or a shared model.
        names: of the files that are passed on, in order.
        left_out: names of files and folders in it that are not, in order; without those that begin with a dot.
    """

    folder: ReadablePath
    names: tuple[str, ...]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, folder: ReadablePath) -> SharedFiles:
        """Look into a folder.

        Raises:
            ModelError: it is neither a model folder nor an exported folder.
        """
        require_shareable(folder)
        names = tuple(sorted(name for name in SHARED if (folder / name).is_file()))
        taken = {name.partition("/")[0] for name in names} | {PACKED_LIST, PULLED}
        there = {path.name for path in folder.iterdir()} if isinstance(folder, Path) else set()
        left_out = tuple(sorted(name for name in there - taken if not name.startswith(".")))
        return cls(folder, names, left_out)

    def members(self) -> dict[str, Member]:
        """Return the size and the checksum of each file."""
        return {name: member_of(self.folder / name) for name in self.names}


_MODEL, _EXPORT = (CONFIG, TOKENS, WEIGHTS, DECODER), (ONNX_DESCRIPTION, ONNX_NETWORK)


def is_shareable(folder: ReadablePath) -> bool:
    """Return whether a folder is a model folder or one that `asr export` wrote."""
    return any(all((folder / name).is_file() for name in names) for names in (_MODEL, _EXPORT))


def require_shareable(folder: ReadablePath) -> None:
    """Refuse a folder that is neither a model folder nor one that `asr export` wrote.

    Raises:
        ModelError: it is none; the message names what is missing.
    """
    if not is_shareable(folder):
        missing = [name for name in _MODEL if not (folder / name).is_file()]
        reason = f"{', '.join(missing)} missing" if folder.is_dir() else "there is no such folder"
        raise ModelError(f"{folder}: not a model folder ({reason}), nor one that `asr export` wrote")


def member_of(path: ReadablePath) -> Member:
    """Return the size and the checksum of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(MIB):
            digest.update(block)
            size += len(block)
    return Member(size, digest.hexdigest())


def write_folder(model: ListedPath, folder: Path, beside: Mapping[str, bytes] | None = None) -> tuple[str, ...]:
    """Write the files of a shared model into a new folder; return their names.

    Only those are written whose names `asr/bundle/files.py` knows.

    Args:
        model: the whole model.
        folder: must not exist yet.
        beside: contents of further files, by name.

    Raises:
        ModelError: the folder exists, a file is damaged, or there is no model inside.
    """
    if folder.exists():
        raise ModelError(f"{folder}: exists already; name a new folder")
    require_shareable(model)
    names = tuple(name for name in SHARED if (model / name).is_file())
    with complete_folder(folder) as temporary:
        for name in names:
            (temporary / name).parent.mkdir(exist_ok=True)
            (temporary / name).write_bytes((model / name).read_bytes())
        for name, content in (beside or {}).items():
            (temporary / name).write_bytes(content)
    return names
