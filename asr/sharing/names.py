"""A model's name, as users give it → the folder with its files. Every command and function that takes a model uses it.

exp/mine                   a folder
mine.asr                   a packed model, which is read in place
an4                        the model that comes with the package, where no file or folder has this name
"""

from __future__ import annotations

import os
from pathlib import Path

from asr.bundle.files import CONFIG, ONNX_DESCRIPTION
from asr.errors import ModelError
from asr.paths import ReadablePath
from asr.sharing.packed import is_packed, open_packed
from asr.sharing.shipped import SHIPPED, shipped_model


def model_folder(name: str | os.PathLike[str]) -> ReadablePath:
    """Return the folder with the files of a model, to be read.

    Args:
        name: a folder, a packed model, or `an4`.

    Raises:
        ModelError: a packed model cannot be read; a folder named `an4` holds no model.
    """
    path = Path(name)
    if os.fspath(name) == SHIPPED:
        if not path.exists():
            return open_packed(shipped_model())
        if path.is_dir() and not any((path / file).is_file() for file in (CONFIG, ONNX_DESCRIPTION)):
            raise ModelError(
                f"{path}: a folder without a model, and it hides the model of this name that comes with the package; "
                f"work in another folder, or rename {path.absolute()}"
            )
    return open_packed(path) if is_packed(path) else path


def is_model_name(name: str | os.PathLike[str]) -> bool:
    """Return whether a name is that of a model by its form: a folder, a packed model, or `an4`."""
    return Path(name).is_dir() or is_packed(Path(name)) or os.fspath(name) == SHIPPED


def own_folder(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a model that something is to be written into.

    Raises:
        ModelError: it is a packed model, or the one that comes with the package.
    """
    path = Path(name)
    if os.fspath(name) == SHIPPED and not path.exists():
        raise ModelError(
            f"{path}: the model that comes with the package is only read, but this writes into the model folder; "
            f"`asr pull {path} --out DIR` makes a folder of it"
        )
    if is_packed(path):
        raise ModelError(
            f"{path}: a packed model, which is only read, but this writes into the model folder; `asr pull {path} "
            "--out DIR` makes a folder of it"
        )
    return path
