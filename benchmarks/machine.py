"""Timing, and what a timing has to be read with: the processor, the threads, the versions."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch

from asr.machine import processor_name

THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))


def describe(*packages: str) -> str:
    """Return one line on this machine, torch, and the versions of `packages`."""
    versions = " ".join(f"{package} {version(package)}" for package in ("torch", *packages))
    return f"{processor_name()}, {torch.get_num_threads()} threads, Python {platform.python_version()}, {versions}"


def median_ms(calls: dict[str, Callable[[], None]], runs: int) -> dict[str, float]:
    """Time the calls in turn, so that a drift of the machine's speed meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(runs + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if run >= 2:  # the first two warm up
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}
