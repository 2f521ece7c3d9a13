"""Recurrent layers over padded batches: LSTM, GRU and the vanilla RNN, in one or both directions.

The hidden state h_t = f(x_t, h_{t-1}) summarises all frames so far. A bidirectional layer adds a second state that
runs from the end. In a padded batch that second state must start at each utterance's own last frame. How this is
arranged decides the speed, and the best way differs by device:

* CPU: two one-directional passes. The second pass reads each utterance reversed *within its own length* (an index
  gather), so the padding comes last in both passes. One-directional passes over padded batches use oneDNN's fused
  kernels, and no padding reaches a valid frame.
* CUDA: one packed bidirectional call, which is cuDNN's way to treat varying lengths. The order of the packed frames is
  computed once for all layers (`Packing`). torch's own packing copies lengths to the host in each layer, and each time
  the host waits for the GPU. It runs in float32 (TF32 where the GPU has it): autocast would run cuDNN's recurrences in
  float16, in which small gradients become 0.

Both use the same parameters (those of a bidirectional `nn.LSTM`), so a checkpoint moves freely between devices.
A layer with one direction needs neither, because padding comes after every valid frame. It can also read an utterance
window by window and carry its state on (`RecurrentLayer.window`). `benchmarks/rnn_layouts.py` times the layouts.

`Dropout` and `LookAhead`, which stand beside the recurrent layers in the network, are here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.model.logmel import valid_frames

Cell = Literal["lstm", "gru", "tanh", "relu"]
# What a layer with one direction knows of the frames so far: an LSTM (h, c), others (h,); `(1, batch, unit)` each.
State = tuple[Tensor, ...]


class RecurrentLayer(nn.Module):
    """One pre-normalised residual recurrent layer: `x + dropout(rnn(norm(x)))`.

    The residual path is the shortcut along which gradients reach the lower layers undiminished.
    """

    scale: Tensor | None

    def __init__(self, cell: Cell, width: int, *, bidirectional: bool, dropout: float) -> None:
        """`width` is that of input and output; each direction has `width / 2` units if there are two."""
        super().__init__()
        self.cell: Cell = cell
        self.bidirectional = bidirectional
        self.norm = nn.LayerNorm(width)
        self.rnn = make_rnn(cell, width, width // 2 if bidirectional else width, bidirectional=bidirectional)
        self.dropout = Dropout(dropout)
        self.register_buffer("scale", None)  # (width,) of one speaker, see `asr/model/adaptation.py`

    def forward(self, x: Tensor, lengths: Tensor, layout: Layout | None) -> Tensor:
        """Return `(batch, frame, width)`, zero beyond each length.

        Args:
            x: `(batch, frame, width)`.
            lengths: `(batch,)` frames.
            layout: of two directions, see `layout_of`; one direction needs none.
        """
        y = self.norm(x)
        with _cudnn_in_float32():
            if not self.bidirectional:
                y, _ = _one_direction(self.rnn, self.cell, y, "")
            elif isinstance(layout, Packing):
                y = packed_directions(self.rnn, self.cell, y, layout)
            else:
                assert layout is not None, "two directions need a layout"
                y = both_directions(self.rnn, self.cell, y, layout)
        return self._residual(x, y, lengths)

    def window(self, x: Tensor, lengths: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Continue where the last window ended; for layers with one direction.

        Args:
            x: `(batch, frame, width)`, some consecutive frames.
            lengths: `(batch,)` frames from the window's first one to the utterance's end; below 1 if it is past.
            state: what the previous window returned; None at the start of the utterances.

        Returns:
            `(batch, frame, width)`, zero beyond each length, and the state after the window.
        """
        y = self.norm(x)
        with _cudnn_in_float32():
            y, state = _one_direction(self.rnn, self.cell, y, "", state)
        return self._residual(x, y, lengths), state

    def _residual(self, x: Tensor, y: Tensor, lengths: Tensor) -> Tensor:
        if self.scale is not None:
            y = y * self.scale
        result: Tensor = (x + self.dropout(y)) * valid_frames(lengths, y.shape[1])[..., None]
        return result


def make_rnn(cell: Cell, input_size: int, hidden_size: int, *, bidirectional: bool) -> nn.RNNBase:
    """Return a one-layer recurrent module with weights drawn so that signals neither vanish nor explode at the start.

    Recurrent matrices are orthogonal, one per gate (their singular values are 1: repeated products keep a vector's
    norm); the relu cell starts at the identity (Le et al. 2015, arXiv:1504.00941); the LSTM's forget gate starts open
    (bias 1; Gers et al. 2000, Jozefowicz et al. 2015).
    """
    if cell in ("lstm", "gru"):
        kind = nn.LSTM if cell == "lstm" else nn.GRU
        rnn: nn.RNNBase = kind(input_size, hidden_size, batch_first=True, bidirectional=bidirectional)
    else:
        rnn = nn.RNN(input_size, hidden_size, batch_first=True, bidirectional=bidirectional, nonlinearity=cell)
    for name, parameter in rnn.named_parameters():
        with torch.no_grad():
            if name.startswith("weight_hh"):
                for gate in torch.split(parameter, hidden_size):
                    torch.nn.init.eye_(gate) if cell == "relu" else torch.nn.init.orthogonal_(gate)
            elif name.startswith("weight_ih"):
                for gate in torch.split(parameter, hidden_size):
                    torch.nn.init.xavier_uniform_(gate)
            else:
                parameter.zero_()
                if cell == "lstm" and name.startswith("bias_ih"):
                    parameter[hidden_size : 2 * hidden_size] = 1.0
    return rnn


