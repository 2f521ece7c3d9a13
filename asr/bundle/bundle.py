"""A model folder ↔ an acoustic model with its settings, tokens and calibration.

`files.py` lists the folder's files. Anyone can read them, and none has to be unpickled.

A folder may store its weights in 8 bits: integers with a scale for each row, in a quarter of the space. When it is read
they become floats again, and everything is computed with floats, on any device and in any precision. So an utterance's
result does not depend on its neighbours. It would depend on them if inputs were rounded too, because the largest input
of a batch sets the step of that rounding.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from asr.bundle.files import CONFIG, DECODER, LANGUAGE_MODEL, ONNX_NETWORK, SCALE, TOKENS, WEIGHTS
from asr.bundle.settings import load_calibration, load_settings, save_settings
from asr.config import Config, DecodeSettings
from asr.errors import AsrError, ModelError
from asr.files import atomic_path
from asr.model.acoustic import AcousticModel
from asr.settings_file import parse_settings
from asr.text.tokens import TokenTable, load_tokens
from asr.transcript.confidence import Calibration

_LARGEST_INT8 = 127


@dataclass(frozen=True)
class ModelBundle:
    """An acoustic model with what belongs to it.

    Attributes:
        config: the settings; `config.decode` are those of the search.
        tokens: what the model emits.
        model: the network.
        folder: where it was loaded from, and where its language models are; None for a model in memory.
        calibration: of the confidences.
    """

    config: Config
    tokens: TokenTable
    model: AcousticModel
    folder: Path | None = field(default=None, kw_only=True)
    calibration: Calibration = field(default=Calibration(), kw_only=True)

    @property
    def lm_path(self) -> Path | None:
        """The file of the token n-gram, or None if there is none."""
        path = None if self.folder is None else self.folder / LANGUAGE_MODEL
        return path if path is not None and path.is_file() else None

    def save(self, folder: Path) -> None:
        """Write settings, tokens, weights and model card. Language models and calibration in the folder stay.

        Raises:
            ModelError: the weights cannot be written, for instance because the disk is full.
        """
        from asr.bundle.card import write_card  # here, because transcribing needs no cards

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        path = folder / WEIGHTS
        try:
            with atomic_path(path) as temporary:
                save_file(tensors, temporary)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot write the weights ({error}); make room or permission") from None
        self.tokens.save(folder / TOKENS)
        save_settings(self.config, folder)
        write_card(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], decode: Mapping[str, Any] | None = None) -> ModelBundle:
        """Read a model folder. The model is in evaluation mode on the CPU.

        Args:
            folder: as `save` writes it.
            decode: settings of the search in place of the folder's, e.g. `{"beam_size": 50}`.

        Raises:
            ConfigError: `decode` has an unknown key or a value out of range.
            ModelError: a file is missing, damaged, or does not fit the others.
        """
        root = Path(folder)
        _require_model_folder(root)
        try:
            config, tokens, calibration = load_settings(root), load_tokens(root / TOKENS), load_calibration(root)
        except AsrError as error:
            raise ModelError(f"the model folder is damaged: {error}") from None
        if decode:
            source = f"{root / DECODER} with {dict(decode)}"
            settings = parse_settings(DecodeSettings, config.decode.model_dump() | dict(decode), source)
            config = config.model_copy(update={"decode": settings})
        model = AcousticModel(config, len(tokens))
        try:
            model.load_state_dict(_load_weights(root / WEIGHTS))
        except RuntimeError as error:
            raise ModelError(f"{root / WEIGHTS}: does not fit {CONFIG} and {TOKENS} ({error})") from None
        return cls(config, tokens, model.eval(), folder=root, calibration=calibration)


def _require_model_folder(folder: Path) -> None:
    missing = [name for name in (CONFIG, TOKENS, WEIGHTS, DECODER) if not (folder / name).is_file()]
    if not missing:
        return
    if (folder / ONNX_NETWORK).is_file():
        raise ModelError(f"{folder}: an ONNX export; use it with `python -m asr.runtime {folder} FILE`")
    if folder.is_file():
        raise ModelError(f"{folder}: a file, but the first argument is a model folder")
    reason = f"{', '.join(missing)} missing" if folder.is_dir() else "there is no such folder"
    raise ModelError(f"{folder}: not a model folder ({reason}); `asr train` writes one")


def _load_weights(path: Path) -> dict[str, Tensor]:
    try:
        return to_float32(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"the model folder is damaged: {path}: {error}") from None


def quantised(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return integers from -127 to 127, and a scale for each row: `weight ≈ integers · scale[…, None]`."""
    scale = np.maximum(np.abs(weight).max(-1) / np.float32(_LARGEST_INT8), np.finfo(np.float32).tiny)
    return np.rint(weight / scale[..., None]).astype(np.int8), scale


def to_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's tensors with int8 weights and a `(row,)` tensor of scales for each; biases and norms stay.

    Args:
        tensors: float32, by name. Those of two dimensions or more are weights; a row computes one output.
    """
    result = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.ndim > 1:
            integers, scale = quantised(tensor.flatten(1).numpy())
            result[name] = torch.from_numpy(integers).view_as(tensor)
            result[name + SCALE] = torch.from_numpy(scale)
    return result


def to_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that `to_int8` returned, with floats in place of integers.

    Raises:
        ValueError: integers have no scales, or not one for each row.
    """
    result = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = result.pop(name + SCALE, None)
            if scale is None or scale.dtype != torch.float32 or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{name}: 8-bit integers without a scale for each row")
            result[name] = (tensor.flatten(1) * scale[:, None]).view_as(tensor)
    return result
