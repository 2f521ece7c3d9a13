"""What a timing has to be read with: the processor, the threads, the versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import torch

THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))


def describe(*packages: str) -> str:
    """Return one line on this machine, torch, and the versions of `packages`."""
    versions = " ".join(f"{package} {version(package)}" for package in ("torch", *packages))
    return f"{processor()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, {versions}"


def processor() -> str:
    """Return the processor's name as the system tells it."""
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
