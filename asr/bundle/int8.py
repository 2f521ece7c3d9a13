"""Weights of 8 bits: integers with a scale for each row, in a quarter of the space. They stand for floats.

A model folder may keep its weights so. When it is read they become floats again, and all there is to compute is
computed with those, on any device and in any precision. So an utterance's result does not depend on its neighbours, as
it would if inputs were rounded too: the step of that rounding is set by the largest input of a batch.
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
    """Return a model's tensors with int8 weights, each with its scales `(row,)`; biases and norms stay as they are.

    Args:
        tensors: float32, by name. Those of two dimensions or more are weights; a row is what makes one output.
    """
    result = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.ndim > 1:
            integers, scale = quantised(tensor.flatten(1).numpy())
            result[name] = torch.from_numpy(integers).view_as(tensor)
            result[name + SCALE] = torch.from_numpy(scale)
    return result


def to_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's tensors as they are used: what `to_int8` returned with floats in the place of integers.

    Raises:
        ValueError: integers without scales, or scales that are not one a row.
    """
    result = dict(tensors)
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = result.pop(name + SCALE, None)
            if scale is None or scale.dtype != torch.float32 or scale.shape != tensor.shape[:1]:
                raise ValueError(f"{name}: integers of 8 bits without a scale for each row")
            result[name] = (tensor.flatten(1) * scale[:, None]).view_as(tensor)
    return result
