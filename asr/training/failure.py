"""What is kept of a step without a finite loss or gradient, for whoever has to find the cause."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import nn

from asr.config import Config
from asr.data.files import atomic_path, write_text
from asr.errors import TrainingError
from asr.features.batching import Batch, StepBatch
from asr.training.step import StepGradient, batch_loss


def bad_utterances(fabric: Fabric, model: nn.Module, step: StepBatch, config: Config, *, epoch: int) -> list[str]:
    """Return the ids of the step's utterances, over all processes, that give no finite loss or gradient by themselves.

    All processes call this together.
    """
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def is_bad(utterance: Batch) -> bool:
        loss = batch_loss(model, utterance.to(weights[0].device), config, epoch=epoch).total
        gradient = torch.autograd.grad(loss, weights, allow_unused=True)  # not into .grad, which processes share
        return not all(torch.isfinite(part).all() for part in (loss, *gradient) if part is not None)

    own = {name for piece in step.pieces for row, name in enumerate(piece.ids) if is_bad(piece.only(row))}
    found = torch.tensor([float(name in own) for name in step.ids], device=fabric.device)
    found = fabric.all_reduce(found, reduce_op="sum")  # type: ignore[assignment]
    return [name for name, processes in zip(step.ids, found.tolist(), strict=True) if processes]


@contextmanager
def memory_errors_explained(step: StepBatch, sample_rate_hz: int) -> Iterator[None]:
    """Say what to do about it if a GPU's memory does not suffice for the step."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        largest_s = max(piece.waveforms.numel() for piece in step.pieces) / sample_rate_hz
        raise TrainingError(
            f"the GPU's memory does not suffice for {largest_s:.0f} s of audio in one pass, padding included; set "
            "training.micro_batch_s to less (the result stays the same), or training.max_utterance_s if a single "
            "utterance is as long as that"
        ) from error


def write_failed_step(
    folder: Path, number: int, step: StepBatch, gradient: StepGradient, bad: list[str], *, epoch: int, process: int
) -> Path:
    """Write the audio and tokens of a step as safetensors, and beside them ids and statistics as JSON; return this."""
    path = folder / f"step-{number}-process-{process}.json"
    tensors: dict[str, torch.Tensor] = {}
    utterances = []
    for index, piece in enumerate(step.pieces):
        tensors |= {
            f"{index}.{name}": getattr(piece, name).cpu().contiguous()
            for name in ("waveforms", "lengths", "tokens", "token_lengths")
        }
        for row, name in enumerate(piece.ids):
            samples = piece.waveforms[row, : piece.lengths[row]]
            utterances.append(
                {
                    "id": name,
                    "bad": name in bad,
                    "samples": len(samples),
                    "not_finite": int((~torch.isfinite(samples)).sum()),
                    "peak": _number(samples.abs().max()) if len(samples) else 0.0,
                    "tokens": int(piece.token_lengths[row]),
                    "tempo": piece.tempos[row],
                }
            )
    with atomic_path(path.with_suffix(".safetensors")) as temporary:
        save_file(tensors, temporary)
    facts = {
        "step": number,
        "epoch": epoch,
        "loss": repr(gradient.loss),
        "gradient_norms": {part: repr(value) for part, value in gradient.norms.items()},
        "utterances": utterances,
    }
    write_text(path, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return path


def _number(value: torch.Tensor) -> float | str:
    number = float(value)
    return number if torch.isfinite(value) else repr(number)
