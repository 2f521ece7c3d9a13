"""How an acoustic run begins: where it runs; with fresh weights, another model's where they fit, or a checkpoint's.

A `Run` is what training changes, in memory and on disk: the model, its average, the optimiser, the position.

It runs in one process, unless torchrun or Slurm started several. Then each takes one device, and gradients are averaged
over them (DistributedDataParallel).

A new run times a step of its own network in each way in which it could compute, and keeps the way in its checkpoints. A
resumed run computes as before, so it is the same run, bit for bit.
"""

from __future__ import annotations

import atexit
import copy
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.plugins.precision import Precision as PrecisionPlugin
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from asr.bundle.bundle import ModelBundle
from asr.bundle.files import CONFIG
from asr.config import Config, FeatureSettings, TrainingSettings
from asr.errors import ModelError, TrainingError
from asr.features.augment import Draw, draw_perturbation
from asr.features.batch import Batch, collate, frame_count
from asr.machine import choose_accelerator, cores
from asr.model.acoustic import AcousticModel
from asr.model.computation import (
    Comparison,
    Computation,
    Precision,
    choose,
    given_threads,
    thread_counts,
    threads,
)
from asr.text.tokens import TokenTable
from asr.training.checkpoint import load_checkpoint, require_same, save_checkpoint
from asr.training.run_state import RunState
from asr.training.step import WeightAverage, batch_loss, gradient_norms, parameter_groups

