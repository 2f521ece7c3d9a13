"""An ONNX graph under construction, operator by operator.

Source: https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from asr.bundle.bundle import quantised

Forms: TypeAlias = Mapping[
    str, Sequence[str | int]
]  # name of each tensor → its axes: a length, or a name for any length

IN_INTEGERS = "com.microsoft"  # the domain of onnxruntime's own operators
_OPSET, _IR_VERSION = 17, 8  # the first versions with LayerNormalization, so that older runtimes can read it too


class Graph:
    """A graph under construction. Tensors are referred to by name; arrays among the inputs become constants."""

    def __init__(self, int8: bool) -> None:
        """Begin with an empty graph; `int8` stores weights in 8 bits."""
        self.int8 = int8
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(
        self,
        operator: str,
        *inputs: str | NDArray[Any],
        name: str = "",
        more: Sequence[str] = (),
        domain: str = "",
        **settings: Any,
    ) -> str:
        """Add an operator and return the name of its first output; `more` names the outputs after it."""
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        name = name or f"{operator}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, names, [name, *more], name=name, domain=domain, **settings))
        return name

    def norm(self, x: str, layer: nn.LayerNorm) -> str:
        """Normalise the last axis."""
        return self.add("LayerNormalization", x, array(layer.weight), array(layer.bias), axis=-1, epsilon=layer.eps)

    def linear(self, x: str, layer: nn.Linear) -> str:
        """Return what a layer makes of the last axis."""
        return self.affine(x, array(layer.weight), array(layer.bias))

    def affine(self, x: str, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> str:
        """Return `x · weightᵀ + bias`."""
        product = self.add("MatMul", x, self.add("Transpose", self.weight(weight), perm=[1, 0]))
        return self.add("Add", product, bias)

    def weight(self, weight: NDArray[np.float32]) -> str:
        """Return a constant `(…, row, column)`; stored in integers, it becomes floats when the model is loaded."""
        if not self.int8:
            return self._constant(weight)
        integers, scale = quantised(weight)
        return self.add("Mul", self.add("Cast", integers, to=TensorProto.FLOAT), scale[..., None])

    def finished(self, name: str, inputs: Forms, outputs: Forms) -> onnx.ModelProto:
        """Return the model; all that goes in and comes out is float32."""
        given, returned = (
            [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, axes) for tensor, axes in forms.items()]
            for forms in (inputs, outputs)
        )
        graph = helper.make_graph(self._nodes, name, given, returned, self._constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(IN_INTEGERS, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="asr")

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name


def array(parameter: Tensor) -> NDArray[np.float32]:
    """Return a parameter as an array."""
    return parameter.detach().float().cpu().numpy()
