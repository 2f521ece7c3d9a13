"""How an acoustic run begins: where it runs; with fresh weights, another model's where they fit, or a checkpoint's.

A `Run` is what training changes, in memory and on disk: the model, its average, the optimiser, the position.

It runs in one process, unless torchrun or Slurm started several. Then each takes one device, and gradients are averaged
over them (DistributedDataParallel).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from asr.bundle.bundle import ModelBundle
from asr.bundle.files import CONFIG
from asr.config import Config, FeatureSettings, TrainingSettings
from asr.errors import ModelError, TrainingError
from asr.machine import choose_accelerator
from asr.model.acoustic import AcousticModel
from asr.text.tokens import TokenTable
from asr.training.checkpoint import load_checkpoint, require_same, save_checkpoint
from asr.training.run_state import RunState
from asr.training.step import WeightAverage, parameter_groups

# Settings that do not change the result: a run may be resumed with others.
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


def make_fabric(settings: TrainingSettings) -> Fabric:
    """Return the engine; `auto` takes a GPU if there is one.

    Raises:
        DeviceError: `cuda` is asked for and there is none.
        TrainingError: the launcher's processes and devices do not fit together.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the start report says what it would say
    accelerator = choose_accelerator(settings.accelerator)
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and has_bf16(accelerator))
    launcher, devices, nodes = launched_processes(os.environ)
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            precision="bf16-mixed" if bf16 else "32-true",
            plugins=launcher(),  # Fabric's own guess takes any Slurm allocation for several processes, or none
        )
        fabric.launch()
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise TrainingError(
            f"training cannot start with {devices} processes on each of {nodes} machines: {error} (Slurm wants "
            "--ntasks-per-node and --gpus-per-node, so that each process sees all GPUs of its machine)"
        ) from error
    return fabric


def launched_processes(environment: Mapping[str, str]) -> tuple[type[ClusterEnvironment], int, int]:
    """Return how to speak with the launcher, the processes per machine, and the machines.

    torchrun and `srun` say so in the environment.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        processes, per_machine = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        return TorchElasticEnvironment, per_machine, processes // per_machine
    if "SLURM_STEP_ID" in environment and int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        processes, nodes = int(environment["SLURM_STEP_NUM_TASKS"]), int(environment.get("SLURM_STEP_NUM_NODES", "1"))
        return SLURMEnvironment, processes // nodes, nodes
    return LightningEnvironment, 1, 1  # neither of them started this process


def has_bf16(accelerator: str) -> bool:
    """Return whether the device multiplies bfloat16 in hardware; emulated bfloat16 is slower than float32."""
    if accelerator == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe)()) for probe in probes if hasattr(torch.cpu, probe))
