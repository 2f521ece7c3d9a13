"""What this machine offers: processor cores, a GPU, helper processes, torchaudio's extension."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Literal, TypeAlias

from asr.errors import DependencyError, DeviceError

# Shows how far long work is: `with progress("decode", total) as advance: advance(1)`. Commands draw a bar.
Progress: TypeAlias = Callable[[str, float], AbstractContextManager[Callable[[float], object]]]

Accelerator: TypeAlias = Literal["auto", "cpu", "cuda"]


def silent(description: str, total: float) -> AbstractContextManager[Callable[[float], object]]:
    """Show no progress: the `Progress` of functions that are called without one."""
    return nullcontext(lambda _: None)


def set_library_defaults() -> None:
    """Set what torch's libraries read from the environment when they start; what the user has set stays.

    * OpenMP's threads sleep while they wait for each other. By default they spin, and at each time step of a recurrent
      layer the threads wait. If another process needs a core, everything takes 5 to 50 times as long
      (`benchmarks/threads.py`).
    * oneDNN keeps 64 compiled kernels, not 1024. Speech has a new shape in almost every batch, so a kernel is rarely
    used
      again, and after a hundred epochs the kernels took half of the memory.

    The commands and the public names of `asr` call this before torch is loaded. It has no effect afterwards.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_the_first() -> None:
    """Let this process, which another started, end when that one does, whatever either is doing then."""
    first = multiprocessing.parent_process()
    assert first is not None, "nobody started this process"

    def wait_and_end() -> None:
        first.join()
        os._exit(1)

    threading.Thread(target=wait_and_end, daemon=True).start()


def choose_accelerator(wished: str) -> str:
    """Return `cuda` or `cpu`; `auto` takes a GPU if there is one.

    Raises:
        DeviceError: `cuda` is asked for and there is none, or there is no accelerator of that name.
    """
    import torch

    if wished not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"accelerator {wished!r}: auto, cpu or cuda")
    available = torch.cuda.is_available()
    if wished == "cuda" and not available:
        raise DeviceError("accelerator cuda: torch sees no CUDA device; check the driver, or use auto or cpu")
    return "cuda" if available and wished != "cpu" else "cpu"


def torchaudio_functional() -> ModuleType:
    """Return `torchaudio.functional`.

    Raises:
        DependencyError: torchaudio's extension does not load beside the installed torch.
    """
    try:
        import torchaudio.functional
    except OSError as error:
        raise DependencyError(
            f"torchaudio does not load beside the installed torch ({error}). PyPI's torchaudio needs PyPI's torch, "
            "not a CPU-only build of it; `pip install --force-reinstall torch torchaudio` installs both from one place"
        ) from error
    functional: ModuleType = torchaudio.functional
    return functional
