"""The acoustic model as an ONNX graph: one recording → its log-posteriors, with features and normalisation inside.

    waveform (sample,) float32  →  log_posteriors (frame, token) float32

The graph is written operator by operator from the model's weights. So it holds only what is computed, and no tracer has
to guess which sizes may vary. It takes one recording at a time, for three reasons. onnxruntime gains almost nothing
from batches of such networks. Without padding there is nothing to mask. And a neighbour in a batch cannot change a
result, which matters if inputs are rounded to 8 bits, because the largest input sets the step of that rounding.

Sources: https://onnx.ai/onnx/operators/ (operators); onnxruntime, docs/ContribOperators.md (those in integers).
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from asr.bundle.bundle import quantised
from asr.errors import ModelError
from asr.exporting.encoder_graph import encoder_features
from asr.exporting.graph import IN_INTEGERS, Graph, array
from asr.model.acoustic import AcousticModel
from asr.model.encoder import Encoder
from asr.model.logmel import FLOOR, QUIETEST, Cmvn, LogMel, falls
from asr.model.rnn import Cell, LookAhead, RecurrentLayer
from asr.model.subsampling import Subsampling
from asr.runtime.recognizer import INPUT, OUTPUT

# Products of unsigned and signed 8-bit integers overflow on x86 processors that have no special instructions for them.
# Products of unsigned ones are exact everywhere, so results are the same. As an unsigned integer, a weight of 0 is
# _MIDDLE.
_MIDDLE = 128
_MOST_BYTES = 1_900_000_000  # of an encoder's weights, which leaves room for the rest
# The gates in ONNX's order, by their places in torch's: i f g o → i o f g and r z n → z r n.
GATES: dict[Cell, tuple[int, ...]] = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "tanh": (0,), "relu": (0,)}
_OPERATORS: dict[Cell, str] = {"lstm": "LSTM", "gru": "GRU", "tanh": "RNN", "relu": "RNN"}


def acoustic_graph(model: AcousticModel, *, int8: bool) -> onnx.ModelProto:
    """Return the model as an ONNX graph that computes the same as the model in evaluation mode.

    Args:
        model: recurrent, with any cell, in one direction or both.
        int8: store the weights of recurrent and linear layers as 8-bit integers, with a scale for each row. LSTM layers
            also compute in integers: their inputs are rounded to 8 bits. Linear layers do not, because they are small,
            and rounding the input of the output layer would double the error of the whole.

    Raises:
        ModelError: the model has layers that are not recurrent, or normalises by the speaker; or its pretrained encoder
            does not fit into a file of ONNX.
    """
    if model.cmvn.mode == "speaker":
        raise ModelError(
            "an ONNX network hears a segment at a time, so it cannot have features.cmvn=speaker; see `--format torch`"
        )
    graph = Graph(int8)
    if model.encoder is None:
        features = _logmel(graph, model.logmel)
    else:
        encoder = model.encoder.on(torch.device("cpu"))
        _require_room(encoder, int8=int8)
        features = encoder_features(graph, model, encoder, INPUT)
    features = _cmvn(graph, model.cmvn, features)
    x = _subsampling(graph, model.subsampling, features)
    for layer in model.layers:
        if not isinstance(layer, RecurrentLayer):
            raise ModelError("only recurrent networks become ONNX, not model.encoder=conformer; see `--format torch`")
        x = graph.add("Add", x, _recurrence(graph, layer.rnn, layer.cell, graph.norm(x, layer.norm)))
    if model.lookahead is not None:
        x = _lookahead(graph, model.lookahead, x)
    logits = graph.linear(graph.norm(x, model.norm), model.output)
    graph.add("LogSoftmax", graph.add("Squeeze", logits, np.array([1])), name=OUTPUT, axis=-1)
    return graph.finished("acoustic_model", {INPUT: ["sample"]}, {OUTPUT: ["frame", model.output.out_features]})


def _require_room(encoder: Encoder, *, int8: bool) -> None:
    """Refuse an encoder that is too large for a file of ONNX, which has at most 2 GiB."""
    weights = sum(parameter.numel() for parameter in encoder.parameters())
    if weights * (1 if int8 else 4) > _MOST_BYTES:
        way_out = "see `--format torch`" if int8 else "take --int8, or see `--format torch`"
        raise ModelError(f"the encoder has {weights / 1e6:.0f} million weights, too many for ONNX; {way_out}")


def _logmel(graph: Graph, logmel: LogMel) -> str:
    """Return log-mel features `(frame, mel)` of the input.

    The Fourier transform is a convolution with windowed cosines and sines, from which their part of an offset has been
    taken. onnxruntime computes that fast, and its own operator for the transform slowly. The waves are looked up in one
    period when the model is loaded. In the file they would take a third of the space if the weights have 8 bits.
    """
    period, bins = logmel.fft_samples, logmel.fft_samples // 2 + 1
    window = array(logmel.window)
    first, *_, last = np.flatnonzero(window)
    window = window[first : last + 1]
    angles = 2 * np.pi / period * np.arange(period)
    places = np.arange(bins)[:, None] * np.arange(len(window)) % period
    looked_up = graph.add("Mod", graph.add("Mul", np.arange(bins)[:, None], np.arange(len(window))), np.array(period))
    waves = []
    for wave in (np.cos(angles), np.sin(angles)):
        offset = wave[places] @ window / window.sum()
        gathered = graph.add("Gather", wave.astype(np.float32), looked_up)
        waves.append(graph.add("Sub", gathered, offset[:, None].astype(np.float32)))
    kernel = graph.add("Mul", graph.add("Concat", *waves, axis=0), window)
    before = period // 2 - int(first)  # samples before a frame's centre, so that there is one frame more than hops
    padded = graph.add("Pad", INPUT, np.array([before, len(window) - before]), mode="edge")
    spectrum = graph.add(
        "Conv",
        graph.add("Unsqueeze", padded, np.array([0, 1])),
        graph.add("Unsqueeze", kernel, np.array([1])),
        strides=[logmel.hop_samples],
    )
    real = graph.add("Slice", spectrum, np.array([0]), np.array([bins]), np.array([1]))
    imaginary = graph.add("Slice", spectrum, np.array([bins]), np.array([2 * bins]), np.array([1]))
    power = graph.add("Add", graph.add("Mul", real, real), graph.add("Mul", imaginary, imaginary))
    mel = graph.add("MatMul", array(logmel.filters).T, graph.add("Squeeze", power, np.array([0])))
    relative = graph.add("Div", mel, _level(graph, logmel, graph.add("ReduceMean", mel, axes=[0])))
    return graph.add("Transpose", graph.add("Log", graph.add("Max", relative, np.float32(FLOOR))), perm=[1, 0])


def _level(graph: Graph, logmel: LogMel, energies: str) -> str:
    """Return the level that `LogMel` divides by, `(1, 1)` or `(1, frame)`, from mean energies `(1, frame)`."""
    quietest = np.float32(QUIETEST)
    if not logmel.runs:
        mean = graph.add("ReduceMean", graph.add("Cast", energies, to=TensorProto.DOUBLE), axes=[1])
        return graph.add("Max", graph.add("Cast", mean, to=TensorProto.FLOAT), quietest)
    size = logmel.loudest_frames
    smoothed = graph.add(
        "AveragePool",
        graph.add("Unsqueeze", energies, np.array([0])),
        kernel_shape=[size],
        pads=[size - 1, 0],
        count_include_pad=0,
    )
    level = graph.add("Max", graph.add("Squeeze", smoothed, np.array([0])), quietest)
    for shift, factor in falls(logmel.fall_db):  # as in `running_level`
        shifted = graph.add("Pad", graph.add("Mul", level, np.float32(factor)), np.array([0, shift, 0, 0]))
        earlier = graph.add("Slice", shifted, np.array([0]), np.array([-shift]), np.array([1]))
        level = graph.add("Max", level, earlier)
    return level


def _cmvn(graph: Graph, cmvn: Cmvn, features: str) -> str:
    """Return normalised features `(frame, mel)`."""
    if cmvn.mode == "global":
        return graph.add("Div", graph.add("Sub", features, array(cmvn.mean)), array(cmvn.std))
    features = graph.add("Cast", features, to=TensorProto.DOUBLE)  # a long sum loses the last digits of float32
    centred = graph.add("Sub", features, graph.add("ReduceMean", features, axes=[0]))
    std = graph.add("Sqrt", graph.add("ReduceMean", graph.add("Mul", centred, centred), axes=[0]))
    return graph.add("Cast", graph.add("Div", centred, graph.add("Max", std, np.float64(1e-3))), to=TensorProto.FLOAT)


def _subsampling(graph: Graph, subsampling: Subsampling, features: str) -> str:
    """`(frame, mel)` → `(frame, 1, width)`, with fewer frames; the 1 is the batch, as ONNX's recurrences take it."""
    if subsampling.over_frequency:
        x = graph.add("Unsqueeze", features, np.array([0, 1]))
    else:
        x = graph.add("Unsqueeze", graph.add("Transpose", features, perm=[1, 0]), np.array([0, 3]))
    for module in subsampling.convolutions:
        convolution = cast(nn.Conv2d, module)
        weight, bias = array(convolution.weight), array(cast(Tensor, convolution.bias))
        pads = [*map(int, convolution.padding)] * 2
        x = graph.add("Relu", graph.add("Conv", x, weight, bias, strides=[*convolution.stride], pads=pads))
    x = graph.add("Reshape", graph.add("Transpose", x, perm=[2, 0, 1, 3]), np.array([0, 0, -1]))
    return graph.linear(x, subsampling.projection)


