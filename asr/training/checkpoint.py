"""A run on disk: one safetensors file. Tensors are stored by name, everything else as JSON in the file's header.

A new file is written under a temporary name. Then the file before it becomes `previous.safetensors`, and the new one
takes its name. After a kill at any moment, or with a full disk, at least one whole checkpoint remains.

Whatever is read is checked: the bytes by a checksum, values by their types, tensors by name, kind and shape.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from asr.bundle.tensors import let_go, tensors_checksum
from asr.errors import ConfigError, ModelError, TrainingError
from asr.files import atomic_path, replace_file
from asr.reading import first_line, parse_json, shown
from asr.records import Record, checked
from asr.training.run_state import RunState, state_from_json, state_to_json

VERSION = 4  # of what the header holds, and of the features that the weights are for
_MOST_HEADER = 1 << 24  # characters
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of a parameter
LAST, PREVIOUS = "last.safetensors", "previous.safetensors"


def find_checkpoint(folder: Path) -> tuple[Path | None, str | None]:
    """Return the newest readable checkpoint of a folder and, if it is not the newest of all, what is wrong with that.

    Raises:
        ModelError: there are checkpoints and none can be read.
    """
    damage: list[str] = []
    for path in (folder / LAST, folder / PREVIOUS):
        if path.exists():
            try:
                _read(path, with_tensors=True)
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
    """Write modules, optimiser and state to `last.safetensors`; the checkpoint before it becomes `previous`.

    If that one is damaged, it is overwritten and `previous` stays.

    Args:
        folder: where the checkpoints are.
        state: the run's position.
        modules: prefix → module.
        optimizer: its tensors are saved by the index of their parameter.
        facts: JSON values (settings, tokens) that `read_facts` returns.

    Raises:
        TrainingError: it cannot be written, for instance because the disk is full; the previous one is intact.
    """
    path = folder / LAST
    tensors = _tensors_of(modules)
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    run = {
        "version": VERSION,
        "crc32": tensors_checksum(tensors),
        "state": state_to_json(state),
        "facts": facts,
    }
    header = {"run": json.dumps(run, allow_nan=False)}
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=header)
            if _is_whole(path):
                replace_file(path, folder / PREVIOUS)
    except (OSError, SafetensorError) as error:
        kept = path.exists() or (folder / PREVIOUS).exists()
        before = "the one before it is intact" if kept else "there is none before it, so the run begins anew"
        raise TrainingError(
            f"{path}: cannot write the checkpoint ({error}); {before}. "
            "Make room or permission, then go on with --resume"
        ) from None


def load_checkpoint(path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer) -> RunState:
    """Load what `save_checkpoint` wrote into the same modules and optimiser.

    Raises:
        ModelError: the file is missing, damaged, or of another network.
    """
    tensors, run = _read(path, with_tensors=True)
    state = _state(path, run)
    moments = _moments(path, optimizer, _below(tensors, "optimizer"))
    _require_fit(
        path,
        _tensors_of(modules),
        {name: value for name, value in tensors.items() if not name.startswith("optimizer.")},
    )
    for prefix, module in modules.items():
        module.load_state_dict(_below(tensors, prefix))
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    return state


def read_state(path: Path) -> RunState:
    """Return how far the run of a checkpoint has come; its tensors are not read.

    Raises:
        ModelError: the file is missing or damaged.
    """
    return _state(path, _read(path)[1])


def _state(path: Path, run: _Header) -> RunState:
    try:
        return state_from_json(run.state)
    except ValueError as error:
        raise ModelError(f"{path}: not a readable checkpoint (state: {error})") from None


def _tensors_of(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {
        f"{prefix}.{name}": tensor for prefix, module in modules.items() for name, tensor in module.state_dict().items()
    }


def _require_fit(path: Path, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Refuse tensors of another network, of other kinds, or with numbers that are not finite; the message names one."""
    strange = next(iter(given.keys() - wanted.keys()), None)
    if strange is not None:
        raise _unfit(path, f"{shown(strange)} is no tensor of this network")
    for name, tensor in wanted.items():
        found = given.get(name)
        if found is None:
            raise _unfit(path, f"{name} is missing")
        if found.shape != tensor.shape:
            raise _unfit(path, f"{name} has the shape {tuple(found.shape)}, {tuple(tensor.shape)} is needed")
        if found.dtype != tensor.dtype:
            raise _unfit(path, f"{name} is of type {found.dtype}, {tensor.dtype} is needed")
        if found.is_floating_point() and not found.isfinite().all():
            raise _unfit(path, f"{name} holds numbers that are not finite")


