"""One training run: the model, its average, the optimiser and how far they have come, in memory and on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from asr.config import Config
from asr.data.tokens import TokenTable
from asr.errors import ConfigError, TrainingError
from asr.model.acoustic import AcousticModel
from asr.training.average import WeightAverage
from asr.training.checkpoint import RunState, load_checkpoint, read_facts, save_checkpoint

# Settings by which the result does not change: a run may be resumed with others.
WITHOUT_INFLUENCE: dict[str, set[str] | bool] = {
    "training": {"accelerator", "micro_batch_s", "checkpoint_every_s"},
    "decode": True,
}


@dataclass(frozen=True)
class Run:
    """What is trained. `wrapped` is `model` as the engine runs it; `first` is true in one process only."""

    fabric: Fabric
    model: AcousticModel
    wrapped: nn.Module
    average: WeightAverage
    optimizer: torch.optim.Optimizer
    state: RunState
    facts: dict[str, Any]
    checkpoints: Path

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and reports."""
        return self.fabric.is_global_zero

    def save(self) -> None:
        """Write a checkpoint; every process calls this.

        Raises:
            TrainingError: it cannot be written.
        """
        if self.first:
            modules = {"model": self.model, "average": self.average.model}
            save_checkpoint(self.checkpoints, self.state, modules, self.optimizer, self.facts)
        self.fabric.barrier()


def start_run(
    fabric: Fabric,
    config: Config,
    tokens: TokenTable,
    data: dict[str, Any],
    model: AcousticModel,
    checkpoints: Path,
    resume_from: Path | None,
) -> Run:
    """Set up the run of a fresh model, or load the checkpoint `resume_from` into it.

    Args:
        fabric: the engine.
        config: all settings.
        tokens: of the training text.
        data: what tells the training data from other data, as JSON values.
        model: with its first weights.
        checkpoints: the folder for the run's state.
        resume_from: a checkpoint in it.

    Raises:
        ConfigError: the checkpoint is of a run with other settings, data or tokens.
        ModelError: it cannot be read.
        TrainingError: the processes did not all load the same.
    """
    settings = config.training
    average = WeightAverage(model, settings.ema_decay)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings.weight_decay), lr=0.0, betas=(0.9, 0.98), fused=True)
    wrapped, optimizer = fabric.setup(model, optimizer)
    average.model.to(fabric.device)
    settings_of_run = config.model_dump(mode="json", exclude=WITHOUT_INFLUENCE)
    facts = {"settings": settings_of_run | {"data": data}, "tokens": list(tokens.symbols)}
    state = RunState()
    if resume_from:
        require_same(resume_from, facts, Config().model_dump(mode="json"))
        state = load_checkpoint(resume_from, {"model": model, "average": average.model}, optimizer)
    # All have read the checkpoint before one writes the next.
    place = torch.tensor([state.step, state.epoch, state.batch], device=fabric.device)
    places = cast(Tensor, fabric.all_gather(place)).reshape(-1, len(place))
    if (places != place).any():
        raise TrainingError(
            f"{checkpoints}: the processes found different checkpoints there; --out must be a folder that all machines "
            "share"
        )
    return Run(fabric, model, wrapped, average, optimizer, state, facts, checkpoints)


def require_same(checkpoint: Path, wanted: dict[str, Any], defaults: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse to resume a run with other settings or another token table; the message names what differs.

    Args:
        checkpoint: of the run.
        wanted: its facts as they are now, values in sections of `settings`.
        defaults: what stands for values that did not exist when the checkpoint was written; those without a default
            are not compared then.

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


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split parameters into matrices, which decay, and biases and gains, which do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
