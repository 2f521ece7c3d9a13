"""What a model folder knows of single speakers: a file of some ten kilobytes for each, in the folder `speakers`.

It holds by how much a few weights differ from the model's own, in half precision (`asr/model/adaptation.py`), and with
`features.cmvn=speaker` the mean and deviation of each mel band. It changes nothing for anybody else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from asr.bundle.bundle import save_weights
from asr.bundle.speaker_names import find_speaker, rename_older, same_name, speaker_file, speaker_names
from asr.bundle.tensors import read_tensors, tensors_checksum
from asr.errors import ConfigError, ModelError
from asr.model.acoustic import AcousticModel
from asr.model.adaptation import own_weights
from asr.paths import ReadablePath
from asr.reading import read_tensor_forms, shown

_MOMENTS = "moments"  # (2, mel)
_NAME, _MODEL = "name", "model"  # among the metadata


@dataclass(frozen=True)
class Speaker:
    """What is known of a speaker.

    Attributes:
        name: as the user gave it.
        weights: in place of the model's own, by name; none if they gained nothing.
        moments: mean and deviation of each mel band, `(2, mel)`, with `features.cmvn=speaker`.
    """

    name: str
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    moments: Tensor | None = None


def save_speaker(folder: Path, speaker: Speaker, model: AcousticModel) -> Path:
    """Write a speaker's file into the folder of a model; return its path.

    Raises:
        ConfigError: as `speaker_file`.
        ModelError: it cannot be written.
    """
    path = folder / speaker_file(speaker.name)
    own = own_weights(model)
    tensors = {name: (tensor - own[name]).half().cpu().contiguous() for name, tensor in speaker.weights.items()}
    if speaker.moments is not None:
        tensors[_MOMENTS] = speaker.moments.cpu().contiguous()
    path.parent.mkdir(exist_ok=True)
    rename_older(folder)  # else a file system that ignores case could write anna's file in place of Anna's
    save_weights(tensors, path, {_NAME: speaker.name, _MODEL: _mark_of(model)})
    return path


def load_speaker(folder: ReadablePath, name: str, model: AcousticModel) -> Speaker:
    """Return what a model folder knows of a speaker.

    Args:
        folder: the model folder.
        name: the speaker's name.
        model: the network of the folder.

    Raises:
        ConfigError: the folder knows no such speaker; the error names those it knows.
        ModelError: the file is damaged, or was made with another model.
    """
    path = find_speaker(folder, name)
    if not path.is_file():
        known = ", ".join(map(repr, speaker_names(folder))) or "none"
        raise ConfigError(f"{folder}: knows no speaker {shown(name)} (known: {known}); `asr adapt` makes one")
    way_out = f"run `asr adapt` for {shown(name)} again"
    forms, metadata = read_tensor_forms(path, ModelError, "what is known of a speaker", way_out=way_out)
    if not same_name(metadata.get(_NAME, ""), name):
        raise ModelError(f"{path}: is of the speaker {shown(metadata.get(_NAME, ''))}; {way_out}")
    if metadata.get(_MODEL) != _mark_of(model):
        raise ModelError(f"{path}: was made with other weights of this model; {way_out}")
    own = own_weights(model)
    expected = {key: ("F16", tuple(tensor.shape)) for key, tensor in own.items()}
    expected[_MOMENTS] = ("F32", (2, model.logmel.filters.shape[1]))
    if any(expected.get(key) != (form.kind, form.shape) for key, form in forms.items()):
        raise ModelError(f"{path}: does not fit the model; {way_out}")
    tensors = read_tensors(path, ModelError)
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ModelError(f"{path}: holds numbers that are not finite; {way_out}")
    moments = tensors.pop(_MOMENTS).clone() if _MOMENTS in tensors else None
    return Speaker(name, {key: own[key] + tensor.float() for key, tensor in tensors.items()}, moments)


def _mark_of(model: AcousticModel) -> str:
    """Return a checksum of the model's biases and norms, which storing it in 8 bits leaves as they are."""
    vectors = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items() if tensor.ndim == 1}
    return tensors_checksum(vectors)
