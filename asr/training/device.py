"""Where training runs: settings → the lightning-fabric engine, with accelerator, precision and processes.

There is one process, unless torchrun or Slurm started several. Then each takes one device, and gradients are averaged
over them (DistributedDataParallel).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException

from asr.config import TrainingSettings
from asr.errors import TrainingError
from asr.machine import choose_accelerator


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