# Settings that do not change the result: a run may be resumed with others.
WITHOUT_INFLUENCE: dict[str, set[str] | bool] = {
    "training": {"accelerator", "micro_batch_s", "checkpoint_every_s", "loading_processes"},
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


class NumberFormat(PrecisionPlugin):
    """In which numbers the network computes: the engine asks it whenever it runs the network.

    Only what autocast rounds is bfloat16. The engine's own plugin for it rounds the network's inputs too, so the
    network would hear recordings of 8 bits in training, and others when it is used.

    Attributes:
        chosen: it may change until the first step.
    """

    def __init__(self, device: str) -> None:
        """Begin with float32; `device` is `cpu` or `cuda`."""
        self.chosen: Precision = "fp32"
        self._device = device

    def forward_context(self) -> AbstractContextManager[Any]:
        """Return the context in which the network runs."""
        return torch.autocast(self._device, torch.bfloat16, enabled=self.chosen == "bf16")


def make_fabric(settings: TrainingSettings) -> Fabric:
    """Return the engine, which computes in float32 at first; `auto` takes a GPU if there is one.

    Raises:
        DeviceError: `cuda` is asked for and there is none.
        TrainingError: the launcher's processes and devices do not fit together.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # the start report says what it would say
    accelerator = choose_accelerator(settings.accelerator)
    launcher, devices, nodes = launched_processes(os.environ)
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            # Fabric's own guess takes any Slurm allocation for several processes, or none.
            plugins=[launcher(), NumberFormat(accelerator)],
        )
        fabric.launch()
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise TrainingError(
            f"training cannot start with {devices} processes on each of {nodes} machines: {error} (Slurm wants "
            "--ntasks-per-node and --gpus-per-node, so that each process sees all GPUs of its machine)"
        ) from error
    atexit.register(_leave_the_other_processes)
    return fabric


def _leave_the_other_processes() -> None:
    """End the communication while Python still runs.

    Its threads hold tensors. If they let go of one when Python has ended, they abort the process.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


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


def loading_processes(wished: int | None, device: str) -> int:
    """Return how many processes load audio for this one; 0 where the system does not fork.

    Args:
        wished: by the settings; None takes this process's share of the cores but one for a GPU, and none for a CPU.
        device: cuda or cpu.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return 0
    if wished is not None or device != "cuda":
        return wished or 0
    _, processes, _ = launched_processes(os.environ)
    return max(1, min(16, cores() // processes - 1))


def choose_computation(run: Run, config: Config, mean_s: float) -> list[Comparison[Computation]]:
    """Let the run compute as its checkpoint says, or as the user says, or in the way that proves the quickest.

    Every process calls this; the first one chooses for all. The way is kept in the run's state, and number format and
    threads are set from now on.

    Args:
        run: at its start.
        config: all settings.
        mean_s: mean duration of the utterances.

    Returns:
        What was timed, in the first process.
    """
    state, timed = run.state, list[Comparison[Computation]]()
    formats, counts = possible_ways(config.training, run.fabric.device)
    ways = [Computation(precision, count) for precision in formats for count in counts]
    if state.precision is not None and state.threads is not None:
        way = Computation(state.precision, given_threads() or state.threads)
    elif len(ways) == 1:
        way = ways[0]
    else:
        if run.first:
            timed = time_steps(run, config, mean_s, formats, counts)
        number = torch.tensor(ways.index(timed[-1].chosen) if timed else 0, device=run.fabric.device)
        way = ways[int(cast(Tensor, run.fabric.all_reduce(number, reduce_op="sum")))]
    state.precision, state.threads = way.precision, way.threads
    cast(NumberFormat, run.fabric._precision).chosen = way.precision
    return timed


def possible_ways(settings: TrainingSettings, device: torch.device) -> tuple[tuple[Precision, ...], tuple[int, ...]]:
    """Return the number formats and numbers of threads that settings and device leave, the plainest first."""
    if device.type == "cpu":
        counts, has_bf16 = thread_counts(), True
    else:
        counts, has_bf16 = (torch.get_num_threads(),), torch.cuda.is_bf16_supported(including_emulation=False)
    formats: tuple[Precision, ...] = ("fp32", "bf16") if has_bf16 else ("fp32",)
    if settings.precision != "auto":
        formats = (settings.precision,)
    return formats, counts


def time_steps(
    run: Run, config: Config, mean_s: float, formats: Sequence[Precision], counts: Sequence[int]
) -> list[Comparison[Computation]]:
    """Time optimiser steps of a copy of the run's network, on noise of the usual length; nothing of the run changes."""
    device = run.fabric.device
    model = copy.deepcopy(run.model).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, config.training.weight_decay), lr=0.0, fused=True)

    def prepare(share: float) -> Callable[[Computation], object]:
        batch = noise_batch(model, config, mean_s, share, run.fabric.world_size)

        def step(way: Computation) -> None:
            with threads(way.threads):
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(device.type, torch.bfloat16, enabled=way.precision == "bf16"):
                    loss = batch_loss(model, batch, config).total
                loss.backward()  # type: ignore[no-untyped-call]
                gradient_norms(model)
                optimizer.step()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)

        return step

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        if device.type == "cuda":
            return choose(formats, counts, prepare, processor_clock=time.perf_counter)
        return choose(formats, counts, prepare)


def noise_batch(model: AcousticModel, config: Config, mean_s: float, share: float, processes: int) -> Batch:
    """Return a share of one process's usual batch: as many utterances of noise, but shorter, or fewer.

    Args:
        model: on its device.
        config: all settings.
        mean_s: mean duration of the utterances.
        share: of the audio of a pass through the network.
        processes: among which a step is shared out.
    """
    settings = config.training
    pass_s = min(settings.batch_s / processes, settings.micro_batch_s or settings.batch_s)
    audio_s = share * max(pass_s, mean_s)
    duration_s = min(mean_s, max(share * mean_s, 0.5))
    rows = max(1, round(audio_s / duration_s))
    samples = round(duration_s * model.sample_rate_hz)
    tokens = 1 + torch.arange(max(1, samples // model.frame_samples // 4)) % (model.output.out_features - 1)
    noise = 0.1 * torch.randn(rows, samples)
    ids = [f"noise {row}" for row in range(rows)]
    frames = [frame_count(samples, config.features)] * rows
    perturbation = draw_perturbation(ids, frames, [1.0] * rows, config, Draw(settings.seed, 0))
    return collate(list(noise), [tokens.tolist()] * rows, ids, perturbation).to(model.output.weight.device)
