"""The speech detector's network as an ONNX graph, for runtimes that have no numpy.

Levels and windows are not in it: they are computed in 64 bits, see `asr/audio/speech_detector.py`.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray

from asr.audio.speech_detector import CONTEXT, STRIDES, WINDOW, Weights
from asr.exporting.graph import Graph
from asr.exporting.onnx_graph import GATES


def detector_graph(weights: Weights) -> onnx.ModelProto:
    """Return the network of the speech detector as an ONNX graph; it computes what `Network` computes in numpy.

        windows (window, sample), hidden and cell (1, 1, unit)  →  probabilities (window,), next_hidden, next_cell

    Args:
        weights: of `asr.audio.speech_detector`, see `SHAPES` there.
    """
    graph = Graph(int8=False)
    padded = graph.add("Pad", "windows", np.array([0, 0, 0, CONTEXT]), mode="reflect")
    kernel = weights["stft_conv.weight"]
    bins = len(kernel) // 2
    spectrum = graph.add("Conv", graph.add("Unsqueeze", padded, np.array([1])), kernel, strides=[kernel.shape[2] // 2])
    real = graph.add("Slice", spectrum, np.array([0]), np.array([bins]), np.array([1]))
    imaginary = graph.add("Slice", spectrum, np.array([bins]), np.array([2 * bins]), np.array([1]))
    power = graph.add("Add", graph.add("Mul", real, real), graph.add("Mul", imaginary, imaginary))
    x = graph.add("Sqrt", power)
    for name, stride in STRIDES.items():
        convolved = graph.add(
            "Conv", x, weights[f"{name}.weight"], weights[f"{name}.bias"], strides=[stride], pads=[1, 1]
        )
        x = graph.add("Relu", convolved)

    def in_order(name: str) -> NDArray[np.float32]:
        gates = np.split(weights[name], 4)
        return np.concatenate([gates[place] for place in GATES["lstm"]])

    bias = np.concatenate([in_order("lstm_cell.bias_ih"), in_order("lstm_cell.bias_hh")])[None]
    products = in_order("lstm_cell.weight_ih")[None], in_order("lstm_cell.weight_hh")[None]
    units = products[1].shape[2]
    sequence = graph.add("Transpose", x, perm=[0, 2, 1])  # a window is a step of the sequence
    states = "hidden", "cell"
    after = [f"next_{state}" for state in states]
    y = graph.add("LSTM", sequence, *products, bias, "", *states, more=after, hidden_size=units)
    y = graph.add("Reshape", graph.add("Relu", y), np.array([-1, units]))
    product = graph.add("MatMul", y, weights["final_conv.weight"].reshape(units, 1))
    logit = graph.add("Add", product, weights["final_conv.bias"])
    graph.add("Sigmoid", graph.add("Squeeze", logit, np.array([1])), name="probabilities")
    state = [1, 1, units]
    return graph.finished(
        "speech_detector",
        {"windows": ["window", CONTEXT + WINDOW], **dict.fromkeys(states, state)},
        {"probabilities": ["window"], **dict.fromkeys(after, state)},
    )
