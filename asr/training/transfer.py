"""Another model's weights → those of a new model, where they fit: fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from asr.bundle.bundle import ModelBundle
from asr.bundle.files import CONFIG
from asr.config import FeatureSettings
from asr.errors import ModelError
from asr.model.acoustic import AcousticModel
from asr.text.tokens import TokenTable


@dataclass(frozen=True)
class Transfer:
    """What a new model took from the one in `source`: the names of tensors, and the reason for each that was left.

    `shared_tokens` of the new model's `tokens` are known to the old one, the blank included: their rows of the output
    layer were taken.
    """

    source: Path
    taken: tuple[str, ...]
    left: dict[str, str]
    shared_tokens: int
    tokens: int


@torch.no_grad()
def transfer_weights(source: Path, model: AcousticModel, tokens: TokenTable, features: FeatureSettings) -> Transfer:
    """Copy the weights of the model folder `source` into `model` where they fit.

    A tensor fits if name and shape agree. The output layer is copied row by row, by token, because another language or
    another training text has another token table; the rows of new tokens keep their random start. Mean and deviation of
    the features are copied if the features are the same; otherwise those of the new training set stay.

    Raises:
        ModelError: `source` is no model folder, or nothing of it fits.
    """
    bundle = ModelBundle.load(source)
    old, new = bundle.model.state_dict(), model.state_dict()
    taken: list[str] = []
    left = dict.fromkeys(sorted(old.keys() - new.keys()), "the new model has no such tensor")
    row_of = {symbol: row for row, symbol in enumerate(bundle.tokens.symbols)}
    shared = {row: row_of[symbol] for row, symbol in enumerate(tokens.symbols) if symbol in row_of}
    for name, tensor in new.items():
        if name not in old:
            left[name] = f"{source} has no such tensor"
        elif name.startswith("output."):
            reason = _copy_rows(tensor, old[name], shared)
            if reason:
                left[name] = reason
            else:
                taken.append(name)
        elif name.startswith("cmvn.") and features != bundle.config.features:
            left[name] = f"{source} has other features"
        elif tensor.shape != old[name].shape:
            left[name] = f"its shape is {tuple(tensor.shape)}, that of {source} {tuple(old[name].shape)}"
        else:
            tensor.copy_(old[name])
            taken.append(name)
    if not taken:
        raise ModelError(f"{source}: no weight fits a model of these settings; see its {CONFIG}")
    return Transfer(source, tuple(taken), left, len(shared), len(tokens))


def _copy_rows(new: Tensor, old: Tensor, shared: Mapping[int, int]) -> str:
    """Copy the rows of `shared` tokens (new row → old row); return the reason if they do not fit."""
    if new.shape[1:] != old.shape[1:]:
        return f"a row is {tuple(new.shape[1:])} wide, there {tuple(old.shape[1:])}"
    new[list(shared)] = old[list(shared.values())]
    return ""
