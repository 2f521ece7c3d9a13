"""A pretrained encoder's folder, or its name on the Hugging Face hub → the encoder.

A folder is as transformers' `save_pretrained` writes it: `config.json`, the weights as safetensors, and
`preprocessor_config.json`, which says whether the waveform is normalised. Weights that have to be unpickled are
refused, because a pickle can run any program. transformers itself is not needed.

The file `encoder.json` of a model folder says which encoder the model was trained with: its form, and a checksum.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.bundle.files import ENCODER, WEIGHTS
from asr.bundle.hub import hub_client, hub_reason
from asr.bundle.tensors import read_tensors, tensors_checksum, without_memory
from asr.errors import ModelError
from asr.files import write_text
from asr.model.encoder import Encoder, EncoderForm, EncoderIdentity
from asr.paths import ReadablePath
from asr.reading import read_json
from asr.records import checked

_CONFIG, _PREPROCESSOR = "config.json", "preprocessor_config.json"
_PARTS = "model-*-of-*.safetensors"  # the weights, if they are in several files
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_KNOWN = "wav2vec 2.0, HuBERT, WavLM, XLS-R and MMS can be used"
_RATE_HZ = 16000
# The weights of the encoder, in models with something behind it too, such as Wav2Vec2ForCTC.
_PREFIXES = ("", "wav2vec2.", "hubert.", "wavlm.")
_OF_THE_ENCODER = ("feature_extractor.", "feature_projection.", "encoder.")
_POSITIONS = "encoder.pos_conv_embed.conv."


def save_identity(identity: EncoderIdentity, folder: Path) -> None:
    """Write into a model folder which encoder the model has."""
    write_text(folder / ENCODER, identity.model_dump_json(indent=1) + "\n")


def load_identity(folder: ReadablePath) -> EncoderIdentity:
    """Read from a model folder which encoder the model has.

    Raises:
        ModelError: the file is missing or damaged.
    """
    path = folder / ENCODER
    content = read_json(path, ModelError, "which encoder the model has")
    return checked(EncoderIdentity, content, path, ModelError, "take all files from one model")


def load_encoder(name: str) -> tuple[Encoder, EncoderIdentity]:
    """Return the encoder of a folder or of the hub, and which one it is. It is in evaluation mode on the CPU.

    Args:
        name: a folder, or a name on the hub such as `facebook/wav2vec2-base-960h`.

    Raises:
        ModelError: there is none, its files are missing or damaged, it holds pickles only, or it is of another kind.
        DependencyError: huggingface_hub is needed and missing.
    """
    folder = encoder_folder(name)
    form = read_form(folder)
    tensors = _weights(folder, form, name)
    with without_memory():
        encoder = Encoder(form)
    needed = {key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items()}
    for key, shape in needed.items():
        if key not in tensors:
            raise ModelError(f"{folder}: its weights lack {key}, so it is not what {_CONFIG} says; {_KNOWN}")
        if tuple(tensors[key].shape) != shape:
            found = tuple(tensors[key].shape)
            raise ModelError(f"{folder}: {key} has the shape {found}, by {_CONFIG} it is {shape}; copy the files again")
        if not tensors[key].sum(dtype=torch.float64).isfinite():
            raise ModelError(f"{folder}: {key} holds numbers that are not finite; copy the files again")
    strange = next((key for key in tensors if key not in needed), None)
    if strange is not None:
        raise ModelError(f"{folder}: {strange} is no weight of such an encoder; {_KNOWN}")
    encoder.load_state_dict(tensors, assign=True)
    identity = EncoderIdentity(name=name, form=form, checksum=tensors_checksum(tensors))
    return encoder.eval().requires_grad_(False), identity


def require_same_encoder(wanted: EncoderIdentity, found: EncoderIdentity, where: ReadablePath) -> None:
    """Refuse another encoder than the one that a model or its features were made with.

    Raises:
        ModelError: it is another one; the message names both.
    """
    if (wanted.checksum, wanted.form.do_normalize) != (found.checksum, found.form.do_normalize):
        raise ModelError(
            f"{where}: needs the encoder {wanted}, but there is {found}; put the right one there, or name its folder "
            "as features.encoder"
        )


def encoder_folder(name: str) -> Path:
    """Return the folder of an encoder; one of the hub is downloaded once, and then the network is not asked any more.

    Raises:
        ModelError: there is no such folder, or the hub cannot give it.
        DependencyError: huggingface_hub is needed and missing.
    """
    if Path(name).is_dir():
        return Path(name)
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) or Path(name).exists():
        raise ModelError(
            f"features.encoder={name}: no such folder; name one with {_CONFIG} and {WEIGHTS}, or an encoder on the "
            "Hugging Face hub, as facebook/wav2vec2-base-960h"
        )
    snapshot_download = hub_client(f"features.encoder={name}: no such folder").snapshot_download
    wanted = [_CONFIG, _PREPROCESSOR, WEIGHTS, _PARTS]
    with suppress(Exception):  # then it is not there yet
        kept = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        if (kept / _CONFIG).is_file() and _weight_files(kept):
            return kept
    try:
        return Path(snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # huggingface_hub raises what the library beneath it does
        raise ModelError(
            f"features.encoder={name}: no such folder, and the Hugging Face hub does not give it ({hub_reason(error)})"
        ) from None


def read_form(folder: Path) -> EncoderForm:
    """Return the form of an encoder from its folder.

    Raises:
        ModelError: a file is missing or damaged, or it is of another kind.
    """
    content = read_json(folder / _CONFIG, ModelError, "the encoder's form")
    preprocessor: Any = {}
    if (folder / _PREPROCESSOR).is_file():
        preprocessor = read_json(folder / _PREPROCESSOR, ModelError, "how the encoder takes audio")
    if not isinstance(content, dict) or not isinstance(preprocessor, dict):
        raise ModelError(f"{folder}: {_CONFIG} and {_PREPROCESSOR} hold named values; copy them again")
    rate_hz = preprocessor.get("sampling_rate", _RATE_HZ)
    if rate_hz != _RATE_HZ:
        raise ModelError(f"{folder / _PREPROCESSOR}: sampling_rate is {rate_hz}; encoders of {_RATE_HZ} Hz can be used")
    normalises = {"do_normalize": preprocessor.get("do_normalize", True)}
    return checked(EncoderForm, content | normalises, folder / _CONFIG, ModelError, _KNOWN)


def _weight_files(folder: Path) -> list[Path]:
    """Return the files with the weights; none if some are missing."""
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    parts = sorted(folder.glob(_PARTS))
    return parts if all(part.stem.endswith(f"-of-{len(parts):05d}") for part in parts) else []


def _weights(folder: Path, form: EncoderForm, name: str) -> dict[str, Tensor]:
    """Return the encoder's tensors by the names of `Encoder`, in float32. What is behind an encoder is left out."""
    files = _weight_files(folder)
    if not files:
        raise ModelError(_without_weights(folder, name))
    stored: dict[str, Tensor] = {}
    for file in files:
        stored |= read_tensors(file, ModelError)
    tensors: dict[str, Tensor] = {}
    for key, tensor in stored.items():
        for prefix in _PREFIXES:
            short = key.removeprefix(prefix)
            if key.startswith(prefix) and short.startswith(_OF_THE_ENCODER):
                tensors[short] = tensor.float()
    if form.model_type == "wavlm":
        tensors = _joined_projections(tensors)
    return _with_weight_of_positions(tensors)


