"""A run on disk: one safetensors file. Tensors are stored by name, everything else as JSON in the file's header.

A new file is written under a temporary name. Then the file before it becomes `previous.safetensors`, and the new one
takes its name. After a kill at any moment, or with a full disk, at least one whole checkpoint remains.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from asr.errors import ConfigError, ModelError, TrainingError
from asr.files import atomic_path
from asr.training.dev_score import BestEpoch, DevScore, best_epoch

VERSION = 4  # of what the header holds, and of the features that the weights are for
LAST, PREVIOUS = "last.safetensors", "previous.safetensors"
MOST_BAD_STEPS = 5  # without a finite gradient, in a row; more of them have another cause than one odd batch


@dataclass
class EpochSums:
    """Sums over the steps of the current epoch, from which its report is made."""

    steps: int = 0
    loss: float = 0.0
    gradient_norms: dict[str, float] = field(default_factory=dict)
    clipped: int = 0
    spikes: int = 0
    skipped: int = 0
    audio_s: float = 0.0
    train_s: float = 0.0

    def mean(self, total: float) -> float:
        """Return a sum divided by the number of steps; 0 if there was none."""
        return total / max(1, self.steps)


@dataclass
class RunState:
    """How far a run has come. The next batch is number `batch` of epoch `epoch`, both counted from 0.

    `step` counts all steps, `utterances` those trained on in this epoch. `dev_scores` holds a figure for each finished
    epoch, lower is better: an error rate or a perplexity; `improved` says whether that epoch's weights were kept. Both
    are empty without a dev set. `best` is what the choice of an acoustic model's epoch goes by. `loss_level` is a
    moving average of the loss, 0 before the first step. `bad_steps` counts the skipped steps since the last one that
    was taken. `init_from` is the model folder that the run took weights from.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    utterances: int = 0
    dev_scores: list[float] = field(default_factory=list)
    improved: list[bool] = field(default_factory=list)
    best: BestEpoch | None = None
    loss_level: float = 0.0
    bad_steps: int = 0
    init_from: str | None = None
    sums: EpochSums = field(default_factory=EpochSums)

    def count_step(self, loss: float, *, clipped: bool) -> None:
        """Count a step that was taken."""
        self.bad_steps = 0
        self.sums.steps += 1
        self.sums.loss += loss
        self.sums.clipped += clipped

    def count_bad_step(self) -> bool:
        """Count a step without a finite gradient; return whether there were `MOST_BAD_STEPS` in a row."""
        self.bad_steps += 1
        self.sums.skipped += 1
        return self.bad_steps >= MOST_BAD_STEPS

    def take_dev_score(self, score: DevScore | float | None) -> bool:
        """Keep an epoch's score, or its perplexity; return whether it is as good as the best before it.

        Without a dev set the newest epoch always is.
        """
        if score is None:
            return True
        if isinstance(score, float):
            figure, better = score, score <= min(self.dev_scores, default=math.inf)
        else:
            self.best = best_epoch(self.best, score)
            figure, better = score.rate, self.best.kept is score
        self.dev_scores.append(figure)
        self.improved.append(better)
        return better

    @property
    def kept_dev_score(self) -> float | None:
        """The figure of the epoch whose weights are kept; None without a dev set or a finished epoch."""
        kept = [score for score, better in zip(self.dev_scores, self.improved, strict=True) if better]
        return kept[-1] if kept else None

    def end_epoch(self) -> None:
        """Turn to the next epoch."""
        self.epoch, self.batch, self.utterances, self.sums = self.epoch + 1, 0, 0, EpochSums()


def find_checkpoint(folder: Path) -> tuple[Path | None, str | None]:
    """Return the newest readable checkpoint of a folder and, if it is not the newest of all, what is wrong with that.

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
    tensors = {
        f"{prefix}.{name}": tensor for prefix, module in modules.items() for name, tensor in module.state_dict().items()
    }
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"run": json.dumps({"version": VERSION, "state": asdict(state), "facts": facts})}
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
    state = run["state"]
    best = state["best"] and BestEpoch.from_json(state["best"])
    return RunState(**state | {"best": best, "sums": EpochSums(**state["sums"])})


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts of a checkpoint; its tensors are not read.

    Raises:
        ModelError: the file is missing or damaged.
    """
    return _read(path)[1]["facts"]  # type: ignore[no-any-return]


def require_same(checkpoint: Path, wanted: dict[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to resume a run with other settings or another token table; the message names what differs.

    Args:
        checkpoint: of the run.
        wanted: the run's facts as they are now; `settings` holds sections of values.
        defaults: the values of settings that did not exist when the checkpoint was written. Those without a default
            are not compared.

    Raises:
        ConfigError: something differs.
    """
    saved = read_facts(checkpoint)
    differing = []
    for section, values in wanted["settings"].items():
        before = {**defaults.get(section, {}), **saved["settings"].get(section, {})}
        differing += [
            f"{section}.{key} was {_shown(before[key])}, is {_shown(value)}"
            for key, value in values.items()
            if key in before and before[key] != value
        ]
    if saved["tokens"] != wanted["tokens"]:
        differing.append("the tokens of the training text")
    if differing:
        raise ConfigError(
            f"{checkpoint}: cannot resume with other settings or data ({'; '.join(differing)}); choose another --out "
            f"(--init-from {checkpoint.parent.parent} starts from its weights)"
        )


def _shown(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else repr(value)  # a sum of durations has many last digits


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def _is_whole(path: Path) -> bool:
    """Return whether a checkpoint exists and can be read; its length is checked, not its tensors."""
    try:
        _read(path)
    except ModelError:
        return False
    return True


def _read(path: Path, *, with_tensors: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            run = json.loads((file.metadata() or {})["run"])
            if (version := run.get("version", 1)) != VERSION:
                raise ValueError(f"its format has the number {version}, this version of asr reads {VERSION}")
            return ({name: file.get_tensor(name) for name in file.keys()} if with_tensors else {}), run  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not a readable checkpoint ({error})") from None
