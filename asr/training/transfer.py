"""Another model's weights → those of a new model, where they fit: fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from asr.bundle.bundle import ModelBundle, load_network
from asr.bundle.files import CONFIG, PRETRAINED
from asr.bundle.settings import load_settings
from asr.config import FeatureSettings
from asr.errors import ConfigError, ModelError
from asr.model.acoustic import AcousticModel
from asr.model.pretraining import Trunk
from asr.sharing.names import model_folder
from asr.text.tokens import TokenTable


@dataclass(frozen=True)
class Transfer:
    """What a new model took from the one in `source`: the names of tensors, and the reason for each that was left.

    `shared_tokens` of the new model's `tokens` are known to the old one, the blank included: their rows of the output
    layer were taken. It is 0 if the old network has no output layer.
    """

    source: Path
    taken: tuple[str, ...]
    left: dict[str, str]
    shared_tokens: int
    tokens: int


@torch.no_grad()
def transfer_weights(source: Path, model: AcousticModel, tokens: TokenTable, features: FeatureSettings) -> Transfer:
    """Copy the weights of the folder `source`, a model or a pretrained network, into `model` where they fit.

    A tensor fits if name and shape agree. The output layer is copied row by row, by token, because another language or
    another training text has another token table; the rows of new tokens keep their random start. Mean and deviation of
    the features are copied if the features are the same; otherwise those of the new training set stay.

    Raises:
        ModelError: `source` is no such folder, or nothing of it fits.
    """
    origin = _load(source)
    old, new = origin.model.state_dict(), model.state_dict()
    taken: list[str] = []
    left = dict.fromkeys(sorted(old.keys() - new.keys()), "the new model has no such tensor")
    row_of = {symbol: row for row, symbol in enumerate(origin.symbols)}
    shared = {row: row_of[symbol] for row, symbol in enumerate(tokens.symbols) if symbol in row_of}
    for name, tensor in new.items():
        if name not in old:
            left[name] = (
                f"{source} has no such tensor" if origin.symbols else "a pretrained network has no output layer"
            )
        elif name.startswith("output."):
            reason = _copy_rows(tensor, old[name], shared)
            if reason:
                left[name] = reason
            else:
                taken.append(name)
        elif name.startswith("cmvn.") and features != origin.features:
            left[name] = f"{source} has other features"
        elif tensor.shape != old[name].shape:
            left[name] = f"its shape is {tuple(tensor.shape)}, that of {source} {tuple(old[name].shape)}"
        else:
            tensor.copy_(old[name])
            taken.append(name)
    if not taken:
        raise ModelError(f"{source}: no weight fits a model of these settings; see its {CONFIG}")
    return Transfer(source, tuple(taken), left, len(shared), len(tokens))


@dataclass(frozen=True)
class _Origin:
    """A model, its features and its tokens; a pretrained network has none."""

    model: AcousticModel
    features: FeatureSettings
    symbols: tuple[str, ...]


def _load(source: Path) -> _Origin:
    folder = model_folder(source)
    if not (folder / PRETRAINED).is_file():
        bundle = ModelBundle.load(folder)
        return _Origin(bundle.model, bundle.config.features, tuple(bundle.tokens.symbols))
    try:
        config = load_settings(folder)
    except ConfigError as error:
        first, *others = error.args
        raise ModelError(f"the folder is damaged: {first}", *others) from None
    trunk = load_network(folder / PRETRAINED, lambda: Trunk(config), ModelError, CONFIG)
    return _Origin(trunk, config.features, ())


def _copy_rows(new: Tensor, old: Tensor, shared: Mapping[int, int]) -> str:
    """Copy the rows of `shared` tokens (new row → old row); return the reason if they do not fit."""
    if new.shape[1:] != old.shape[1:]:
        return f"a row is {tuple(new.shape[1:])} wide, there {tuple(old.shape[1:])}"
    new[list(shared)] = old[list(shared.values())]
    return ""
