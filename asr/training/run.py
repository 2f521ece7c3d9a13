"""How a run of the acoustic network begins: with fresh weights or a checkpoint's, in the quickest way to compute.

A `Run` is what training changes, in memory and on disk: the model, its average, the optimiser, the position.

A new run times a step of its own network in each way in which it could compute, and keeps the way in its checkpoints. A
resumed run computes as before, so it is the same run, bit for bit.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from asr.bundle.encoder_folder import load_encoder
from asr.bundle.stored_features import StoredFeatures
from asr.config import Config, TrainingSettings
from asr.errors import TrainingError
from asr.features.augment import Draw, draw_perturbation
from asr.features.batch import Batch, collate, frame_count
from asr.features.batching import Share, StepBatch, prefetch, training_batches
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
from asr.training.engine import NumberFormat, loading_processes
from asr.training.run_state import RunState
from asr.training.step import WeightAverage, batch_loss, gradient_norms, parameter_groups

Network = TypeVar("Network", bound=nn.Module)
# Gets a network and a share of a usual batch; returns a function that computes the loss of that share.
Trial: TypeAlias = Callable[[Network, float], Callable[[], Tensor]]

# Settings that do not change the result: a run may be resumed with others.
WITHOUT_INFLUENCE: dict[str, set[str] | bool] = {
    "training": {
        *("accelerator", "micro_batch_s", "checkpoint_every_s", "loading_processes"),
        *("tracker", "tracker_project"),
    },
    "pretraining": True,
    "decode": True,
    "rnnlm": True,
}


@dataclass(frozen=True)
class Run(Generic[Network]):
    """What is trained. `wrapped` is `model` as the engine runs it; `first` is true in one process only."""

    fabric: Fabric
    model: Network
    wrapped: nn.Module
    average: WeightAverage[Network]
    optimizer: torch.optim.Optimizer
    state: RunState
    facts: dict[str, Any]
    checkpoints: Path

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.fabric.is_global_zero

    def loader(self, wished: int | None) -> Callable[..., Iterator[StepBatch]]:
        """Return `training_batches` for this process's share of each step.

        Args:
            wished: how many processes load audio, as `training.loading_processes`.
        """
        loaders = loading_processes(wished, self.fabric.device.type)
        return partial(training_batches, share=Share(self.fabric.global_rank, self.fabric.world_size, loaders))

    def ahead(self, batches: Iterator[StepBatch]) -> Iterator[StepBatch]:
        """Return batches as they are, or for a GPU a few of them ahead, in memory that it can read by itself."""
        return prefetch(batch.pinned() for batch in batches) if self.fabric.device.type == "cuda" else batches

    def begin_step(self, seed: int) -> None:
        """Forget the last gradient. Dropout is drawn by the seed of the run and the step, and not by the past."""
        torch.manual_seed(seed + 7919 * (self.state.step + 1) + 104729 * self.fabric.global_rank)
        self.optimizer.zero_grad(set_to_none=True)

    def update_weights(self, norm: float, rate: float, clip_norm: float) -> bool:
        """Clip the gradient, let the optimiser take a step, and update the average; return whether it was clipped.

        Args:
            norm: that of the gradient.
            rate: the learning rate.
            clip_norm: a larger gradient is scaled down to this norm.
        """
        clipped = norm > clip_norm
        if clipped:
            on_device = torch.full((), norm, device=self.fabric.device)  # a copy would wait for a GPU
            torch.nn.utils.clip_grads_with_norm_(self.model.parameters(), clip_norm, on_device)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share_of_rate"]
        self.optimizer.step()
        self.average.update(self.model, self.state.step + 1)
        return clipped

    def save(self) -> None:
        """Write a checkpoint; every process calls this.

        Raises:
            TrainingError: it cannot be written.
        """
        if self.first:
            modules = {"model": self.model, "average": self.average.model}
            save_checkpoint(self.checkpoints, self.state, modules, self.optimizer, self.facts)
        self.fabric.barrier()


def first_model(config: Config, token_count: int, stored: StoredFeatures | None) -> AcousticModel:
    """Return a model with random weights, and its pretrained encoder in front unless its features are stored.

    Raises:
        ModelError: the encoder cannot be used.
        DependencyError: it is to come from the hub, and huggingface_hub is missing.
    """
    if stored is not None:
        return AcousticModel(config, token_count, stored.encoder)
    if not config.features.encoder:
        return AcousticModel(config, token_count)
    encoder, identity = load_encoder(config.features.encoder)
    model = AcousticModel(config, token_count, identity)
    model.attach(encoder, fresh=True)
    return model


def start_run(
    fabric: Fabric,
    config: Config,
    tokens: TokenTable | None,
    data: dict[str, Any],
    model: Network,
    checkpoints: Path,
    resume_from: Path | None,
    without: Mapping[str, set[str] | bool] = WITHOUT_INFLUENCE,
) -> Run[Network]:
    """Set up the run of a fresh model, or load the checkpoint `resume_from` into it.

    Args:
        fabric: the engine.
        config: all settings.
        tokens: of the training text; None: the run has none.
        data: JSON values that distinguish the training data from other data.
        model: with its first weights.
        checkpoints: the folder for the run's state.
        resume_from: a checkpoint in it.
        without: the settings that may differ from those of the checkpoint.

    Raises:
        ConfigError: the checkpoint is of a run with other settings, data or tokens.
        ModelError: it cannot be read.
        TrainingError: the processes did not all load the same checkpoint.
    """
    settings = config.training
    average = WeightAverage(model, settings.ema_decay)
    groups = parameter_groups(model, settings.weight_decay, settings.encoder_learning_rate / settings.learning_rate)
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)
    wrapped, optimizer = fabric.setup(model, optimizer)
    average.model.to(fabric.device)
    settings_of_run = config.model_dump(mode="json", exclude=dict(without))
    facts = {"settings": settings_of_run | {"data": data}, "tokens": list(tokens.symbols) if tokens else []}
    state = RunState()
    if resume_from:
        or_else = f" (asr train --init-from {resume_from.parent.parent} starts from its weights)"
        require_same(resume_from, facts, Config().model_dump(mode="json"), or_else=or_else)
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


def choose_computation(run: Run[Network], config: Config, trial: Trial[Network]) -> list[Comparison[Computation]]:
    """Let the run compute as its checkpoint says, or as the user says, or in the way that proves the quickest.

    Every process calls this; the first one chooses for all. The way is kept in the run's state, and number format and
    threads are set from now on.

    Args:
        run: at its start.
        config: all settings.
        trial: a step's work, which is timed.

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
            timed = time_steps(run, config, trial, formats, counts)
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
    run: Run[Network],
    config: Config,
    trial: Trial[Network],
    formats: Sequence[Precision],
    counts: Sequence[int],
) -> list[Comparison[Computation]]:
    """Time optimiser steps of a copy of the run's network, on noise of the usual length; nothing of the run changes."""
    device = run.fabric.device
    model = copy.deepcopy(run.model).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, config.training.weight_decay), lr=0.0, fused=True)

    def prepare(share: float) -> Callable[[Computation], object]:
        loss = trial(model, share)

        def step(way: Computation) -> None:
            with threads(way.threads):
                optimizer.zero_grad(set_to_none=True)
                with torch.autocast(device.type, torch.bfloat16, enabled=way.precision == "bf16"):
                    found = loss()
                found.backward()  # type: ignore[no-untyped-call]
                gradient_norms(model)
                optimizer.step()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)

        return step

    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        if device.type == "cuda":
            return choose(formats, counts, prepare, processor_clock=time.perf_counter)
        return choose(formats, counts, prepare)


