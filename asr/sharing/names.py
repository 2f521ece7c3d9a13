"""A model's name, as users give it → the folder with its files. Every command and function that takes a model uses it.

exp/mine                   a folder
mine.asr                   a packed model, which is read in place
"""

from __future__ import annotations

import os
from pathlib import Path

from asr.errors import ModelError
from asr.paths import ReadablePath
from asr.sharing.packed import is_packed, open_packed


def model_folder(name: str | os.PathLike[str]) -> ReadablePath:
    """Return the folder with the files of a model, to be read.

    Args:
        name: a folder, or a packed model.

    Raises:
        ModelError: a packed model cannot be read.
    """
    path = Path(name)
    return open_packed(path) if is_packed(path) else path


def is_model_name(name: str | os.PathLike[str]) -> bool:
    """Return whether a name is that of a model by its form: a folder, or a packed model."""
    return Path(name).is_dir() or is_packed(Path(name))


def own_folder(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a model that something is to be written into.

    Raises:
        ModelError: it is a packed model.
    """
    path = Path(name)
    if is_packed(path):
        raise ModelError(
            f"{path}: a packed model, which is only read, but this writes into the model folder; `asr pull {path} "
            "--out DIR` makes a folder of it"
        )
    return path
