"""Model folders of every kind, and one of them as one file."""

from __future__ import annotations

from pathlib import Path

import pytest
from damaged_models import make_good_folders

from asr.sharing.packed import pack_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model folders `characters`, `pieces`, `int8` and exports `onnx`, `onnx-int8`."""
    folder = tmp_path_factory.mktemp("models")
    make_good_folders(folder)
    return folder


@pytest.fixture(scope="module")
def packed(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `characters` as one file, alone in its folder."""
    return pack_model(folders / "characters", tmp_path_factory.mktemp("packed") / "model.asr").path
