"""Where training runs: the lightning-fabric engine for the wished accelerator and precision."""

from __future__ import annotations

import logging

import torch
from lightning_fabric import Fabric

from asr.config import TrainingSettings
from asr.errors import TrainingError


def make_fabric(settings: TrainingSettings) -> Fabric:
    """Return the engine; `auto` takes a GPU if there is one.

    Raises:
        TrainingError: `cuda` is asked for and there is none.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # what it would say, the start report says
    cuda = torch.cuda.is_available()
    if settings.accelerator == "cuda" and not cuda:
        raise TrainingError(
            "training.accelerator is cuda, but torch sees no CUDA device; check the driver, or use --accelerator cpu"
        )
    accelerator = "cuda" if cuda and settings.accelerator != "cpu" else "cpu"
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and has_bf16(accelerator))
    return Fabric(accelerator=accelerator, devices=1, precision="bf16-mixed" if bf16 else "32-true")


def has_bf16(accelerator: str) -> bool:
    """Whether the device multiplies bfloat16 in hardware; emulated, it is slower than float32."""
    if accelerator == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe)()) for probe in probes if hasattr(torch.cpu, probe))
