"""A pretrained encoder as a part of an ONNX graph: one recording → the mix of the hidden states of its layers.

It computes what `asr.model.encoder` does for a recording that is alone, so nothing is masked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto
from torch import Tensor, nn

from asr.exporting.graph import Graph, array
from asr.model.acoustic import AcousticModel
from asr.model.encoder import NORMALISED_VARIANCE, WINDOW_SAMPLES, Encoder


def encoder_features(graph: Graph, model: AcousticModel, encoder: Encoder, waveform: str) -> str:
    """Return the features `(frame, bin)` that the model makes of the encoder's hidden states of a waveform `(sample,)`.

    Args:
        graph: the graph under construction.
        model: has the weights of the mix, and the layers of the encoder that were trained.
        encoder: on the CPU.
        waveform: the name of a tensor.
    """
    x = _projected(graph, encoder, _convolved(graph, encoder, _normalised(graph, encoder, waveform)))
    states = [x]
    layers: list[Any] = [*encoder.encoder.layers, *model.encoder_layers]
    positions = _positions(graph, layers[0].attention, x) if encoder.form.model_type == "wavlm" else ""
    for layer in layers:
        states.append(_layer(graph, layer, states[-1], positions))
    if encoder.form.do_stable_layer_norm:
        states[-1] = graph.norm(states[-1], encoder.encoder.layer_norm)
    mixed, none = "", np.zeros(encoder.form.hidden_size, np.float32)
    for state, weight in zip(states, array(model.mix.logits.softmax(0)), strict=True):
        part = graph.add("LayerNormalization", state, none + weight, none, axis=-1, epsilon=1e-5)
        mixed = graph.add("Add", mixed, part) if mixed else part
    return graph.linear(mixed, model.mix.projection)


def _normalised(graph: Graph, encoder: Encoder, waveform: str) -> str:
    """Return the waveform `(1, 1, sample)` as the encoder takes it, with silence before and behind it."""
    if encoder.form.do_normalize:
        samples = graph.add("Cast", waveform, to=TensorProto.DOUBLE)  # a long sum loses the last digits of float32
        centred = graph.add("Sub", samples, graph.add("ReduceMean", samples, axes=[0]))
        variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes=[0])
        deviation = graph.add("Sqrt", graph.add("Add", variance, np.float64(NORMALISED_VARIANCE)))
        waveform = graph.add("Cast", graph.add("Div", centred, deviation), to=TensorProto.FLOAT)
    beside = WINDOW_SAMPLES // 2
    return graph.add("Unsqueeze", graph.add("Pad", waveform, np.array([beside, beside])), np.array([0, 1]))


def _convolved(graph: Graph, encoder: Encoder, x: str) -> str:
    """`(1, 1, sample)` → `(frame, channel)`."""
    for block in encoder.feature_extractor.conv_layers:
        bias = () if block.conv.bias is None else (array(block.conv.bias),)
        x = graph.add("Conv", x, array(block.conv.weight), *bias, strides=list(block.conv.stride))
        if isinstance(block.layer_norm, nn.GroupNorm):
            norm = block.layer_norm
            centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes=[2]))
            variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes=[2])
            deviation = graph.add("Sqrt", graph.add("Add", variance, np.float32(norm.eps)))
            x = graph.add("Mul", graph.add("Div", centred, deviation), array(norm.weight)[:, None])
            x = graph.add("Add", x, array(norm.bias)[:, None])
        elif block.layer_norm is not None:
            x = graph.norm(graph.add("Transpose", x, perm=[0, 2, 1]), block.layer_norm)
            x = graph.add("Transpose", x, perm=[0, 2, 1])
        x = _gelu(graph, x)
    return graph.add("Transpose", graph.add("Squeeze", x, np.array([0])), perm=[1, 0])


def _projected(graph: Graph, encoder: Encoder, x: str) -> str:
    """`(frame, channel)` → what the first layer takes, `(frame, width)`: with positions."""
    x = graph.linear(graph.norm(x, encoder.feature_projection.layer_norm), encoder.feature_projection.projection)
    convolution = encoder.encoder.pos_conv_embed.conv
    kernel, groups = convolution.kernel_size[0], convolution.groups
    y = graph.add("Unsqueeze", graph.add("Transpose", x, perm=[1, 0]), np.array([0]))
    y = graph.add(
        "Conv",
        y,
        graph.weight(array(convolution.weight)),
        array(convolution.bias),
        group=groups,
        pads=[kernel // 2, (kernel - 1) // 2],
    )
    y = graph.add("Transpose", graph.add("Squeeze", _gelu(graph, y), np.array([0])), perm=[1, 0])
    x = graph.add("Add", x, y)
    return x if encoder.form.do_stable_layer_norm else graph.norm(x, encoder.encoder.layer_norm)


def _layer(graph: Graph, layer: Any, x: str, positions: str) -> str:
    """Return the output of a Transformer layer, `(frame, width)`."""
    first = layer.layer_norm_first
    attended = _attention(graph, layer.attention, graph.norm(x, layer.layer_norm) if first else x, positions)
    x = graph.add("Add", x, attended)
    x = x if first else graph.norm(x, layer.layer_norm)
    y = graph.norm(x, layer.final_layer_norm) if first else x
    y = _gelu(graph, graph.linear(y, layer.feed_forward.intermediate_dense))
    x = graph.add("Add", x, graph.linear(y, layer.feed_forward.output_dense))
    return x if first else graph.norm(x, layer.final_layer_norm)


def _attention(graph: Graph, attention: Any, x: str, positions: str) -> str:
    """Return what each frame attends to, `(frame, width)`; `positions` is WavLM's bias, `(head, frame, frame)`."""
    heads, width = attention.num_heads, attention.head_dim
    bias = ""
    if positions:
        projections = attention.attention
        queries, keys, values = zip(projections.in_proj_weight.chunk(3), projections.in_proj_bias.chunk(3), strict=True)
        out, bias = projections.out_proj, _gated(graph, attention, x, positions)
    else:
        linears = (attention.q_proj, attention.k_proj, attention.v_proj)
        queries, keys, values = ((linear.weight, linear.bias) for linear in linears)
        out = attention.out_proj

    def of_heads(projection: tuple[Tensor, Tensor], perm: list[int]) -> str:
        projected = graph.affine(x, *map(array, projection))
        return graph.add("Transpose", graph.add("Reshape", projected, np.array([0, heads, width])), perm=perm)

    q, k, v = of_heads(queries, [1, 0, 2]), of_heads(keys, [1, 2, 0]), of_heads(values, [1, 0, 2])
    scores = graph.add("MatMul", graph.add("Mul", q, np.float32(1 / math.sqrt(width))), k)
    scores = graph.add("Add", scores, bias) if bias else scores
    heard = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), v)
    joined = graph.add("Reshape", graph.add("Transpose", heard, perm=[1, 0, 2]), np.array([0, heads * width]))
    return graph.linear(joined, out)


