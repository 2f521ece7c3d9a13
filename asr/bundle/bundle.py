"""A model folder ↔ a bundle: an acoustic model with its settings, tokens and calibration.

`files.py` lists the folder's files. Anyone can read them, and none has to be unpickled.

A folder may come from anybody. So each file is checked when it is loaded: its size, its types, and that it fits the
others. Names, shapes and kinds of weights are compared before a network is built.

A folder may store its weights in 8 bits: integers with a scale for each row, in a quarter of the space. When it is read
they become floats again, and everything is computed with floats, on any device and in any precision. So an utterance's
result does not depend on its neighbours. It would depend on them if inputs were rounded too, because the largest input
of a batch sets the step of that rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from asr.bundle.encoder_folder import load_encoder, load_identity, require_same_encoder, save_identity
from asr.bundle.files import CONFIG, DECODER, LANGUAGE_MODEL, ONNX_NETWORK, PRETRAINED, SCALE, TOKENS, TRAINING, WEIGHTS
from asr.bundle.settings import load_calibration, load_settings, save_settings
from asr.bundle.tensors import read_tensors, tensors_checksum, without_memory
from asr.config import Config
from asr.errors import AsrError, ModelError
from asr.files import atomic_path
from asr.model.acoustic import AcousticModel
from asr.paths import ReadablePath, readable
from asr.reading import TensorForm, first_line, read_json, read_tensor_forms, shown
from asr.search_config import DecodeSettings
from asr.settings_file import parse_settings
from asr.text.tokens import TokenTable, load_tokens
from asr.transcript.confidence import Calibration

_LARGEST_INT8 = 127
_CHECKSUM = "crc32"  # among the metadata of a file; those of older versions have none

AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


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
    folder: ReadablePath | None = field(default=None, kw_only=True)
    calibration: Calibration = field(default=Calibration(), kw_only=True)

    @property
    def lm_path(self) -> ReadablePath | None:
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
        save_weights(tensors, folder / WEIGHTS)
        self.tokens.save(folder / TOKENS)
        if self.model.encoder_identity is not None:
            save_identity(self.model.encoder_identity, folder)
        save_settings(self.config, folder)
        write_card(folder)

    @classmethod
    def load(cls, folder: str | ReadablePath, decode: Mapping[str, Any] | None = None) -> ModelBundle:
        """Read a model folder. The model is in evaluation mode on the CPU.

        Args:
            folder: as `save` writes it; also one inside a packed model.
            decode: settings of the search in place of the folder's, e.g. `{"beam_size": 50}`.

        Raises:
            ConfigError: `decode` has an unknown key or a value out of range.
            ModelError: a file is missing, damaged, or does not fit the others; the model's encoder is missing or
                another one.
        """
        folder = readable(folder)
        _require_model_folder(folder)
        try:
            config, tokens, calibration = load_settings(folder), load_tokens(folder / TOKENS), load_calibration(folder)
        except AsrError as error:
            first, *others = error.args
            raise ModelError(f"the model folder is damaged: {first}", *others) from None
        if decode:
            source = f"{folder / DECODER} with {dict(decode)}"
            settings = parse_settings(DecodeSettings, config.decode.model_dump() | dict(decode), source)
            config = config.model_copy(update={"decode": settings})
        wanted = load_identity(folder) if config.features.encoder else None
        model = load_network(
            folder / WEIGHTS, lambda: AcousticModel(config, len(tokens), wanted), ModelError, f"{CONFIG} and {TOKENS}"
        )
        if wanted is not None:
            encoder, found = load_encoder(config.features.encoder)
            require_same_encoder(wanted, found, folder)
            model.attach(encoder)
        return cls(config, tokens, model, folder=folder, calibration=calibration)


def trained_precision(folder: ReadablePath) -> str | None:
    """Return the number format in which a model was trained, `fp32` or `bf16`; None if that is not known."""
    try:
        facts = read_json(folder / TRAINING, ModelError, "what the model was trained on")
    except ModelError:
        return None
    return str(facts.get("precision")) if isinstance(facts, dict) else None


def _require_model_folder(folder: ReadablePath) -> None:
    missing = [name for name in (CONFIG, TOKENS, WEIGHTS, DECODER) if not (folder / name).is_file()]
    if not missing:
        return
    if (folder / ONNX_NETWORK).is_file():
        raise ModelError(f"{folder}: an ONNX export; use it with `python -m asr.runtime {folder} FILE`")
    if (folder / PRETRAINED).is_file():
        raise ModelError(
            f"{folder}: a pretrained network, which recognises nothing yet; `asr train --init-from {folder}` makes a "
            "model of it"
        )
    if folder.is_file():
        raise ModelError(f"{folder}: a file, but the first argument is a model folder")
    reason = f"{', '.join(missing)} missing" if folder.is_dir() else "there is no such folder"
    raise ModelError(f"{folder}: not a model folder ({reason}); `asr train` writes one")


def save_weights(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write weights on the CPU as safetensors, with their checksum among the metadata.

    Raises:
        ModelError: they cannot be written, for instance because the disk is full.
    """
    noted = {**(metadata or {}), _CHECKSUM: tensors_checksum(tensors)}
    try:
        with atomic_path(path) as temporary:
            save_file(dict(tensors), temporary, metadata=noted)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: cannot write the weights ({error}); make room or permission") from None