class Packing(NamedTuple):
    """A padded batch's valid frames without gaps: by time, and of one time the longest utterance first."""

    batch_sizes: Tensor  # (time,) int64, on the CPU: the utterances that have this frame
    rows: Tensor  # (packed,) int64, of each packed frame the row number in the flattened batch
    places: Tensor  # (batch · frame,) int64, where each frame is among the packed ones; 0 if it is padding
    valid: Tensor  # (batch, frame) bool


Layout = Tensor | Packing


def layout_of(lengths: Tensor, frames: int, known_lengths: Sequence[int] | None = None) -> Layout:
    """Return how both directions run over a batch on the device of `lengths`: its `reversal_index`, or its `packing`.

    Args:
        lengths: `(batch,)` frames.
        frames: of the padded batch.
        known_lengths: the lengths as numbers, if the host knows them; otherwise a GPU is asked, which waits for it.
    """
    if not lengths.is_cuda:
        return reversal_index(lengths, frames)
    return packing(lengths, frames, lengths.tolist() if known_lengths is None else known_lengths)


def packing(lengths: Tensor, frames: int, known_lengths: Sequence[int]) -> Packing:
    """Return the packing of utterances of `lengths` frames, `(batch,)`, each at least 1, padded to `frames`.

    Only sizes come from `known_lengths`, the same lengths on the host. All else is computed where `lengths` are.
    """
    on_host = np.asarray(known_lengths)
    batch_sizes = (on_host > np.arange(on_host.max())[:, None]).sum(1)
    valid = valid_frames(lengths, frames)
    longest_first = lengths.argsort(descending=True, stable=True)
    is_padding = ~valid.index_select(0, longest_first).T.flatten()  # (frame · batch,)
    packed = is_padding.long().argsort(stable=True)[: int(on_host.sum())]
    rows = longest_first.index_select(0, packed % len(lengths)) * frames + packed // len(lengths)
    numbers = torch.arange(len(rows), device=lengths.device)
    places = torch.zeros(valid.numel(), dtype=torch.int64, device=lengths.device).scatter_(0, rows, numbers)
    return Packing(torch.from_numpy(batch_sizes), rows, places, valid)


def packed_directions(rnn: nn.RNNBase, cell: Cell, x: Tensor, packing: Packing) -> Tensor:
    """Run a bidirectional module over `(batch, frame, feature)`, packed: → `(batch, frame, 2 · hidden)`, padding 0."""
    data: Tensor = _Pack.apply(x.float() if x.is_cuda else x, packing)
    weights = [weight for suffix in ("", "_reverse") for weight in _weights(rnn, suffix)]
    state = data.new_zeros(2, len(x), rnn.hidden_size)
    options = (weights, True, 1, 0.0, rnn.training, True)  # weights, biases, layers, dropout, training, two directions
    y = _kernel(cell)(data, packing.batch_sizes, (state, state) if cell == "lstm" else state, *options)[0]
    result: Tensor = _Unpack.apply(y, packing)
    return result


class _Pack(torch.autograd.Function):
    """`(batch, frame, feature)` → `(packed, feature)`. Gathers both ways: no scatter-add in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return _packed(x, packing)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _unpacked(gradient, ctx.packing), None


class _Unpack(torch.autograd.Function):
    """`(packed, feature)` → `(batch, frame, feature)`, padding 0; the inverse of `_Pack`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, packing: Packing) -> Tensor:
        ctx.packing = packing
        return _unpacked(x, packing)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _packed(gradient, ctx.packing), None


def _packed(x: Tensor, packing: Packing) -> Tensor:
    return x.flatten(0, 1).index_select(0, packing.rows)


def _unpacked(x: Tensor, packing: Packing) -> Tensor:
    padded = x.index_select(0, packing.places).view(*packing.valid.shape, -1)
    return padded.where(packing.valid[..., None], 0.0)


def reversal_index(lengths: Tensor, frames: int) -> Tensor:
    """Return `(batch, frame)` row numbers of the flattened batch that reverse each utterance within its length.

    Positions beyond the length stay where they are, so applying it twice changes nothing.
    """
    position = torch.arange(frames, device=lengths.device).expand(len(lengths), frames)
    source = torch.where(position < lengths[:, None], lengths[:, None] - 1 - position, position)
    return source + frames * torch.arange(len(lengths), device=lengths.device)[:, None]


def reverse(x: Tensor, reversal: Tensor) -> Tensor:
    """Reverse each utterance of `(batch, frame, feature)` within its length; see `reversal_index`."""
    result: Tensor = _Reverse.apply(x, reversal)
    return result


