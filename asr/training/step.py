"""One optimiser step: a batch → its gradient, over all its pieces and all processes; how the weights follow.

If the loss or the gradient is not finite, this file also finds the utterances that are the cause, and writes the batch
to disk for whoever has to look.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import Tensor, nn

from asr.config import Config
from asr.errors import TrainingError
from asr.features.batch import Batch
from asr.features.batching import StepBatch
from asr.files import atomic_path, to_json, write_text
from asr.model.ctc import CtcLoss, CtcWeights, ctc_loss
from asr.model.subsampling import output_frames
from asr.text.tokens import TokenTable

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Accumulated:
    """What all pieces of a step gave together, over all processes.

    Attributes:
        figures: the sums of those of the pieces.
        norms: the gradient's norm by part of the network.
        norm: the gradient's norm.
        stop, save: see `StepGradient`.
    """

    figures: list[float]
    norms: dict[str, float]
    norm: float
    stop: bool
    save: bool


@dataclass(frozen=True)
class StepGradient:
    """Losses and gradient norms of the whole step, over all processes.

    Attributes:
        loss: what is minimised, in nats per token; `ctc` and the like are its parts, see `CtcLoss`.
        norms: the gradient's norm by part of the network.
        norm: the gradient's norm.
        stop: whether some process was asked to stop.
        save: whether some process found that a checkpoint is due.
    """

    loss: float
    ctc: float
    consistency: float
    intermediate: float
    norms: dict[str, float]
    norm: float
    stop: bool
    save: bool
    teacher: float = 0.0

    @property
    def finite(self) -> bool:
        """Whether the step can be taken."""
        return all(abs(value) < float("inf") for value in (self.loss, self.norm))


class Teachers(Protocol):
    """Networks whose posteriors are learnt; see `asr/training/distill.py`."""

    @property
    def names(self) -> list[str]:
        """Their folders."""

    @property
    def checksums(self) -> list[str]:
        """Of the weights of each: a run is resumed only with the same."""

    def require_fit(self, config: Config, tokens: TokenTable) -> None:
        """Refuse, with a ModelError, to teach a network of these settings and tokens if frames or tokens differ."""

    def to(self, device: torch.device) -> Teachers:
        """Return them on a device."""

    def log_posteriors(self, batch: Batch) -> Tensor:
        """Return `(batch, frame, token)` of a training batch, perturbed as it says, but without masks."""


def compute_gradient(
    fabric: Fabric,
    model: nn.Module,
    step: StepBatch,
    config: Config,
    *,
    teachers: Teachers | None = None,
    frozen: Sequence[str] = (),
    stop: bool = False,
    save: bool = False,
) -> StepGradient:
    """Compute the gradient of the whole step's loss; it is left in the parameters, the same in every process.

    Nothing waits for a GPU but torch's CTC kernel, which copies lengths, and the transfer at the end.

    Args:
        fabric: the engine.
        model: as `fabric.setup` returned it.
        step: this process's share.
        config: all settings.
        teachers: whose posteriors are learnt too.
        frozen: parts of the network that stay as they are; they get no gradient and do not count in the norms.
        stop: whether this process was asked to stop. The result says whether any was, so all stop at the same step.
        save: the same for a checkpoint.
    """

    def losses(piece: Batch) -> tuple[Tensor, Tensor]:
        taught = None
        if teachers is not None:
            with fabric.autocast():
                taught = teachers.log_posteriors(piece)
        loss = batch_loss(model, piece, config, token_count=step.token_count, teacher=taught)
        return loss.total, torch.stack((loss.total, loss.ctc, loss.consistency, loss.intermediate, loss.teacher))

    found = accumulate(fabric, model, step, losses, frozen=frozen, stop=stop, save=save)
    total, ctc, consistency, intermediate, teacher = found.figures
    return StepGradient(total, ctc, consistency, intermediate, found.norms, found.norm, found.stop, found.save, teacher)


def accumulate(
    fabric: Fabric,
    model: nn.Module,
    step: StepBatch,
    losses: Callable[[Batch], tuple[Tensor, Tensor]],
    *,
    frozen: Sequence[str] = (),
    stop: bool = False,
    save: bool = False,
) -> Accumulated:
    """Sum up losses and gradients over all pieces of a step and all processes; gradients are left in the parameters.

    Figures and norms come to the host in one transfer, at the end.

    Args:
        losses: returns what is minimised for a piece, a scalar, and figures to be summed up, `(figure,)`.
        fabric, model, step, frozen, stop, save: see `compute_gradient`.
    """
    asked = torch.zeros(2, device=fabric.device)
    asked[0].fill_(stop)
    asked[1].fill_(save)
    total: Tensor | None = None
    for index, piece in enumerate(step.pieces):
        exchange = index == len(step.pieces) - 1
        with fabric.no_backward_sync(model, enabled=not exchange):  # type: ignore[arg-type]
            loss, figures = losses(piece.to(fabric.device))
            # Processes average their gradients where the step wants their sum.
            fabric.backward(loss * (0 if step.idle else fabric.world_size))
        figures = torch.zeros_like(figures) if step.idle else figures.detach()
        total = figures if total is None else total + figures
    assert total is not None, "a process always has a piece"
    sums = fabric.all_reduce(torch.cat((total, asked)), reduce_op="sum")
    drop_gradients(model, frozen)
    parts, of_parameters = parameter_norms(model)
    values = torch.stack([*sums, *of_parameters]).tolist()
    count = len(total)
    norms = norms_by_part(parts, values[count + 2 :])
    norm = sum(value**2 for value in norms.values()) ** 0.5
    return Accumulated(values[:count], norms, norm, values[count] > 0, values[count + 1] > 0)


def batch_loss(
    model: nn.Module,
    batch: Batch,
    config: Config,
    *,
    token_count: int | None = None,
    teacher: Tensor | None = None,
) -> CtcLoss:
    """Return the loss of a training batch: of one masked view of each utterance, or of two and their consistency.

    Args:
        model: whose loss it is.
        batch: on the device of the model; with a perturbation, which says how many views there are.
        config: all settings.
        token_count, teacher: see `ctc_loss`.
    """
    settings, perturbation = config.training, batch.perturbation
    assert perturbation is not None, "a batch that is trained on has a perturbation"
    intermediate = settings.intermediate_weight > 0 and config.model.layers > 1
    log_posteriors, lengths = model(
        batch.waveforms,
        batch.lengths,
        perturbation.apply,
        moments=batch.moments,
        known_frames=perturbation.view_frames,
        bptt_frames=settings.bptt_frames,
        intermediate=intermediate,
    )
    last, *middle = log_posteriors.split(len(lengths))
    loss = ctc_loss(
        last,
        lengths,
        batch.tokens,
        batch.token_lengths,
        token_count=token_count,
        known_lengths=[output_frames(frames, config.frames_joined) for frames in perturbation.view_frames],
        views=perturbation.masks.views,
        intermediate=middle[0] if middle else None,
        teacher=teacher,
        weights=CtcWeights(settings.consistency_weight, settings.intermediate_weight, settings.teacher_weight),
    )
    return loss if batch.weight == 1 else loss.times(batch.weight)


def gradient_norms(model: nn.Module) -> dict[str, float]:
    """Return the gradient's norm of each part of the network: `subsampling`, `layers.0`, …, `norm`, `output`."""
    parts, norms = parameter_norms(model)
    return norms_by_part(parts, torch.stack(norms).tolist() if norms else [])


