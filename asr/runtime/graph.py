"""The file of an exported network, checked before onnxruntime reads it: it computes what an export computes, no more.

A network may come from anybody. It has the operators that `asr export` writes, no loops, no functions, no operators of
others, and all its data in its own file. What is computed from constants alone, when the network is loaded, is
small.

Sources: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto (the numbers of the fields);
https://protobuf.dev/programming-guides/encoding (how they are stored).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from asr.reading import shown

# Each operator that an export has, and its domain.
_ELEMENTWISE = ("Add", "Div", "Max", "Mod", "Mul", "Sub")
OPERATORS = {
    **dict.fromkeys(_ELEMENTWISE, ""),
    **dict.fromkeys(
        ("AveragePool", "Cast", "Concat", "Conv", "GRU", "Gather", "LSTM", "LayerNormalization", "Log", "LogSoftmax"),
        "",
    ),
    **dict.fromkeys(("MatMul", "Pad", "RNN", "ReduceMean", "Relu", "Reshape", "Slice", "Sqrt", "Squeeze"), ""),
    **dict.fromkeys(("Transpose", "Unsqueeze"), ""),
    # Of a pretrained encoder.
    **dict.fromkeys(("CumSum", "Erf", "Min", "Sigmoid", "Softmax"), ""),
    "DynamicQuantizeLSTM": "com.microsoft",
}
_MOST_NODES = 4000
_MOST_NUMBERS = 1 << 26  # computed from constants at once
_MOST_INTEGER = 1 << 16  # of a size, an axis, a stride, an amount of padding
_BYTES = {1: 4, 2: 1, 3: 1, 7: 8, 11: 8}  # of float, uint8, int8, int64, double
_INT64 = 7

Shape: TypeAlias = tuple[int, ...]
Message: TypeAlias = dict[int, list[int | memoryview]]  # the values of each field: numbers, or bytes


def check_graph(network: bytes) -> None:
    """Refuse the file of a network that is not as `asr export` writes it.

    Raises:
        ValueError: with the reason.
    """
    model = _known(network, "a model", {1, 2, 3, 4, 5, 6, 7, 8})
    for opset in model.get(8, []):
        domain = _text(_known(opset, "a version", {1, 2}), 1)
        if domain not in OPERATORS.values():
            raise ValueError(f"needs operators of {shown(domain)}")
    graphs = model.get(7, [])
    if len(graphs) != 1:
        raise ValueError("damaged: no graph")
    graph = _known(graphs[0], "a graph", {1, 2, 5, 11, 12})
    if len(graph.get(1, [])) > _MOST_NODES:
        raise ValueError(f"has more than {_MOST_NODES} operators")
    shapes: dict[str, Shape] = {}
    values: dict[str, list[int]] = {}
    for tensor in graph.get(5, []):
        _add_constant(tensor, shapes, values)
    for node in graph.get(1, []):
        _check_node(node, shapes, values)


def _add_constant(tensor: int | memoryview, shapes: dict[str, Shape], values: dict[str, list[int]]) -> None:
    content = _fields(tensor)
    if content.keys() & {13, 14}:
        raise ValueError("keeps its weights in other files, which are not read")
    content = _known(tensor, "a constant", {1, 2, 8, 9})
    kind = content.get(2, [0])[-1]
    name, shape, data = _text(content, 8), tuple(_integers(content, 1)), content.get(9, [memoryview(b"")])[-1]
    if not isinstance(kind, int) or kind not in _BYTES or not isinstance(data, memoryview):
        raise ValueError(f"has the constant {shown(name)} of a kind that no export has")
    if any(length < 0 for length in shape) or math.prod(shape) * _BYTES[kind] != len(data):
        raise ValueError(f"damaged: the constant {shown(name)} has another size than its shape")
    shapes[name] = shape
    if kind == _INT64:
        integers = np.frombuffer(data, "<i8")
        if integers.size and (integers.min() < -_MOST_INTEGER or integers.max() > _MOST_INTEGER):
            raise ValueError(f"has the constant {shown(name)} with an integer beyond {_MOST_INTEGER}")
        values[name] = integers.tolist()


def _check_node(node: int | memoryview, shapes: dict[str, Shape], values: Mapping[str, list[int]]) -> None:
    content = _known(node, "an operator", {1, 2, 3, 4, 5, 7})
    operator = _text(content, 4)
    if OPERATORS.get(operator) != _text(content, 7):
        raise ValueError(f"has the operator {shown(operator)}, which no export has")
    settings: dict[str, list[int]] = {}
    for attribute in content.get(5, []):
        fields = _known(attribute, "a setting", {1, 2, 3, 4, 7, 8, 9, 20})
        settings[_text(fields, 1)] = integers = [*_integers(fields, 3), *_integers(fields, 8)]
        if any(abs(integer) > _MOST_INTEGER for integer in integers):
            raise ValueError(f"has the operator {operator} with an integer beyond {_MOST_INTEGER}")
    inputs, outputs = ([_decoded(name) for name in content.get(number, [])] for number in (1, 2))
    if inputs and all(name in shapes for name in inputs):
        shape = _computed(operator, inputs, settings, shapes, values)
        if math.prod(shape) > _MOST_NUMBERS:
            raise ValueError(f"computes {math.prod(shape)} numbers from constants, more than {_MOST_NUMBERS}")
        shapes.update(dict.fromkeys(outputs, shape))


def _computed(
    operator: str,
    inputs: Sequence[str],
    settings: Mapping[str, list[int]],
    shapes: Mapping[str, Shape],
    values: Mapping[str, list[int]],
) -> Shape:
    """Return the shape of what an operator computes from constants."""
    given = [shapes[name] for name in inputs]
    first = given[0]
    try:
        if operator in _ELEMENTWISE:
            return np.broadcast_shapes(*given)
        if operator == "Cast":
            return first
        if operator == "Transpose":
            return tuple(first[axis] for axis in settings["perm"])
        if operator == "Gather" and settings.get("axis", [0]) == [0]:
            return (*given[1], *first[1:])
        if operator == "Concat":
            (axis,) = settings["axis"]
            return (*first[:axis], sum(shape[axis] for shape in given), *first[axis + 1 :])
        if operator == "Unsqueeze":
            shape = list(first)
            for axis in sorted(values[inputs[1]]):
                shape.insert(axis, 1)
            return tuple(shape)
    except (LookupError, ValueError) as error:
        raise ValueError(f"damaged: {operator} of constants that do not fit ({error})") from None
    raise ValueError(f"has {operator} of constants, which no export has")


def _known(data: int | memoryview | bytes, what: str, numbers: set[int]) -> Message:
    content = _fields(data)
    strange = content.keys() - numbers
    if strange:
        raise ValueError(f"has {what} with fields {sorted(strange)[:5]}, which no export has")
    return content


def _fields(data: int | memoryview | bytes) -> Message:
    """Return the fields of a message of protocol buffers by their numbers.

    Raises:
        ValueError: it is damaged.
    """
    if isinstance(data, int):
        raise ValueError("damaged: a number in place of a message")
    view, place = memoryview(data), 0
    found: Message = {}
    while place < len(view):
        key, place = _varint(view, place)
        kind = key & 7
        if kind == 0:
            value, place = _varint(view, place)
            found.setdefault(key >> 3, []).append(value)
            continue
        if kind == 2:
            size, place = _varint(view, place)
        else:
            size = {1: 8, 5: 4}.get(kind, len(view) + 1)
        if size > len(view) - place:
            raise ValueError("damaged: a field that is longer than its message")
        found.setdefault(key >> 3, []).append(view[place : place + size])
        place += size
    return found


def _packed(data: memoryview) -> list[int]:
    """Return integers that are packed into one field."""
    found, place = [], 0
    while place < len(data):
        value, place = _varint(data, place)
        found.append(value)
    return found


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    """Return the integer at a place, and the place after it."""
    value = 0
    for count, byte in enumerate(data[place : place + 10]):
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value, place + count + 1
    raise ValueError("damaged: an integer without an end")


def _integers(content: Message, number: int) -> list[int]:
    """Return the signed integers of a field, packed or not."""
    found = []
    for value in content.get(number, []):
        found += [value] if isinstance(value, int) else _packed(value)
    return [integer - (1 << 64) if integer >= 1 << 63 else integer for integer in found]


def _text(content: Message, number: int) -> str:
    return _decoded(content[number][-1]) if number in content else ""


def _decoded(value: int | memoryview) -> str:
    if isinstance(value, int):
        raise ValueError("damaged: a number in place of a text")
    return str(value, "utf-8")
