"""Float weights ↔ weights of 8 bits: integers with a scale for each row, in a quarter of the space.

A model folder may store its weights so. When it is read they become floats again, and everything is computed with
floats, on any device and in any precision. So an utterance's result does not depend on its neighbours. It would depend
on them if inputs were rounded too, because the largest input of a batch sets the step of that rounding.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.bundle.files import SCALE

_LARGEST = 127


def quantised(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return integers from -127 to 127, and a scale for each row: `weight ≈ integers · scale[…, None]`."""
    scale = np.maximum(np.abs(weight).max(-1) / np.float32(_LARGEST), np.finfo(np.float32).tiny)
    return np.rint(weight / scale[..., None]).astype(np.int8), scale


def to_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's tensors with int8 weights and a `(row,)` tensor of scales for each; biases and norms stay.

    Args:
        tensors: float32, by name. Those of two dimensions or more are weights; a row computes one output.
    """
    result = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.ndim > 1:
            integers, scale = quantised(tensor.flatten(1).numpy())
            result[name] = torch.from_numpy(integers).view_as(tensor)
            result[name + SCALE] = torch.from_numpy(scale)
    return result


def to_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that `to_int8` returned, with floats in place of integers.

    Raises:
        ValueError: integers have no scales, or not one for each row.
    """
    result = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = result.pop(name + SCALE, None)
            if scale is None or scale.dtype != torch.float32 or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{name}: 8-bit integers without a scale for each row")
            result[name] = (tensor.flatten(1) * scale[:, None]).view_as(tensor)
    return result