def _recurrence(graph: Graph, rnn: nn.RNNBase, cell: Cell, x: str) -> str:
    """Run the recurrence of one layer, in one direction or both, over `(frame, 1, feature)`."""
    suffixes = ("", "_reverse") if rnn.bidirectional else ("",)

    def stacked(name: str) -> NDArray[np.float32]:
        """Return a parameter of all directions, `(direction, gate·unit, …)`, with the gates in ONNX's order."""
        parameters = [array(getattr(rnn, f"{name}_l0{suffix}")) for suffix in suffixes]
        gates = [np.split(parameter, len(GATES[cell])) for parameter in parameters]
        return np.stack([np.concatenate([parts[place] for place in GATES[cell]]) for parts in gates])

    weights = stacked("weight_ih"), stacked("weight_hh")
    bias = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    settings: dict[str, Any] = {
        "hidden_size": rnn.hidden_size,
        "direction": "bidirectional" if rnn.bidirectional else "forward",
    }
    if cell == "gru":
        settings["linear_before_reset"] = 1  # the reset gate comes after the product, as in torch
    elif cell != "lstm":
        settings["activations"] = [cell.capitalize()] * len(suffixes)
    if graph.int8 and cell == "lstm":  # onnxruntime computes no other recurrence in integers
        integers, scales = zip(*map(quantised, weights), strict=True)
        transposed = [(integer.transpose(0, 2, 1) + np.int16(_MIDDLE)).astype(np.uint8) for integer in integers]
        steps = [array for scale in scales for array in (scale, np.full(scale.shape, _MIDDLE, np.uint8))]
        none = [""] * 4  # no lengths, no first states, no peepholes
        y = graph.add("DynamicQuantizeLSTM", x, *transposed, bias, *none, *steps, domain=IN_INTEGERS, **settings)
    else:
        y = graph.add(_OPERATORS[cell], x, *map(graph.weight, weights), bias, **settings)
    return graph.add("Reshape", y, np.array([0, 1, -1]))  # from (frame, direction, 1, unit)


def _lookahead(graph: Graph, lookahead: LookAhead, x: str) -> str:
    """Add a weighted sum of the next frames to each of `(frame, 1, width)`; the frame's own weight is 1."""
    weight = array(lookahead.convolution.weight)
    weight = np.concatenate([np.ones_like(weight[..., :1]), weight], axis=-1)
    x = graph.add("Transpose", x, perm=[1, 2, 0])
    x = graph.add("Conv", x, weight, group=len(weight), pads=[0, lookahead.frames])
    return graph.add("Transpose", x, perm=[2, 0, 1])
