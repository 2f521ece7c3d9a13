"""The gradient of one optimiser step: pieces of the batch, over all processes, and what is told about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from asr.config import Config
from asr.features.augment import apply_masks, draw_masks, perturb_tempo
from asr.features.batching import Batch, StepBatch
from asr.model.ctc import CtcLoss, ctc_loss


@dataclass(frozen=True)
class StepGradient:
    """Losses in nats per token of the whole step, over all processes, and gradient norms by part of the network."""

    loss: float
    ctc: float
    consistency: float
    intermediate: float
    norms: dict[str, float]
    norm: float
    stop: bool  # some process was asked to stop
    save: bool  # some process found that a checkpoint is due

    @property
    def finite(self) -> bool:
        """Whether the step can be taken."""
        return all(abs(value) < float("inf") for value in (self.loss, self.norm))


def compute_gradient(
    fabric: Fabric,
    model: nn.Module,
    step: StepBatch,
    config: Config,
    *,
    epoch: int,
    frozen: Sequence[str] = (),
    stop: bool = False,
    save: bool = False,
) -> StepGradient:
    """Leave the gradient of the whole step's loss in the parameters of `model`, in every process the same.

    Args:
        fabric: the engine.
        model: as `fabric.setup` returned it.
        step: this process's share.
        config: all settings.
        epoch: from 0; the masks depend on it.
        frozen: parts of the network that are to stay as they are: they have no gradient, and none in the norms.
        stop: this process was asked to stop; the result tells whether any was, so that all stop at the same step.
        save: the same for a checkpoint.
    """
    told = torch.tensor([0.0, 0.0, 0.0, 0.0, stop, save], device=fabric.device)
    for index, piece in enumerate(step.pieces):
        exchange = index == len(step.pieces) - 1
        with fabric.no_backward_sync(model, enabled=not exchange):  # type: ignore[arg-type]
            loss = batch_loss(model, piece.to(fabric.device), config, epoch=epoch, token_count=step.token_count)
            # Processes average their gradients where the step wants their sum.
            fabric.backward(loss.total * (0 if step.idle else fabric.world_size))
        if not step.idle:
            told[:4] += torch.stack((loss.total, loss.ctc, loss.consistency, loss.intermediate)).detach()
    told = fabric.all_reduce(told, reduce_op="sum")  # type: ignore[assignment]
    total, ctc, consistency, intermediate, stopping, saving = told.tolist()
    drop_gradients(model, frozen)
    norms = gradient_norms(model)
    norm = sum(value**2 for value in norms.values()) ** 0.5
    return StepGradient(total, ctc, consistency, intermediate, norms, norm, stopping > 0, saving > 0)


def batch_loss(
    model: nn.Module, batch: Batch, config: Config, *, epoch: int, token_count: int | None = None
) -> CtcLoss:
    """Return the criterion of a batch: one masked view of each utterance, or two with consistency between them."""
    settings = config.training
    views = 2 if settings.consistency_weight > 0 else 1

    def augment(features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        features, lengths = perturb_tempo(features, lengths, batch.tempos)
        masks = draw_masks(
            batch.ids,
            lengths.tolist(),
            features.shape[2],
            config.augment,
            hop_ms=config.features.hop_ms,
            views=views,
            seed=settings.seed,
            epoch=epoch,
        )
        return apply_masks(features, lengths, masks)

    intermediate = settings.intermediate_weight > 0 and config.model.layers > 1
    log_posteriors, lengths = model(
        batch.waveforms, batch.lengths, augment, bptt_frames=settings.bptt_frames, intermediate=intermediate
    )
    last, *middle = log_posteriors.split(len(lengths))
    return ctc_loss(
        last,
        lengths,
        batch.tokens,
        batch.token_lengths,
        token_count=token_count,
        views=views,
        consistency_weight=settings.consistency_weight,
        intermediate=middle[0] if middle else None,
        intermediate_weight=settings.intermediate_weight,
    )


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """Return the gradient's norm of each part of the network: `subsampling`, `layers.0`, …, `norm`, `output`."""
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    norms = torch.stack(torch._foreach_norm(list(gradients.values()))).tolist() if gradients else []  # one transfer
    parts: dict[str, float] = {}
    for part, norm in zip(map(part_of, gradients), norms, strict=True):
        parts[part] = math.hypot(parts.get(part, 0.0), norm)
    return parts


def part_of(parameter_name: str) -> str:
    """Return the part of the network that a parameter belongs to: the layer for recurrent ones, else the module."""
    names = parameter_name.removeprefix("_forward_module.").removeprefix("module.").split(".")
    return ".".join(names[:2]) if names[0] == "layers" else names[0]


def drop_gradients(model: nn.Module, modules: Sequence[str]) -> None:
    """Drop the gradients of the named modules, so that a step leaves their weights as they are."""
    for name, parameter in model.named_parameters():
        if part_of(name).split(".")[0] in modules:
            parameter.grad = None
