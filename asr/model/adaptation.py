"""A few numbers of a network that are fitted to one speaker; all other weights stay.

They are a scale of each unit of each recurrent layer's output, `2 · sigmoid(a)`, which is 1 at the start (LHUC), and
gain and bias of each layer norm. The CTC loss of the speaker's texts is minimised.

Source: Swietojanski & Renals 2014, Learning hidden unit contributions for unsupervised speaker adaptation (LHUC).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.features.batch import Batch
from asr.model.acoustic import AcousticModel
from asr.model.rnn import RecurrentLayer
from asr.text.tokens import BLANK

# Weights of a network by name, in place of its own: `layers.0.scale`, `layers.0.norm.weight`, `norm.bias` and so on.
Weights = Mapping[str, Tensor]

SCALE_RATE, NORM_RATE = 1e-2, 1e-3  # learning rates of `a`, and of gains and biases


@dataclass(frozen=True)
class Spoken:
    """Utterances of one speaker and their texts.

    Attributes:
        features: `(batch, frame, mel)`, normalised.
        frames: `(batch,)`.
        tokens: `(batch, token)`, padded: what was said, or is taken for it.
        token_lengths: `(batch,)`; 0 for an utterance whose text is not known.
        weights: `(batch,)`, how much each text counts, from 0 to 1.
    """

    features: Tensor
    frames: Tensor
    tokens: Tensor
    token_lengths: Tensor
    weights: Tensor


@torch.no_grad()
def spoken_of(model: AcousticModel, batch: Batch, texts: Sequence[tuple[Sequence[int], float]]) -> Spoken:
    """Return the utterances of a batch on the device of the model, with the tokens of each text and its weight."""
    batch = batch.to(model.output.weight.device)
    features, frames = model.features(batch.waveforms, batch.lengths, batch.moments)
    tokens = [torch.tensor(list(text), dtype=torch.int64) for text, _ in texts]
    return Spoken(
        features,
        frames,
        torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True).to(features.device),
        torch.tensor([len(text) for text, _ in texts]),
        torch.tensor([weight for _, weight in texts], device=features.device),
    )


def fit(model: AcousticModel, spoken: Sequence[Spoken], marks: Sequence[int]) -> Iterator[dict[str, Tensor]]:
    """Fit a network to a speaker by AdamW, and yield its weights after each number of steps in `marks`.

    Each step is over all utterances, so the result does not depend on their order to more than rounding. The network
    itself stays as it is.

    Args:
        model: in evaluation mode.
        spoken: batches of the speaker's utterances.
        marks: rising numbers of steps; after 0 the weights are the network's own.
    """
    start = _start(model)
    fitted = {name: torch.zeros_like(value).requires_grad_() for name, value in start.items()}
    scales = [value for name, value in fitted.items() if _is_scale(name)]
    others = [value for name, value in fitted.items() if not _is_scale(name)]
    groups = [{"params": scales, "lr": SCALE_RATE}, {"params": others, "lr": NORM_RATE}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], weight_decay=0.0)
    for step in range(max(marks) + 1):
        if step in marks:
            with torch.no_grad():
                yield {name: value.detach() for name, value in _weights(start, fitted).items()}
        if step < max(marks):
            optimizer.zero_grad(set_to_none=True)
            for some in spoken:
                gradient(model, start, fitted, some)
            optimizer.step()


def gradient(model: AcousticModel, start: Weights, fitted: Mapping[str, Tensor], spoken: Spoken) -> Tensor:
    """Return a batch's loss; its gradient is added to the `grad` of what is fitted, and to nothing else."""
    with _only_fitted(model), adapted(model, _weights(start, fitted)):
        log_posteriors, lengths = model.encode(spoken.features, spoken.frames)
        total = text_loss(log_posteriors, lengths, spoken)
        gradients = torch.autograd.grad(total, list(fitted.values()), allow_unused=True)
    for value, more in zip(fitted.values(), gradients, strict=True):
        if more is not None:
            value.grad = more if value.grad is None else value.grad + more
    return total.detach()


@contextmanager
def adapted(model: nn.Module, weights: Weights) -> Iterator[None]:
    """Let a network compute with these weights until the `with` statement ends; then it has its own again."""
    before: list[tuple[dict[str, Tensor | None], str, Tensor | None]] = []
    try:
        for name, tensor in weights.items():
            owner, _, leaf = name.rpartition(".")
            module = model.get_submodule(owner)
            kept: dict[str, Tensor | None] = module._buffers if leaf in module._buffers else module._parameters  # type: ignore[assignment]
            before.append((kept, leaf, kept[leaf]))
            kept[leaf] = tensor
        yield
    finally:
        for kept, leaf, own in before:
            kept[leaf] = own


@contextmanager
def _only_fitted(model: nn.Module) -> Iterator[None]:
    """Let no gradient be computed of the network's own weights, and cuDNN's recurrences keep what a gradient needs."""
    asked = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    recurrences = [module for module in model.modules() if isinstance(module, nn.RNNBase)]
    modes = [module.training for module in recurrences]
    try:
        for parameter, _ in asked:
            parameter.requires_grad_(False)
        for module in recurrences:
            module.train()  # they have no dropout
        yield
    finally:
        for parameter, before in asked:
            parameter.requires_grad_(before)
        for module, mode in zip(recurrences, modes, strict=True):
            module.train(mode)


@torch.no_grad()
def with_weights(model: AcousticModel, weights: Weights) -> AcousticModel:
    """Return a copy of a network that has these weights for good. It shares all others, which may be large."""
    shared = {id(parameter): parameter for name, parameter in model.named_parameters() if name not in weights}
    changed = copy.deepcopy(model, shared)
    for name, tensor in weights.items():
        owner, _, leaf = name.rpartition(".")
        module = changed.get_submodule(owner)
        if leaf in module._buffers:
            module.register_buffer(leaf, tensor.clone(), persistent=False)
        else:
            module.get_parameter(leaf).copy_(tensor)
    return changed


def own_weights(model: AcousticModel) -> dict[str, Tensor]:
    """Return those weights of a network that are fitted to a speaker, as they are for all; scales are 1."""
    start = _start(model)
    return _weights(start, {name: torch.zeros_like(value) for name, value in start.items()})


def _start(model: AcousticModel) -> dict[str, Tensor]:
    """Return what is fitted: of a recurrent layer `layers.0.scale`, 1 or an earlier speaker's, and the norms."""
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, RecurrentLayer):
            found[f"{name}.scale"] = torch.ones_like(module.norm.weight) if module.scale is None else module.scale
        elif isinstance(module, nn.LayerNorm) and name.partition(".")[0] in ("layers", "norm"):
            found |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    return {name: value.detach() for name, value in found.items()}


def _weights(start: Weights, fitted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: value * 2 * torch.sigmoid(fitted[name]) if _is_scale(name) else value + fitted[name]
        for name, value in start.items()
    }


def _is_scale(name: str) -> bool:
    return name.endswith(".scale")


def text_loss(log_posteriors: Tensor, lengths: Tensor, spoken: Spoken) -> Tensor:
    """Return the CTC loss of the texts, each by its weight, in nats, summed: a scalar.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log.
        lengths: `(batch,)` frames.
        spoken: the texts and their weights. An utterance without a text counts as 0.
    """
    losses = F.ctc_loss(
        log_posteriors.transpose(0, 1),
        spoken.tokens,
        lengths,
        spoken.token_lengths.to(lengths.device),
        blank=BLANK,
        reduction="none",
        zero_infinity=True,
    )
    known = (spoken.token_lengths > 0).to(losses.device)
    return (losses * spoken.weights).where(known, 0.0).sum()
