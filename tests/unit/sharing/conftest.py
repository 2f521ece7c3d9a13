"""Model folders of every kind; one of them as one file, and on a hub of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from damaged_models import make_good_folders
from fake_hub import TOKEN, FakeHub, running_hub

import asr
from asr.sharing.pack import pack_model


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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub on this machine, which the client asks with anna's token; its cache is empty."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="the hub's client")
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture
def pushed(hub: FakeHub, folders: Path) -> str:
    """The name, with its revision, of the model `characters` on the hub."""
    return asr.push(folders / "characters", "hf://anna/mine").name
