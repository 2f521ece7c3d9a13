"""Where a GPU's time goes: its waits, its kernels, how busy it is. For `gpu.py`."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def wait(on_gpu: bool) -> None:
    """Wait for the GPU, if there is one."""
    if on_gpu:
        torch.cuda.synchronize()


def waits_of(take: Callable[[], None]) -> int:
    """Return how often torch synchronises with the GPU in one step, by its own count."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            take()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)


def kernel_share(take: Callable[[], None], *, on_gpu: bool, steps: int = 3) -> str:
    """Profile some steps; return how much of their time no kernel runs, and which kernels take most."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if on_gpu:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    wait(on_gpu)
    with torch.profiler.profile(activities=activities) as profile:
        began = time.perf_counter()
        for _ in range(steps):
            take()
        wait(on_gpu)
        wall_s = time.perf_counter() - began
    if not on_gpu:
        calls = sum(event.count for event in profile.key_averages()) / steps
        return f"{calls:.0f} operations of torch a step; kernels have times of their own on a GPU only"
    spans = [
        (event.time_range.start, event.time_range.end, event.name)
        for event in profile.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
        and not getattr(event, "is_user_annotation", False)  # which spans several kernels and what is between them
        and not event.name.startswith(("Optimizer.", "ProfilerStep"))
    ]
    idle = 1 - covered_us(spans) / 1e6 / wall_s
    by_name: dict[str, float] = {}
    for start, end, name in spans:
        by_name[name] = by_name.get(name, 0.0) + end - start
    most = sorted(by_name.items(), key=lambda item: -item[1])[:6]
    shown = "".join(f"\n        {us / 1e3 / steps:8.2f} ms a step  {name[:90]}" for name, us in most)
    return f"no kernel runs in {100 * idle:.1f} % of the step (while profiled); {len(spans) // steps} kernels:{shown}"


def covered_us(spans: list[tuple[float, float, str]]) -> float:
    """Return the length of the union of spans: kernels of two streams run at the same time."""
    total, reached = 0.0, float("-inf")
    for start, end, _ in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


@contextmanager
def utilisation(on_gpu: bool) -> Iterator[Callable[[], str]]:
    """While entered, ask nvidia-smi how busy the device is; the function yielded tells its mean."""
    seen: list[float] = []
    done = threading.Event()
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--id=0"]

    def ask() -> None:
        while not done.wait(0.5):
            try:
                answer = subprocess.run(command, capture_output=True, text=True, timeout=10)
                seen.append(float(answer.stdout.strip()))
            except (OSError, ValueError, subprocess.TimeoutExpired):
                return

    thread = threading.Thread(target=ask, daemon=True)
    if on_gpu:
        thread.start()
    try:
        yield lambda: f"{statistics.mean(seen):.0f} % (nvidia-smi)" if seen else "unknown: no nvidia-smi"
    finally:
        done.set()