def _unfit(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"{path}: the checkpoint does not fit these settings ({reason}); remove it, so that --resume takes the one "
        "before it, or choose another --out"
    )


def _moments(
    path: Path, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> dict[int, dict[str, Tensor]]:
    """Return the optimiser's tensors by parameter; a parameter has all of them, or none if it never took a step."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    stepped = {name.partition(".")[0] for name in tensors}
    numbers = [number for number in range(len(parameters)) if str(number) in stepped]
    wanted: dict[str, Tensor] = {}
    for number in numbers:
        like = parameters[number].detach().float()
        wanted |= dict(
            zip((f"optimizer.{number}.{key}" for key in _MOMENTS), (torch.zeros(()), like, like), strict=True)
        )
    _require_fit(path, wanted, {f"optimizer.{name}": tensor for name, tensor in tensors.items()})
    if any((tensor < 0).any() for name, tensor in tensors.items() if not name.endswith(".exp_avg")):
        raise _unfit(path, "the optimiser counts steps or squares below 0")
    return {number: {key: tensors[f"{number}.{key}"] for key in _MOMENTS} for number in numbers}


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a checkpoint; its tensors are not read.

    Raises:
        ModelError: the file is missing or damaged.
    """
    return _read(path)[1].facts.model_dump()


def require_same(
    checkpoint: Path, wanted: dict[str, Any], defaults: Mapping[str, Mapping[str, Any]], *, or_else: str = ""
) -> None:
    """Refuse to resume a run with other settings or another token table; the message names what differs.

    Args:
        checkpoint: of the run.
        wanted: the run's facts as they are now; `settings` holds sections of values.
        defaults: the values of settings that did not exist when the checkpoint was written. Those without a default
            are not compared.
        or_else: another way out, for the message.

    Raises:
        ConfigError: something differs.
    """
    saved = read_facts(checkpoint)
    differing = []
    for section, values in wanted["settings"].items():
        before = {**defaults.get(section, {}), **saved["settings"].get(section, {})}
        differing += [
            f"{section}.{key} was {_shown(before[key])}, is {_shown(value)}{_MEANINGS.get((section, key), '')}"
            for key, value in values.items()
            if key in before and before[key] != value
        ]
    if saved["tokens"] != wanted["tokens"]:
        differing.append("the tokens of the training text")
    if differing:
        raise ConfigError(
            f"{checkpoint}: cannot resume with other settings or data ({'; '.join(differing)}); choose another --out"
            f"{or_else}"
        )


_MEANINGS = {
    ("data", "teachers"): " (weights of the teachers)",
    ("data", "checksum"): " (ids, lengths or transcripts of train)",
    ("data", "dev_checksum"): " (ids, lengths or transcripts of dev)",
    ("data", "noise_checksum"): " (names or sizes of the recordings of noise and rooms)",
}


def _shown(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else repr(value)  # a sum of durations has many last digits


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def _is_whole(path: Path) -> bool:
    """Return whether a checkpoint exists and can be read; its length is checked, not its tensors."""
    try:
        _read(path)
    except ModelError:
        return False
    return True


class _Facts(Record):
    settings: dict[str, dict[str, Any]]
    tokens: list[str]


class _Header(Record):
    """What the header holds; older checkpoints have no checksum, or another."""

    state: dict[str, Any]
    facts: _Facts
    crc32: str | None = None


def _read(path: Path, *, with_tensors: bool = False) -> tuple[dict[str, Tensor], _Header]:
    """Return a checkpoint's tensors, if they are asked for, and its header."""
    unreadable = f"{path}: not a readable checkpoint"
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {})["run"]
            names = list(file.keys())
            tensors = let_go({name: file.get_tensor(name) for name in names}) if with_tensors else {}
    except KeyError:
        raise ModelError(f"{unreadable} (it holds no run)") from None
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise ModelError(f"{unreadable} ({first_line(str(error))})") from None
    if len(text) > _MOST_HEADER:
        raise ModelError(f"{unreadable} (its header has {len(text):,} characters)")
    run = parse_json(text, ModelError, unreadable)
    version = run.get("version", 1) if isinstance(run, dict) else 1
    if version != VERSION:
        reason = f"its format has the number {shown(version)}, this version of asr reads {VERSION}"
        raise ModelError(f"{unreadable} ({reason})")
    header = checked(_Header, run, unreadable, ModelError, "take the one before it, or choose another --out")
    if with_tensors and header.crc32 not in (None, tensors_checksum(tensors)):
        raise ModelError(f"{unreadable} (its checksum is wrong)")
    return tensors, header
