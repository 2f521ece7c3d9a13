"""Where a run computes: the engine, its processes and devices, the number format, the processes that load audio.

It runs in one process, unless torchrun or Slurm started several. Then each takes one device, and gradients are averaged
over them (DistributedDataParallel).
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.plugins.precision import Precision as PrecisionPlugin
from lightning_fabric.utilities.exceptions import MisconfigurationException

from asr.config import TrainingSettings
from asr.errors import TrainingError
from asr.machine import choose_accelerator, cores
from asr.model.computation import Precision


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
