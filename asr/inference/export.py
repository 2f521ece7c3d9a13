"""Model folder → a folder for `asr.runtime`, which needs no torch."""

from __future__ import annotations

from pathlib import Path

from asr.data.files import atomic_path
from asr.errors import DependencyError, ModelError
from asr.inference.onnx_folder import NETWORK, Description
from asr.model.bundle import WEIGHTS, ModelBundle


def export_onnx(bundle: ModelBundle, folder: Path, *, int8: bool = False) -> int:
    """Write a model as ONNX, with features and normalisation inside; a language model is not exported.

    Args:
        bundle: the model.
        folder: where to write `model.onnx` and `model.json`.
        int8: weights of 8 bits, for a quarter of the size; see `acoustic_graph`.

    Returns:
        The size of the network's file in bytes.

    Raises:
        ModelError: the network is not recurrent, or `folder` is a model folder itself.
        DependencyError: the package onnx is missing.
    """
    try:
        from asr.inference.onnx_graph import acoustic_graph
    except ModuleNotFoundError as error:
        raise DependencyError(f"exporting needs the package {error.name}: pip install 'asr[onnx]'") from None

    if (folder / WEIGHTS).exists():
        raise ModelError(f"{folder}: holds a model folder, whose card an export would overwrite; name another one")
    network = acoustic_graph(bundle.model, int8=int8).SerializeToString()
    with atomic_path(folder / NETWORK) as temporary:
        temporary.write_bytes(network)
    model = bundle.model
    Description(model.sample_rate_hz, model.frame_shift_s, bundle.tokens.texts).save(folder)
    return len(network)
