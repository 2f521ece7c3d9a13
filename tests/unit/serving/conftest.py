"""A model that is exported, recordings, and a server on a real port that has loaded the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.bundle.bundle import ModelBundle
from asr.exporting.export import export_onnx
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from tests.conftest import TINY, voice_like
from tests.unit.serving.running_server import Running, running

pytest.importorskip("onnx")
pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; the model was never trained but has strong opinions, so that it finds many words."""
    torch.manual_seed(3)
    config = load_config(None, TINY)
    tokens = TokenTable.from_texts(["abcd "])
    network = AcousticModel(config, len(tokens)).eval()
    with torch.no_grad():
        network.output.weight.normal_(std=3.0)
    folder = tmp_path_factory.mktemp("served")
    ModelBundle(config, tokens, network).save(folder / "trained")
    return folder / "trained"


@pytest.fixture(scope="session")
def exported(model: Path) -> Path:
    export_onnx(model, model.parent / "exported")
    return model.parent / "exported"


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Recordings of several lengths in which the detector hears speech."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(3)
    paths = []
    for place, seconds in enumerate((3.0, 6.0, 1.5, 40.0)):
        paths.append(folder / f"{place}.wav")
        soundfile.write(paths[-1], voice_like(rng, seconds), 16000)
    return paths


@pytest.fixture(scope="package")
def server(exported: Path, model: Path) -> Iterator[Running]:
    """A server with two workers, and the same model exported and as trained. It ends before other tests begin."""
    from asr.serving.app import Service
    from asr.serving.worker import Served

    models = (Served("exported", str(exported)), Served("trained", str(model)))
    with running(Service(models, jobs=2, accelerator="cpu")) as server:
        yield server
