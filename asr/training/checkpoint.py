"""A run's whole state in one safetensors file: tensors by name, everything else as JSON in its header.

A new file is written under a temporary name, the one before it becomes `previous.safetensors`, and the new one takes
its name. A run killed at any moment, or a disk that is full, leaves at least one whole checkpoint.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from asr.errors import ModelError, TrainingError
from asr.files import atomic_path

MOST_BAD_STEPS = 5  # without a finite gradient, in a row: more is no accident of one batch
LAST, PREVIOUS = "last.safetensors", "previous.safetensors"


@dataclass
class Tally:
    """Sums over the steps of the epoch that is under way; its report is made of them."""

    steps: int = 0
    loss: float = 0.0
    gradient_norms: dict[str, float] = field(default_factory=dict)
    clipped: int = 0
    spikes: int = 0
    skipped: int = 0
    audio_s: float = 0.0
    train_s: float = 0.0


@dataclass
class RunState:
    """How far a run has come; the next batch to train on is number `batch` of `epoch`, both counted from 0.

    `utterances` of this epoch have been trained on; `dev_wers` holds one figure for each finished epoch,
    none where dev is trained on.
    `loss_level` is a moving average of the loss (0 before the first step), `bad_steps` the number of steps in a row
    that were skipped.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    utterances: int = 0
    dev_wers: list[float] = field(default_factory=list)
    loss_level: float = 0.0
    bad_steps: int = 0
    tally: Tally = field(default_factory=Tally)


def find_checkpoint(folder: Path) -> tuple[Path | None, str | None]:
    """Return the newest usable checkpoint of `folder`, and why the newest of all could not be used if that is another.

    Raises:
        ModelError: there are checkpoints and none can be read.
    """
    damage: list[str] = []
    for path in (folder / LAST, folder / PREVIOUS):
        if path.exists():
            try:
                read_facts(path)
            except ModelError as error:
                damage.append(str(error))
            else:
                return path, damage[0] if damage else None
    if damage:
        raise ModelError(f"{'; '.join(damage)}; remove {folder.parent} to start anew, or choose another --out")
    return None, None


def save_checkpoint(
    folder: Path,
    state: RunState,
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    facts: dict[str, Any],
) -> None:
    """Write modules, optimiser and state to `last.safetensors`; the one before it becomes `previous.safetensors`.

    If that one is damaged it gives way, and what was `previous` stays.

    Args:
        folder: where the checkpoints lie.
        state: the run's position.
        modules: prefix → module.
        optimizer: its per-parameter tensors are saved by index.
        facts: JSON values kept beside (settings, tokens), returned by `read_facts`.

    Raises:
        TrainingError: it cannot be written, for instance because the disk is full; the previous one is intact.
    """
    path = folder / LAST
    tensors = {
        f"{prefix}.{name}": tensor for prefix, module in modules.items() for name, tensor in module.state_dict().items()
    }
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"run": json.dumps({"state": asdict(state), "facts": facts})}
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=header)
            if _is_whole(path):
                os.replace(path, folder / PREVIOUS)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{path}: cannot write the checkpoint ({error}); the one before it is intact. "
            "Make room or permission, then go on with --resume"
        ) from None


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a checkpoint without its tensors.

    Raises:
        ModelError: the file is missing or damaged.
    """
    return _read(path)[1]["facts"]  # type: ignore[no-any-return]


def _is_whole(path: Path) -> bool:
    """Return whether a checkpoint is there and can be read; its length is checked, not its tensors."""
    try:
        _read(path)
    except ModelError:
        return False
    return True


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
    return RunState(**run["state"] | {"tally": Tally(**run["state"]["tally"])})


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def _read(path: Path, *, with_tensors: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            run = json.loads((file.metadata() or {})["run"])
            return ({name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}), run  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not a readable checkpoint ({error})") from None