def _without_weights(folder: Path, name: str) -> str:
    """Return what is wrong with a folder without weights. Of the hub, pickles are not even downloaded."""
    pickle = next((path for pattern in _PICKLES for path in sorted(folder.glob(pattern))), None)
    if pickle is None and Path(name).is_dir():
        return f"{folder}: holds no {WEIGHTS}; name the folder of an encoder"
    what = f"features.encoder={name}: the hub has no safetensors of it, only" if pickle is None else f"{pickle}:"
    target = f"encoders/{Path(name).name}" if pickle is None else str(folder)
    classes = "AutoModel, AutoFeatureExtractor"
    return (
        f"{what} a pickle, which can run any program when it is read, so it is not read; convert it once, where you "
        f'trust it: python -c "from transformers import {classes}; '
        f"[kind.from_pretrained('{name}').save_pretrained('{target}') for kind in ({classes})]\""
        + ("" if pickle else f"; then features.encoder={target}")
    )


def _joined_projections(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join WavLM's projections to queries, keys and values into one, as torchaudio has them."""
    joined: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        found = re.fullmatch(r"(encoder\.layers\.\d+\.attention\.)([qkv]|out)_proj\.(weight|bias)", key)
        if found is None:
            joined[key] = tensor
        elif found[2] == "out":
            joined[f"{found[1]}attention.out_proj.{found[3]}"] = tensor
        elif found[2] == "q":
            parts = [tensors.get(f"{found[1]}{part}_proj.{found[3]}") for part in "qkv"]
            present = [part for part in parts if part is not None]
            joined[f"{found[1]}attention.in_proj_{found[3]}"] = torch.cat(present)
    return joined


def _with_weight_of_positions(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compute the weight of the convolution over positions from its direction and length, under old or new names."""
    for length, direction in (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):
        if _POSITIONS + length in tensors and _POSITIONS + direction in tensors:
            g, v = tensors.pop(_POSITIONS + length), tensors.pop(_POSITIONS + direction)
            tensors[_POSITIONS + "weight"] = g * v / v.norm(dim=(0, 1), keepdim=True)
    return tensors
