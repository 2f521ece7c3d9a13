"""Tensors of a safetensors file: read, and their checksum; networks that are built without memory."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from asr.errors import AsrError
from asr.paths import ReadablePath
from asr.reading import first_line

_PAGES_HOLD_FILES = os.name == "nt"  # Windows replaces no file while something in memory is made of its pages


def let_go(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors that are no pages of a file on systems where they would keep it from being replaced."""
    return {name: tensor.clone() for name, tensor in tensors.items()} if _PAGES_HOLD_FILES else tensors


def read_tensors(path: ReadablePath, error: type[AsrError]) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; they are pages of the file, unless it is packed; see `let_go`.

    Raises:
        error: the file is missing or damaged.
    """
    try:
        return let_go(load_file(path)) if isinstance(path, Path) else load(path.read_bytes())
    except (SafetensorError, OSError, ValueError, LookupError, RuntimeError, TypeError) as reason:
        raise error(f"{path}: damaged ({first_line(str(reason))})") from None


def tensors_checksum(tensors: Mapping[str, Tensor]) -> str:
    """Return the CRC-32 of the bytes of tensors on the CPU, in the order of their names; safetensors has none."""
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data, value)
    return f"{value:08x}"


@contextmanager
def without_memory() -> Iterator[None]:
    """Build networks without memory, hence without weights."""
    with torch.device("meta"), _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    """Leaves weights as they are where they would be drawn: without memory there are none.

    torch would do the same, but load its compiler for that, which takes seconds.
    """

    def __torch_function__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.init.normal_:
            return kwargs["tensor"]
        if func is torch.eye and "out" in kwargs:
            return kwargs["out"]
        return func(*args, **kwargs)
