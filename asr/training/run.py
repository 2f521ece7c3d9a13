"""One training run: the model, its average, the optimiser and how far they have come, in memory and on disk.

An exponential moving average of the weights: the model that is evaluated and kept.

The learning rate as a function of how far the run has come: no hidden state, so a resumed run continues exactly.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from asr.config import Config, TrainingSettings
from asr.errors import TrainingError
from asr.model.acoustic import AcousticModel
from asr.text.tokens import TokenTable
from asr.training.checkpoint import RunState, load_checkpoint, require_same, save_checkpoint

# Settings by which the result does not change: a run may be resumed with others.
WITHOUT_INFLUENCE: dict[str, set[str] | bool] = {
    "training": {"accelerator", "micro_batch_s", "checkpoint_every_s"},
    "decode": True,
    "rnnlm": True,
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


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split parameters into matrices, which decay, and biases and gains, which do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


class WeightAverage:
    """`average ← decay · average + (1 - decay) · weights` after each step; the decay rises to its value at the start.

    Averaging along the path lands near the middle of the region that the steps wander in (Polyak & Juditsky 1992).
    """

    def __init__(self, model: AcousticModel, decay: float) -> None:
        """Start at the model's own weights."""
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: AcousticModel, step: int) -> None:
        """Move towards `model`; `step` counts from 1."""
        decay = min(self.decay, step / (step + 9))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)


def learning_rate(settings: TrainingSettings, progress: float, dev_scores: Sequence[float]) -> float:
    """Return the rate at `progress` (0 = start, 1 = end of the run).

    one-cycle: a rise over `warmup_share` of the run, then half a cosine down to 0 (Smith & Topin 2017).
    plateau: the same rise, then constant; halved whenever `plateau_patience` epochs brought no better dev WER.
    """
    warmup = settings.warmup_share
    if progress < warmup:
        return settings.learning_rate * max(progress / warmup, 0.01)
    if settings.schedule == "plateau":
        return settings.learning_rate * 0.5 ** halvings(dev_scores, settings.plateau_patience)
    fall = min((progress - warmup) / (1 - warmup), 1.0)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * fall))


def halvings(dev_scores: Sequence[float], patience: int) -> int:
    """Return how often `patience` epochs in a row brought no dev WER below the best before them."""
    best, waited, count = math.inf, 0, 0
    for wer in dev_scores:
        waited = 0 if wer < best else waited + 1
        best = min(best, wer)
        if waited == patience:
            count, waited = count + 1, 0
    return count
