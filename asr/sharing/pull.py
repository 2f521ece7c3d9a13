"""A shared model → a model folder of one's own, which can be trained on, tuned and changed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from asr.errors import ModelError
from asr.sharing.listed import ListedPath, write_folder
from asr.sharing.names import model_folder


@dataclass(frozen=True)
class PullReport:
    """A folder that `pull` wrote.

    Attributes:
        folder: the model folder, or the exported one.
        files: names of its files.
    """

    folder: Path
    files: tuple[str, ...]


def pull(model: str | os.PathLike[str], out: str | os.PathLike[str]) -> PullReport:
    """Write a shared model into a new folder.

    Args:
        model: a file that `pack_model` wrote.
        out: the folder to write.

    Raises:
        ModelError: the model cannot be read or is damaged, or `out` exists.
    """
    source = model_folder(model)
    if not isinstance(source, ListedPath):
        raise ModelError(f"{source}: not a packed model, so there is nothing to pull; copy the folder")
    return PullReport(Path(out), write_folder(source, Path(out)))
