"""A shared model → a model folder of one's own, which can be trained on, tuned and changed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from asr.bundle.files import CARD, PULLED
from asr.errors import ModelError
from asr.files import to_json
from asr.sharing.hub import hub_model, hub_name
from asr.sharing.listed import ListedPath, write_folder
from asr.sharing.names import model_folder


@dataclass(frozen=True)
class PullReport:
    """A folder that `pull` wrote.

    Attributes:
        folder: the model folder, or the exported one.
        model: the name of the model, on the hub with its revision.
        files: names of the model's files.
        left_out: names of files of the repository that were not taken.
    """

    folder: Path
    model: str
    files: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def pull(model: str | os.PathLike[str], out: str | os.PathLike[str]) -> PullReport:
    """Write a shared model into a new folder; each file is checked.

    Of a model on the hub, the folder's `pulled.json` keeps the name with the revision.

    Args:
        model: `hf://user/model` or `hf://user/model@REVISION`, or a file that `pack_model` wrote.
        out: the folder to write.

    Raises:
        ModelError: the model cannot be had, cannot be read or is damaged, or `out` exists.
        DependencyError: huggingface_hub is missing.
    """
    folder = Path(out)
    if folder.exists():
        raise ModelError(f"{folder}: exists already; name a new folder")
    name = hub_name(model)
    if name is not None:
        found = hub_model(name)
        beside = {PULLED: (to_json({"model": str(found.name)}, indent=1) + "\n").encode()}
        card = found.folder.root / CARD
        if card.is_file():
            beside[CARD] = card.read_bytes()
        files = write_folder(found.folder, folder, beside)
        return PullReport(folder, str(found.name), files, found.left_out)
    source = model_folder(model)
    if not isinstance(source, ListedPath):
        raise ModelError(f"{source}: neither a packed model nor one of the hub, so there is nothing to pull")
    return PullReport(folder, str(source), write_folder(source, folder))