def parameter_norms(model: nn.Module) -> tuple[list[str], list[Tensor]]:
    """Return the part of the network of each parameter that has a gradient, and the gradients' norms on the device."""
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    norms = list(torch._foreach_norm(list(gradients.values()))) if gradients else []
    return list(map(part_of, gradients)), norms


def norms_by_part(parts: Sequence[str], norms: Sequence[float]) -> dict[str, float]:
    """Return the norm of each part, from those of its parameters."""
    by_part: dict[str, float] = {}
    for part, norm in zip(parts, norms, strict=True):
        by_part[part] = math.hypot(by_part.get(part, 0.0), norm)
    return by_part


def part_of(parameter_name: str) -> str:
    """Return the part of the network that a parameter belongs to: `layers.0` and so on, or the module."""
    for wrapper in ("_forward_module.", "module.", "network."):
        parameter_name = parameter_name.removeprefix(wrapper)
    names = parameter_name.split(".")
    return ".".join(names[:2]) if names[0] == "layers" else names[0]


def drop_gradients(model: nn.Module, modules: Sequence[str]) -> None:
    """Drop the gradients of the named modules, so that a step leaves their weights as they are."""
    for name, parameter in model.named_parameters():
        if part_of(name).split(".")[0] in modules:
            parameter.grad = None