def _positions(graph: Graph, attention: Any, x: str) -> str:
    """Return WavLM's bias of each frame towards each other one, `(head, frame, frame)`, by how far apart they are.

    From a distance on it is always the same, so a table of nearer ones is enough.
    """
    farthest = attention.max_distance
    table = array(attention.compute_bias(2 * farthest + 1, 2 * farthest + 1)[:, farthest].T)  # (distance, head)
    zeros = graph.add("Mul", graph.add("Slice", x, *map(_ints, (0, 1, 1))), np.float32(0))
    ones = graph.add("Add", zeros, np.float32(1))
    place = graph.add("CumSum", graph.add("Squeeze", ones, np.array([1])), np.array(0))
    apart = graph.add("Sub", graph.add("Unsqueeze", place, np.array([0])), graph.add("Unsqueeze", place, np.array([1])))
    near = graph.add("Max", graph.add("Min", apart, np.float32(farthest)), np.float32(-farthest))
    row = graph.add("Cast", graph.add("Add", near, np.float32(farthest)), to=TensorProto.INT64)
    return graph.add("Transpose", graph.add("Gather", table, row), perm=[2, 0, 1])


def _gated(graph: Graph, attention: Any, x: str, positions: str) -> str:
    """Return the bias of positions, each frame's scaled by what is heard there.

    Source: Chen et al. 2022, equations 6 to 9.
    """
    heads, width = attention.num_heads, attention.head_dim
    by_head = graph.add("Reshape", x, np.array([0, heads, width]))
    gates = graph.linear(by_head, attention.gru_rel_pos_linear)
    # Its eight values are the parts of two sums.
    sums = np.kron(np.eye(2, dtype=np.float32), np.ones((4, 1), np.float32))
    gates = graph.add("Sigmoid", graph.add("MatMul", gates, sums))
    a, b = (graph.add("Slice", gates, *map(_ints, (place, place + 1, 2))) for place in (0, 1))
    const = array(attention.gru_rel_pos_const).reshape(heads, 1)
    scale = graph.add("Mul", a, graph.add("Sub", graph.add("Mul", b, const), np.float32(1)))
    scale = graph.add("Transpose", graph.add("Add", scale, np.float32(2)), perm=[1, 0, 2])
    return graph.add("Mul", scale, positions)


def _ints(value: int) -> Any:
    return np.array([value])


def _gelu(graph: Graph, x: str) -> str:
    erf = graph.add("Erf", graph.add("Mul", x, np.float32(1 / math.sqrt(2))))
    return graph.add("Mul", graph.add("Mul", x, np.float32(0.5)), graph.add("Add", erf, np.float32(1)))
