"""A model → one file, `model.asr`, which `packed.py` reads. No torch."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from asr.bundle.files import ONNX_NETWORK, PACKED_LIST
from asr.errors import ModelError
from asr.files import atomic_path
from asr.paths import ReadablePath
from asr.sharing.listed import MIB, MOST_LIST_BYTES, Member, SharedFiles, list_text, member_of
from asr.sharing.names import model_folder
from asr.sharing.packed import MOST_PACKED_BYTES, SUFFIX


@dataclass(frozen=True)
class PackedModel:
    """A packed model that was written.

    Attributes:
        path: the file.
        size_bytes: its size.
        sha256: its checksum, in hexadecimal digits.
        files: names of the files that it holds.
        left_out: names of files and folders of the model folder that it does not hold.
    """

    path: Path
    size_bytes: int
    sha256: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def usage(self) -> str:
        """The command that transcribes with it."""
        command = "python -m asr.runtime" if ONNX_NETWORK in self.files else "asr transcribe"
        return f"{command} {self.path} FILE…"


def pack_model(model: str | os.PathLike[str], out: str | os.PathLike[str]) -> PackedModel:
    """Write a model or an exported folder as one file; equal folders give equal bytes.

    Checkpoints, logs, decode folders and what is known of single speakers stay behind.

    Args:
        model: a model folder, one that `asr.export` wrote, or whatever `asr.load` takes.
        out: the file, e.g. `model.asr`.

    Raises:
        ModelError: it is no such model, `out` has another suffix, or the file would be larger than 4 GiB.
    """
    file = Path(out)
    if file.suffix.lower() != SUFFIX:
        raise ModelError(f"{file}: a packed model is one file; let its name end in {SUFFIX}")
    folder = model_folder(model)
    shared = SharedFiles.of(folder)
    members = shared.members()
    if sum(member.size_bytes for member in members.values()) > MOST_PACKED_BYTES - 2 * MOST_LIST_BYTES:
        raise ModelError(f"{folder}: larger than 4 GiB, which one file does not hold; share it by `asr push`")
    with atomic_path(file) as temporary, ZipFile(temporary, "w", allowZip64=False) as archive:
        archive.writestr(_header(PACKED_LIST), list_text(members))
        for name in shared.names:
            _store(archive, name, folder / name, members[name])
    written = member_of(file)
    return PackedModel(file, written.size_bytes, written.sha256, shared.names, shared.left_out)


def _header(name: str) -> ZipInfo:
    header = ZipInfo(name)  # of 1980, the first year that a zip knows
    header.create_system, header.external_attr = 3, (stat.S_IFREG | 0o644) << 16
    return header


def _store(archive: ZipFile, name: str, path: ReadablePath, member: Member) -> None:
    header = _header(name)
    header.file_size = member.size_bytes
    with path.open("rb") as source, archive.open(header, "w") as target:
        while block := source.read(MIB):
            target.write(block)
