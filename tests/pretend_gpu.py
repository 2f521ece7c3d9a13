"""A GPU that is not there: shapes and devices without numbers, and a count of what would make the host wait for it.

Tensors are torch's fake tensors, so all operations of torch run as on a GPU, except for kernels that ask the driver
which version of them there is. Those of recurrences and of CTC are replaced by operations of the same shapes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READ = 100.0  # what the host reads of every number that it asks the GPU for


class Waits(TorchDispatchMode):
    """Counts copies between host and GPU that wait, and numbers that the host reads."""

    def __init__(self) -> None:
        super().__init__()
        self.of: Counter[str] = Counter()

    def __torch_dispatch__(self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = _devices((args, kwargs))
        if op is torch.ops.aten._local_scalar_dense.default and "cuda" in given:
            self.of["read"] += 1
            return READ if args[0].is_floating_point() else int(READ)
        result = op(*args, **kwargs)
        made = _devices(result)
        if op is torch.ops.aten.copy_.default:
            given, made = _devices(args[1]), _devices(args[0])
        if given == {"cpu"} and made == {"cuda"} and not _non_blocking(op, args, kwargs):
            self.of["to the GPU"] += 1
        if given == {"cuda"} and made == {"cpu"}:
            self.of["to the host"] += 1
        return result


def _devices(tree: Any) -> set[str]:
    return {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)}


def _non_blocking(op: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    if op is torch.ops.aten.copy_.default:
        return bool(kwargs.get("non_blocking", args[2] if len(args) > 2 else False))
    return bool(kwargs.get("non_blocking", False))


@contextmanager
def pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """While entered, `device="cuda"` works; yields the count of waits."""
    waits = Waits()

    def tolist(tensor: Tensor) -> Any:
        assert tensor.is_cuda, "numbers on the host are tensors of the host"
        waits.of["read"] += 1
        nested: Any = READ if tensor.is_floating_point() else int(READ)
        for size in reversed(tensor.shape):
            nested = [nested] * size
        return nested

    with FakeTensorMode(allow_non_fake_inputs=True), waits, monkeypatch.context() as patch:
        patch.setattr(FakeTensor, "tolist", tolist)
        patch.setattr(FakeTensor, "numpy", lambda tensor: np.zeros(tensor.shape, np.int64))
        for kernel in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
            patch.setattr(torch, kernel, _recurrence)
        patch.setattr(torch.nn.functional, "ctc_loss", _ctc)
        yield waits.of


def _recurrence(x: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """(data, batch_sizes, state, weights, …) or (x, state, weights, …), as torch's kernels take them."""
    if isinstance(rest[0], Tensor) and rest[0].dtype == torch.int64:
        sizes, *rest = rest  # type: ignore[assignment]
        assert sizes.device.type == "cpu", "cuDNN takes the sizes of the batch on the host"
        assert sizes.ndim == 1
    state, weights = rest[0], rest[1]
    states = state if isinstance(state, tuple) else (state,)
    units = states[0].shape[-1] * (len(weights) // 4)
    return x @ weights[0][:1].T * x.new_zeros(units), *states


def _ctc(log_posteriors: Tensor, tokens: Tensor, lengths: Any, token_lengths: Any, **_: Any) -> Tensor:
    assert isinstance(lengths, list), "torch copies lengths to the host that are a tensor"
    assert isinstance(token_lengths, list)
    assert max(lengths) <= log_posteriors.shape[0]
    assert len(lengths) == len(token_lengths) == len(tokens) == log_posteriors.shape[1]
    return log_posteriors.sum()


def on_gpu(model: nn.Module) -> nn.Module:
    """Return the module with weights on the GPU that is not there."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(torch.empty(parameter.shape, device="cuda"))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")
    model.to = lambda device: model  # type: ignore[assignment,method-assign]  # torch swaps no weights without numbers
    return model


class PretendFabric:
    """The engine of one process on that GPU. Its backward pass gives each weight a gradient."""

    device = torch.device("cuda:0")
    world_size, global_rank, is_global_zero = 1, 0, True

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def no_backward_sync(self, model: nn.Module, enabled: bool) -> Any:
        return nullcontext()

    def autocast(self) -> Any:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        assert loss.is_cuda
        assert loss.ndim == 0
        for parameter in self._model.parameters():
            parameter.grad = torch.zeros_like(parameter)

    def all_reduce(self, tensor: Tensor, reduce_op: str) -> Tensor:
        return tensor
