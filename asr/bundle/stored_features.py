"""A data folder with features: what a pretrained encoder makes of each utterance, computed once by `asr features`.

    DIR/features.json          which encoder, at which speeds utterances are played
    DIR/train.jsonl.gz, …      manifests, in which each cut names the file with its features
    DIR/features/train-….safetensors

A file holds the features of some minutes of consecutive utterances, in half precision: the hidden states of all layers,
`(frame, state, width)`, each normalised over the width. Their mix is learnt, so it is not stored. A manifest is written
after all its files, and each file whole or not at all. So work that was interrupted goes on where it stopped.

Why not lhotse's Shar: its features are read from tars in their order, while training draws utterances at random. A
safetensors file gives any of its tensors without reading the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor

from asr.bundle.files import FEATURES
from asr.config import Config, Factor
from asr.errors import ConfigError, ManifestError
from asr.files import to_json, write_text
from asr.model.encoder import EncoderIdentity
from asr.reading import first_line, read_json
from asr.records import Record, checked
from asr.settings_file import parse_config

if TYPE_CHECKING:
    from lhotse.cut import Cut

FOLDER = "features"
_FILE = "features_file"  # in a cut's custom fields
_SHARD_S = 120.0  # about as much audio, at all its speeds, is in a file


class StoredFeatures(Record):
    """What `features.json` says; `data` are checksums of the manifests by split, `folder` is where it was read."""

    version: Literal[1] = 1
    encoder: EncoderIdentity
    speeds: tuple[Factor, ...] = Field(min_length=1)
    data: dict[str, int]
    folder: Path = Field(Path(), exclude=True, strict=False)

    def save(self) -> None:
        """Write it into its folder."""
        write_text(self.folder / FEATURES, to_json(self.model_dump(mode="json"), indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> StoredFeatures | None:
        """Return what a data folder says of its features; None if it has none.

        Raises:
            ManifestError: the file is damaged.
        """
        path = folder / FEATURES
        if not path.is_file():
            return None
        way_out = "compute the features again, into another folder"
        content = read_json(path, ManifestError, "what the features are of", way_out=way_out)
        return checked(cls, content, path, ManifestError, way_out).model_copy(update={"folder": folder})

    def of(self, cut: Cut, speed: float = 1.0) -> Tensor:
        """Return the features of a cut of this folder, played at one of its speeds: `(frame, state, width)` float16.

        Raises:
            ManifestError: the file is missing or damaged, or has not these features.
        """
        file = (cut.custom or {}).get(_FILE)
        if not isinstance(file, str):
            raise ManifestError(f"{self.folder}: the manifest does not say where the features of {cut.id} are")
        path = self.folder / file
        try:
            with safe_open(path, framework="pt") as tensors:
                features: Tensor = tensors.get_tensor(name_of(cut.id, speed))
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise ManifestError(
                f"{path}: the features of {cut.id} cannot be read ({first_line(str(error))}); delete the file and the "
                "manifests beside it, and run `asr features` again"
            ) from None
        form = self.encoder.form
        if features.dtype != torch.float16 or features.shape[1:] != (form.states, form.hidden_size):
            raise ManifestError(f"{path}: what it holds of {cut.id} are no features of {self.encoder}")
        return features


def name_of(utterance_id: str, speed: float) -> str:
    """Return the name of an utterance's tensor."""
    return f"{speed:g}/{utterance_id}"


def file_of(split: str, number: int) -> str:
    """Return where a file of a split is, below the data folder."""
    return f"{FOLDER}/{split}-{number:06d}.safetensors"


def with_file(cut: Cut, file: str) -> Cut:
    """Return a cut that names the file with its features.

    Raises:
        ManifestError: the cut is mixed of several recordings.
    """
    if not hasattr(cut, "custom"):
        raise ManifestError(f"utterance {cut.id}: mixed of several recordings; write its audio to a file first")
    cut.custom = {**(cut.custom or {}), _FILE: file}
    return cut


def shards(cuts: Iterator[Cut], speeds: int) -> Iterator[list[Cut]]:
    """Yield consecutive cuts of a manifest whose features share a file; `speeds` is at how many each is played."""
    shard: list[Cut] = []
    for cut in cuts:
        shard.append(cut)
        if sum(item.duration for item in shard) * speeds >= _SHARD_S:
            yield shard
            shard = []
    if shard:
        yield shard


def with_stored_features(config: Config, data: Path) -> tuple[Config, StoredFeatures | None]:
    """Return the settings of a training on a data folder, and the folder's features if it has some.

    The encoder's folder has an absolute name in them, so that a model that was trained finds it from anywhere.

    Raises:
        ConfigError: a setting does not go with features that are computed already.
        ManifestError: what the folder says of its features is damaged.
    """
    stored = StoredFeatures.load(data)
    if stored is None:
        return _with_encoder(config, config.features.encoder), None
    augment, missing = config.augment, sorted(set(config.augment.speeds) - set(stored.speeds))
    if missing:
        held = ", ".join(f"{speed:g}" for speed in stored.speeds)
        options = " ".join(f"--speed {speed:g}" for speed in config.augment.speeds)
        raise ConfigError(
            f"augment.speeds: {data} holds features at the speed {held}, not {missing[0]:g}: set augment.speeds="
            f"[{held}], or compute them again with `asr features {options}`"
        )
    for key, value in (("noise_share", augment.noise_share), ("reverb_share", augment.reverb_share)):
        if value:
            raise ConfigError(f"augment.{key}={value:g}: features in {data} are computed already; set it to 0")
    if config.features.unfreeze_layers:
        raise ConfigError(
            f"features.unfreeze_layers={config.features.unfreeze_layers}: {data} holds what the frozen encoder "
            "computes; train on the data that it was computed from"
        )
    return _with_encoder(config, config.features.encoder or stored.encoder.name), stored


def _with_encoder(config: Config, name: str) -> Config:
    """Return the settings with this encoder in front; a folder gets its absolute name."""
    name = os.path.abspath(name) if name and Path(name).is_dir() else name
    if name == config.features.encoder:
        return config
    features = config.features.model_dump() | {"encoder": name}
    return parse_config(config.model_dump() | {"features": features}, f"the settings, with the encoder {name}")
