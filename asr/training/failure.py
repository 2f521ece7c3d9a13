"""What is kept of a step without a finite loss or gradient, for whoever has to find the cause."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import nn

from asr.config import Config
from asr.data.files import atomic_path, write_text
from asr.features.batching import Batch, StepBatch
from asr.training.step import StepGradient, batch_loss


def bad_utterances(model: nn.Module, step: StepBatch, config: Config, *, epoch: int) -> list[str]:
    """Return the ids of this process's utterances that give no finite loss or gradient by themselves."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def is_bad(utterance: Batch) -> bool:
        loss = batch_loss(model, utterance.to(weights[0].device), config, epoch=epoch).total
        gradient = torch.autograd.grad(loss, weights, allow_unused=True)  # not into .grad, which processes share
        return not all(torch.isfinite(part).all() for part in (loss, *gradient) if part is not None)

    return [name for piece in step.pieces for index, name in enumerate(piece.ids) if is_bad(piece.only(index))]


def of_all_processes(fabric: Fabric, names: list[str]) -> list[str]:
    """Return the names that the processes have, each once; all processes call this together."""
    text = json.dumps(names).encode()
    longest = int(fabric.all_reduce(torch.tensor(len(text), device=fabric.device), reduce_op="max"))  # type: ignore[arg-type]
    padded = torch.tensor(list(text.ljust(longest)), dtype=torch.uint8, device=fabric.device)
    texts = fabric.all_gather(padded).reshape(-1, longest).tolist()  # type: ignore[union-attr]
    return list(dict.fromkeys(name for text in texts for name in json.loads(bytes(text))))


def write_failed_step(
    folder: Path, number: int, step: StepBatch, gradient: StepGradient, bad: list[str], *, process: int
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
                }
            )
    with atomic_path(path.with_suffix(".safetensors")) as temporary:
        save_file(tensors, temporary)
    facts = {
        "step": number,
        "loss": repr(gradient.loss),
        "gradient_norms": {part: repr(value) for part, value in gradient.norms.items()},
        "utterances": utterances,
    }
    write_text(path, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    return path


def _number(value: torch.Tensor) -> float | str:
    number = float(value)
    return number if torch.isfinite(value) else repr(number)
