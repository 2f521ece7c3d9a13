"""What an acoustic training run changes, in memory and on disk: the model, its average, the optimiser, the position."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from asr.config import Config
from asr.errors import TrainingError
from asr.model.acoustic import AcousticModel
from asr.text.tokens import TokenTable
from asr.training.checkpoint import RunState, load_checkpoint, require_same, save_checkpoint
from asr.training.optimisation import WeightAverage, parameter_groups

# Settings that do not change the result: a run may be resumed with others.
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
        """Whether this process writes files and reports."""
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
        data: JSON values that distinguish the training data from other data.
        model: with its first weights.
        checkpoints: the folder for the run's state.
        resume_from: a checkpoint in it.

    Raises:
        ConfigError: the checkpoint is of a run with other settings, data or tokens.
        ModelError: it cannot be read.
        TrainingError: the processes did not all load the same checkpoint.
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