def load_network(path: ReadablePath, build: Callable[[], AnyNetwork], error: type[AsrError], beside: str) -> AnyNetwork:
    """Return a network with the weights of a file, in evaluation mode on the CPU.

    The network is built without memory, and the weights of the file become its own, so a network that is larger than
    its file takes no memory.

    Args:
        path: a safetensors file.
        build: makes the network.
        error: what is raised if the file cannot be used.
        beside: what says how the network is built, for the message.

    Raises:
        error: the file is missing or damaged, or it holds other tensors than the network has, or numbers that are not
            finite.
    """
    stored, metadata = read_tensor_forms(path, error, "the weights")
    try:
        with without_memory():
            network = build()
    except AsrError as reason:
        raise error(f"{path}: does not fit {beside} ({' '.join(reason.args)})") from None
    needed = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    misfit = _misfit(stored, needed)
    if misfit:
        raise error(f"{path}: does not fit {beside} ({misfit}); take all files from one model")
    tensors = read_tensors(path, error)
    if _CHECKSUM in metadata and metadata[_CHECKSUM] != tensors_checksum(tensors):
        raise error(f"{path}: damaged (the checksum of the weights is another); copy the file again")
    weights = to_float32(tensors)
    for name, tensor in weights.items():
        if not tensor.sum(dtype=torch.float64).isfinite():
            raise error(f"{path}: {name} holds numbers that are not finite; train or export the model again")
    network.load_state_dict({name: tensor.clone() for name, tensor in weights.items()}, assign=True)
    return network.eval()


def _misfit(stored: Mapping[str, TensorForm], needed: Mapping[str, tuple[int, ...]]) -> str | None:
    """Return in what a file's tensors differ from those that a network needs, or None."""
    for name, shape in needed.items():
        if name not in stored:
            return f"{name} is missing"
        if stored[name].shape != shape:
            return f"{name} is {_product(stored[name].shape)}, not {_product(shape)}"
    scales = {name + SCALE: (form.shape[0],) for name, form in stored.items() if _in_8_bits(form)}
    for name, form in stored.items():
        if name not in needed and name not in scales:
            return f"{shown(name)} is not one of its weights"
        if name in scales and form.shape != scales[name]:
            return f"{name} is {_product(form.shape)}, not {_product(scales[name])}"
        if form.kind != "F32" and not (_in_8_bits(form) and name + SCALE in stored):
            return f"{name} is of the kind {shown(form.kind)}, not F32, nor I8 with a scale for each row"
    return None


def _in_8_bits(form: TensorForm) -> bool:
    return form.kind == "I8" and len(form.shape) > 1


def _product(shape: tuple[int, ...]) -> str:
    return first_line(" × ".join(map(str, shape))) or "one number"


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
    """Return the tensors that `to_int8` returned, with floats in place of integers."""
    result = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = result.pop(name + SCALE)
            result[name] = (tensor.flatten(1) * scale[:, None]).view_as(tensor)
    return result