class _Reverse(torch.autograd.Function):
    """A gather that is its own inverse, hence its own gradient: no scatter-add in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, reversal: Tensor) -> Tensor:
        ctx.save_for_backward(reversal)
        return x.flatten(0, 1).index_select(0, reversal.flatten()).view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (reversal,) = ctx.saved_tensors
        return gradient.flatten(0, 1).index_select(0, reversal.flatten()).view_as(gradient), None


def both_directions(rnn: nn.RNNBase, cell: Cell, x: Tensor, reversal: Tensor) -> Tensor:
    """Run a bidirectional module's weights in the flipped layout: `(batch, frame, feature)` → `(…, 2 · hidden)`."""
    forward, _ = _one_direction(rnn, cell, x, "")
    backward, _ = _one_direction(rnn, cell, reverse(x, reversal), "_reverse")
    return torch.cat([forward, reverse(backward, reversal)], dim=-1)


def _one_direction(
    rnn: nn.RNNBase, cell: Cell, x: Tensor, suffix: str, state: State | None = None
) -> tuple[Tensor, State]:
    """Run one direction's weights over `(batch, frame, feature)` from the first frame on; without a state, from 0."""
    x = x.float() if x.is_cuda else x
    if state is None:
        state = (x.new_zeros(1, x.shape[0], rnn.hidden_size),) * (2 if cell == "lstm" else 1)
    # Weights, biases, layers, dropout, training, two directions, batch first.
    options = (_weights(rnn, suffix), True, 1, 0.0, rnn.training, False, True)
    y, *state_after = _kernel(cell)(x, state if cell == "lstm" else state[0], *options)
    return y, tuple(state_after)


def _weights(rnn: nn.RNNBase, suffix: str) -> list[Tensor]:
    """Return the weights of one direction in the order that the kernels take them."""
    return [getattr(rnn, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]


def _kernel(cell: Cell) -> Any:
    """Return the function that `nn.LSTM` and the like call; it takes any weights."""
    return {"lstm": torch.lstm, "gru": torch.gru, "tanh": torch.rnn_tanh, "relu": torch.rnn_relu}[cell]


def _cudnn_in_float32() -> torch.autocast:
    """Return the context in which recurrences run: as they are on the CPU, without autocast on a GPU."""
    return torch.autocast("cuda", enabled=False)


class Dropout(nn.Module):
    """In training, sets elements to 0 with a given probability and scales the others, so that the mean stays.

    Eight random bytes are drawn at a time. torch's own dropout draws one number per element on one core, which takes a
    tenth of a training step on two cores. One byte per element is enough: the probability is rounded to a 256th, and
    the scale fits the rounded value.

    Source: Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting.
    """

    def __init__(self, probability: float) -> None:
        """Round the probability to a 256th."""
        super().__init__()
        self.dropped_of_256 = min(round(256 * probability), 255)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x`, perturbed in training; the draws come from torch's generator of its device."""
        if not self.training or not self.dropped_of_256:
            return x
        words = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 8),), device=x.device)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped_of_256
        return x * (kept.to(x.dtype) * (256 / (256 - self.dropped_of_256)))


class LookAhead(nn.Module):
    """Adds to each frame a weighted sum of the `frames` frames after it, feature by feature.

    A layer with one direction knows nothing of what follows, although the sound of a letter depends on its right
    neighbour too. A bidirectional layer waits for the end of the utterance. This layer waits for `frames` frames only,
    so a recogniser can write while it listens:

        y_t = x_t + Σ_j w_j · x_{t+j},  j = 1 … frames     (· is element by element: each feature has its own weights)

    Beyond an utterance's end the input is 0, so the output is 0 as well and no mask is needed. The weights start at 0:
    the network first looks at nothing and learns how much of the future helps.

    Source: Wang et al. 2016, "Lookahead convolution layer for unidirectional recurrent neural networks" (ICLR
    workshop); Amodei et al. 2016, "Deep Speech 2", arXiv:1512.02595, section 3.7 (row convolution).
    """

    def __init__(self, width: int, frames: int, *, dropout: float) -> None:
        """`width` is that of input and output."""
        super().__init__()
        self.frames = frames
        self.convolution = nn.Conv1d(width, width, frames, groups=width, bias=False)
        nn.init.zeros_(self.convolution.weight)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(batch, frame, width)`, zero beyond each length → the same."""
        future = F.pad(x.transpose(1, 2), (0, self.frames))[..., 1:]
        result: Tensor = x + self.dropout(self.convolution(future).transpose(1, 2))
        return result

    def step(self, x: Tensor, waiting: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        """Continue where the last call ended. The results of all calls, joined, are `forward` of all frames.

        Args:
            x: `(batch, frame, width)`, the next frames.
            waiting: frames that had too few after them, from the last call; none at the start.
            last: whether these are the last frames.

        Returns:
            `(batch, frame, width)`, the frames that are known by now, and those that wait.
        """
        x = torch.cat([waiting, x], 1)
        ready = x.shape[1] if last else max(x.shape[1] - self.frames, 0)
        return self(x)[:, :ready] if ready else x[:, :0], x[:, ready:]
