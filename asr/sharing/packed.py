"""A packed model, one file such as `model.asr` → its files, read in place. `pack.py` writes it. No torch.

The file is a zip, and its members are stored as they are. It is read in place: nothing is written to disk, and a
member's name is only compared. Its member `files.json` has the size and the SHA-256 of each other member, which are
checked whenever one is read. Times and order are fixed, so equal folders give equal bytes.

A packed model may come from anybody. What could lead out of it or fill the memory is refused: absolute names, `..`,
links, names that differ only in case, encrypted members, members of other sizes than were declared.

Source: PKWARE, APPNOTE.TXT 6.3.10, sections 4.3.16 (end of the directory) and 4.4 (fields).
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from asr.bundle.files import PACKED_LIST
from asr.errors import ModelError
from asr.reading import first_line, shown
from asr.sharing.listed import (
    AGAIN,
    MIB,
    MOST_LIST_BYTES,
    ListedPath,
    parse_list,
)

SUFFIX = ".asr"

MOST_PACKED_BYTES = (1 << 32) - MIB  # of the file; a larger zip has another structure
_MOST_MEMBERS = 1000
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)*", re.ASCII)
_END_BYTES, _LOCATOR_BYTES = 22, 20  # of the end of the directory, and of what precedes it in large zips
_ENCRYPTED = 1
# What the modules zipfile and zlib raise for damaged files.
_DAMAGED = (BadZipFile, ValueError, LookupError, EOFError, RuntimeError, OverflowError, struct.error, zlib.error)


@dataclass(frozen=True)
class PackedPath(ListedPath):
    """A file or a folder inside a packed model; `root` is the packed model."""

    def absolute(self) -> PackedPath:
        """Return the same, as it is called from any working directory."""
        root = self.root.absolute()
        return replace(self, model=str(root), root=root)

    def _stored(self, most_bytes: int) -> bytes:
        return _read(self.root, self.inside, most_bytes)


def is_packed(path: Path) -> bool:
    """Return whether a path is a packed model, or a file that claims to be one."""
    if not path.is_file():
        return False
    if path.suffix.lower() == SUFFIX:
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def open_packed(path: Path) -> PackedPath:
    """Return the folder that a packed model holds, to be read in place.

    Raises:
        ModelError: it cannot be read, is damaged, or holds what a packed model does not.
    """
    try:
        _require_small_directory(path)
        with ZipFile(path) as archive:
            members = archive.infolist()
        reason = _fault(members)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from None
    except _DAMAGED as error:
        raise ModelError(f"{path}: damaged, or not a packed model ({_described(error)}); {AGAIN}") from None
    if reason:
        raise ModelError(f"{path}: not what `asr pack` writes ({reason}); it is not read")
    listed = parse_list(_read(path, PACKED_LIST, MOST_LIST_BYTES), f"{path}/{PACKED_LIST}")
    found = {member.filename: member.file_size for member in members if member.filename != PACKED_LIST}
    if found != {name: member.size_bytes for name, member in listed.items()}:
        raise ModelError(f"{path}: damaged (it holds other files than {PACKED_LIST} says); {AGAIN}")
    return PackedPath(str(path), path, listed)


def _require_small_directory(path: Path) -> None:
    """Refuse a file whose directory could fill the memory, before it is read.

    Raises:
        ValueError: it is no zip, or too large a one.
    """
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        if size > MOST_PACKED_BYTES:
            raise ValueError("larger than 4 GiB")
        file.seek(max(0, size - _END_BYTES - _LOCATOR_BYTES))
        end = file.read()
    if end[-_END_BYTES:][:4] != b"PK\x05\x06":
        raise ValueError("it does not end as a zip does")
    entries, directory_bytes = struct.unpack("<HL", end[-12:-6])
    if entries > _MOST_MEMBERS or directory_bytes > MOST_LIST_BYTES or end[:-_END_BYTES].startswith(b"PK\x06\x07"):
        raise ValueError(f"more than {_MOST_MEMBERS} members, or a directory of another form")


def _fault(members: list[ZipInfo]) -> str | None:
    """Return what a packed model's directory has that it must not have; None if there is nothing."""
    seen: dict[str, str] = {}
    for member in members:
        name = member.orig_filename
        if not _NAME.fullmatch(name) or name != member.filename:
            return f"a member is named {shown(name)}"
        if name.lower() in seen:
            return f"a member is named {shown(name)}, another {shown(seen[name.lower()])}"
        seen[name.lower()] = name
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            return f"{name} is a link, a folder or a device"
        if member.flag_bits & _ENCRYPTED:
            return f"{name} is encrypted"
        if member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            return f"{name} is compressed in an unknown way"
    if sum(member.file_size for member in members) > MOST_PACKED_BYTES:
        return "it would become larger than 4 GiB"
    return None if PACKED_LIST in seen else f"{PACKED_LIST} is missing"


def _read(path: Path, name: str, most_bytes: int) -> bytes:
    """Return the bytes of a member, one more than `most_bytes` at most."""
    try:
        with ZipFile(path) as archive, archive.open(name) as file:
            return file.read(most_bytes + 1)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error})") from None
    except _DAMAGED as error:
        raise ModelError(f"{path}/{name}: damaged ({_described(error)}); {AGAIN}") from None


def _described(error: Exception) -> str:
    return first_line(str(error) or type(error).__name__)
