"""Model folder → a folder to pass on: of this form, or one for `asr.runtime`, which needs no torch."""

from __future__ import annotations

import shutil
from importlib.metadata import files as files_of
from pathlib import Path

import numpy as np
from safetensors.torch import save_file

from asr.audio.speech_detector import shipped_weights
from asr.bundle import files
from asr.bundle.bundle import ModelBundle
from asr.bundle.card import Exported, model_card
from asr.bundle.int8 import to_int8
from asr.errors import DependencyError, ModelError
from asr.files import atomic_path, write_text
from asr.runtime.folder import Description


def export_onnx(model: Path, folder: Path, *, int8: bool = False) -> int:
    """Write a model as ONNX, with features and normalisation inside; a language model is not exported.

    Args:
        model: the model folder.
        folder: where to write, see `onnx_folder.py`.
        int8: weights of 8 bits, for a quarter of the size; see `acoustic_graph`.

    Returns:
        The size of the network's file in bytes.

    Raises:
        ModelError: the model folder is damaged, its network is not recurrent, or `folder` is a model folder itself.
        DependencyError: the package onnx or silero-vad is missing.
    """
    try:
        from asr.exporting.onnx_graph import acoustic_graph
    except ModuleNotFoundError as error:
        raise DependencyError(f"exporting needs the package {error.name}: pip install {error.name}") from None

    _refuse_model_folder(folder)
    bundle = ModelBundle.load(model)
    network = acoustic_graph(bundle.model, int8=int8).SerializeToString()
    with atomic_path(folder / files.ONNX_NETWORK) as temporary:
        temporary.write_bytes(network)
    Description(bundle.model.sample_rate_hz, bundle.model.frame_shift_s, bundle.tokens.texts).save(folder)
    _write_speech_detector(folder)
    write_text(folder / files.CARD, model_card(model, Exported("onnx", len(network), int8)))
    return len(network)


def _write_speech_detector(folder: Path) -> None:
    weights = shipped_weights()
    with atomic_path(folder / files.ONNX_SPEECH_DETECTOR) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **weights)  # type: ignore[arg-type]
    licences = [file.read_text() for file in files_of("silero-vad") or () if file.name == "LICENSE"]
    write_text(
        folder / files.ONNX_SPEECH_DETECTOR_LICENCE, "\n".join(["https://github.com/snakers4/silero-vad\n", *licences])
    )


def export_torch(model: Path, folder: Path, *, int8: bool = False) -> int:
    """Write a model folder that transcribes as `model` does, without checkpoints and whatever else lies there.

    Args:
        model: the model folder.
        folder: where to write.
        int8: weights of 8 bits, for a quarter of the size; see `asr/model/int8.py`. Language models stay as they are.

    Returns:
        The size of the weights' file in bytes.

    Raises:
        ModelError: the model folder is damaged, or `folder` is a model folder already.
    """
    _refuse_model_folder(folder)
    tensors = ModelBundle.load(model).model.state_dict()
    for name in (*files.READ_BY_TRANSCRIBING, files.TRAINING):
        if name != files.WEIGHTS and (model / name).is_file():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(model / name, temporary)
    with atomic_path(folder / files.WEIGHTS) as temporary:
        save_file(to_int8(tensors) if int8 else tensors, temporary)
    size = (folder / files.WEIGHTS).stat().st_size
    write_text(folder / files.CARD, model_card(model, Exported("torch", size, int8)))
    return size


def _refuse_model_folder(folder: Path) -> None:
    if (folder / files.WEIGHTS).exists():
        raise ModelError(f"{folder}: holds a model already, which an export would overwrite; name another folder")