def bad_utterances(fabric: Fabric, model: nn.Module, step: StepBatch, config: Config) -> list[str]:
    """Return the ids of the utterances that give no finite loss or gradient by themselves, over all processes.

    All processes call this together.
    """
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def is_bad(utterance: Batch) -> bool:
        loss = batch_loss(model, utterance.to(weights[0].device), config).total
        gradient = torch.autograd.grad(loss, weights, allow_unused=True)  # not into .grad, which the processes exchange
        return not all(torch.isfinite(part).all() for part in (loss, *gradient) if part is not None)

    own = {name for piece in step.pieces for row, name in enumerate(piece.ids) if is_bad(piece.only(row))}
    found = torch.tensor([float(name in own) for name in step.ids], device=fabric.device)
    found = fabric.all_reduce(found, reduce_op="sum")  # type: ignore[assignment]
    return [name for name, processes in zip(step.ids, found.tolist(), strict=True) if processes]


@contextmanager
def memory_errors_explained(step: StepBatch, sample_rate_hz: int) -> Iterator[None]:
    """Explain what to do if a GPU's memory does not suffice for the step."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        sizes = (piece.waveforms.shape for piece in step.pieces)  # of features that are computed already: (…, 2 more)
        largest_s = max(size[0] * size[1] * (1 if len(size) == 2 else 320) for size in sizes) / sample_rate_hz
        raise TrainingError(
            f"the GPU's memory does not suffice for {largest_s:.0f} s of audio in one pass, padding included; set "
            "training.micro_batch_s to less (the result stays the same), or training.max_utterance_s if a single "
            "utterance is as long as that"
        ) from error


def write_failed_step(
    folder: Path, number: int, step: StepBatch, gradient: StepGradient, bad: list[str], *, epoch: int, process: int
) -> Path:
    """Write a step's audio and tokens as safetensors, and ids and statistics as JSON beside; return the JSON's path."""
    path = folder / f"step-{number}-process-{process}.json"
    tensors: dict[str, torch.Tensor] = {}
    utterances: list[dict[str, Any]] = []
    for index, piece in enumerate(step.pieces):
        tensors |= {
            f"{index}.{name}": getattr(piece, name).cpu().contiguous()
            for name in ("waveforms", "lengths", "tokens", "token_lengths")
        }
        utterances += [_statistics(piece, row, bad=name in bad) for row, name in enumerate(piece.ids)]
    with atomic_path(path.with_suffix(".safetensors")) as temporary:
        save_file(tensors, temporary)
    facts = {
        "step": number,
        "epoch": epoch,
        "loss": repr(gradient.loss),
        "gradient_norms": {part: repr(value) for part, value in gradient.norms.items()},
        "utterances": utterances,
    }
    write_text(path, to_json(facts, indent=1) + "\n")
    return path


def _statistics(batch: Batch, row: int, *, bad: bool) -> dict[str, Any]:
    samples = batch.waveforms[row, : batch.lengths[row]]
    return {
        "id": batch.ids[row],
        "bad": bad,
        "samples": len(samples),
        "not_finite": int((~torch.isfinite(samples)).sum()),
        "peak": _number(samples.abs().max()) if len(samples) else 0.0,
        "tokens": int(batch.token_lengths[row]),
        "tempo": 1.0 if batch.perturbation is None else float(batch.perturbation.tempos[row]),
    }


def _number(value: torch.Tensor) -> float | str:
    number = float(value)
    return number if torch.isfinite(value) else repr(number)


def parameter_groups(model: nn.Module, weight_decay: float, encoder_share: float = 1.0) -> list[dict[str, object]]:
    """Split parameters into matrices, which decay, and biases and gains, which do not.

    Those of a pretrained encoder's layers are in groups of their own.

    Args:
        model: whose parameters they are.
        weight_decay: of the matrices.
        encoder_share: learning rate of the encoder's layers, as a share of that of all others.
    """
    groups: list[dict[str, object]] = []
    for of_encoder, share in ((False, 1.0), (True, encoder_share)):
        named = model.named_parameters()
        parameters = [parameter for name, parameter in named if name.startswith("encoder_layers.") is of_encoder]
        if of_encoder and not parameters:
            break
        matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
        vectors = [parameter for parameter in parameters if parameter.ndim < 2]
        groups.append({"params": matrices, "weight_decay": weight_decay, "share_of_rate": share})
        groups.append({"params": vectors, "weight_decay": 0.0, "share_of_rate": share})
    return groups


class WeightAverage(Generic[Network]):
    """The model that is evaluated and kept: an exponential moving average of the weights.

    After each step, `average ← decay · average + (1 - decay) · weights`. The decay rises to its value at the start. The
    steps wander within a region, and the average is near its middle (Polyak & Juditsky 1992).
    """

    def __init__(self, model: Network, decay: float) -> None:
        """Start at the model's own weights."""
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: Network, step: int) -> None:
        """Move towards `model`; `step` counts from 1."""
        decay = min(self.decay, step / (step + 9))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