def within_corpus(config: Config, audio_s: float) -> Config:
    """Return the settings with which steps are timed: no batch holds more than all training audio, `audio_s`."""
    training = config.training.model_copy(update={"batch_s": min(config.training.batch_s, audio_s)})
    return config.model_copy(update={"training": training})


def acoustic_trial(config: Config, mean_s: float, processes: int) -> Trial[AcousticModel]:
    """Return the work of a training step, on noise.

    Args:
        config: all settings.
        mean_s: mean duration of the utterances.
        processes: among which a step is shared out.
    """

    def trial(model: AcousticModel, share: float) -> Callable[[], Tensor]:
        batch = noise_batch(model, config, mean_s, share, processes)
        return lambda: batch_loss(model, batch, config).total

    return trial


def noise_batch(model: AcousticModel, config: Config, mean_s: float, share: float, processes: int) -> Batch:
    """Return a share of one process's usual batch: as many utterances of noise, but shorter, or fewer.

    Args:
        model: on its device.
        config: all settings.
        mean_s: mean duration of the utterances.
        share: of the audio of a pass through the network.
        processes: among which a step is shared out.
    """
    inputs = noise(config, mean_s, share, processes)
    rows, samples = inputs.shape
    tokens = 1 + torch.arange(max(1, samples // model.frame_samples // 4)) % (model.output.out_features - 1)
    ids = [f"noise {row}" for row in range(rows)]
    frames = [frame_count(samples, config.features)] * rows
    if model.encoder_identity is not None and model.encoder is None:  # features that are computed already
        form = model.encoder_identity.form
        inputs = 0.1 * torch.randn(rows, frames[0], form.states, form.hidden_size)
    perturbation = draw_perturbation(ids, frames, [1.0] * rows, config, Draw(config.training.seed, 0))
    return collate(list(inputs), [tokens.tolist()] * rows, ids, perturbation).to(model.output.weight.device)


def noise(config: Config, mean_s: float, share: float, processes: int) -> Tensor:
    """Return the waveforms of `noise_batch`, `(utterance, sample)`."""
    settings = config.training
    pass_s = min(settings.batch_s / processes, settings.micro_batch_s or settings.batch_s)
    audio_s = share * max(pass_s, mean_s)
    duration_s = min(mean_s, max(share * mean_s, 0.5))
    rows = max(1, round(audio_s / duration_s))
    return 0.1 * torch.randn(rows, round(duration_s * config.features.sample_rate_hz))
