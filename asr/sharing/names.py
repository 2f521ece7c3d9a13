"""A model's name, as users give it → the folder with its files. Every command and function that takes a model uses it.

exp/mine                   a folder
mine.asr                   a packed model, which is read in place
an4                        the model that comes with the package, where no file or folder has this name
hf://user/model            a model on the Hugging Face hub, which is downloaded once
hf://user/model@REVISION   a branch, a tag or a commit of it
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from asr.bundle.files import CONFIG, ONNX_DESCRIPTION
from asr.errors import ModelError, ModelWarning
from asr.paths import ReadablePath
from asr.sharing.hub import HubName, hub_model, hub_name, kept_model
from asr.sharing.listed import ListedPath
from asr.sharing.packed import is_packed, open_packed
from asr.sharing.shipped import SHIPPED, shipped_model


def model_folder(name: str | os.PathLike[str]) -> ReadablePath:
    """Return the folder with the files of a model, to be read.

    Args:
        name: a folder, a packed model, `an4`, or a name on the hub. Of the hub, a `ModelWarning` says which revision it
            is, if the name leaves that open.

    Raises:
        ModelError: a packed model cannot be read; a folder named `an4` holds no model; a model of the hub cannot be
            had.
        DependencyError: huggingface_hub is needed and missing.
    """
    if isinstance(name, ListedPath):
        return name
    wanted = hub_name(name)
    if wanted is not None:
        return _of_hub(wanted)
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


def folder_here(name: str | os.PathLike[str]) -> ReadablePath:
    """Return the folder with the files of a model as `model_folder` does, but download nothing.

    Raises:
        ModelError, DependencyError: as `model_folder`; or a model of the hub is not in the cache.
    """
    wanted = hub_name(name)
    return model_folder(name) if wanted is None else kept_model(wanted).folder


def _of_hub(wanted: HubName) -> ReadablePath:
    found = hub_model(wanted)
    if found.name != wanted:
        note = f"{wanted} is now {found.name}; the name with this revision always means the same model"
        warnings.warn(note, ModelWarning, stacklevel=3)
    return found.folder


def is_model_name(name: str | os.PathLike[str]) -> bool:
    """Return whether a name is that of a model by its form: a folder, a packed model, `an4`, or a name on the hub."""
    if hub_name(name) is not None or os.fspath(name) == SHIPPED:
        return True
    return Path(name).is_dir() or is_packed(Path(name))


def own_folder(name: str | os.PathLike[str]) -> Path:
    """Return the folder of a model that something is to be written into.

    Raises:
        ModelError: it is a packed model, the one that comes with the package, or one of the hub.
    """
    on_hub = hub_name(name)
    what = ""
    if on_hub is not None:
        what = "a model on the hub"
    elif os.fspath(name) == SHIPPED and not Path(name).exists():
        what = "the model that comes with the package"
    elif is_packed(Path(name)):
        what = "a packed model"
    if what:
        shared = on_hub or name
        raise ModelError(
            f"{shared}: {what}, which is only read, but this writes into the model folder; `asr pull {shared} --out "
            "DIR` makes a folder of it"
        )
    return Path(name)
