"""A run's whole state in one safetensors file: tensors by name, everything else as JSON in its header.

Written to a temporary name and renamed, so a run killed at any moment leaves the previous checkpoint or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from asr.data.files import atomic_path
from asr.errors import ModelError


@dataclass
class RunState:
    """How far a run has come; the next batch to train on is number `batch` of `epoch`, both counted from 0.

    `utterances` of this epoch have been trained on; `dev_wers` holds one figure for each finished epoch.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    utterances: int = 0
    dev_wers: list[float] = field(default_factory=list)


def save_checkpoint(
    path: Path,
    state: RunState,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
) -> None:
    """Write modules, optimiser and state.

    Args:
        path: the file, ending in `.safetensors`.
        state: the run's position.
        modules: prefix → module.
        optimizer: its per-parameter tensors are saved by index.
        facts: JSON values kept beside (settings, tokens), returned by `load_checkpoint`.
    """
    tensors = {
        f"{prefix}.{name}": tensor for prefix, module in modules.items() for name, tensor in module.state_dict().items()
    }
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"run": json.dumps({"state": asdict(state), "facts": facts})})


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a checkpoint without its tensors.

    Raises:
        ModelError: the file is missing or damaged.
    """
    return _read(path)[1]["facts"]  # type: ignore[no-any-return]


def load_checkpoint(path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> RunState:
    """Load what `save_checkpoint` wrote into the same modules and optimiser.

    Raises:
        ModelError: the file is missing, damaged, or of another network.
    """
    tensors, run = _read(path, with_tensors=True)
    try:
        for prefix, module in modules.items():
            module.load_state_dict(_below(tensors, prefix))
    except RuntimeError as error:
        raise ModelError(f"{path}: the checkpoint does not fit these settings ({error})") from None
    values = optimizer.state_dict()
    values["state"] = {}
    for name, tensor in _below(tensors, "optimizer").items():
        index, key = name.split(".")
        values["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(values)
    return RunState(**run["state"])


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def _read(path: Path, *, with_tensors: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            run = json.loads((file.metadata() or {})["run"])
            return ({name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}), run  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not a readable checkpoint ({error}); remove it to start anew") from None
