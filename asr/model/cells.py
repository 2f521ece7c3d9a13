"""The recurrences written out, one frame at a time: for reading, and for looking inside.

The kernels that training uses return the hidden states as one tensor of outputs. Its gradient is not the gradient with
respect to the states: h_t also reaches the loss through h_{t+1}, h_{t+2}, …, and that path is inside the kernel. Here
each state is a tensor of its own in the graph, so autograd gives the whole derivative. The values equal the kernels'.

Sources: Elman 1990 (vanilla); Hochreiter & Schmidhuber 1997, Gers et al. 2000 (LSTM); Cho et al. 2014 (GRU; with the
reset gate after the product, as cuDNN has it).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.model.rnn import Cell


def hidden_states(rnn: nn.RNNBase, cell: Cell, x: Tensor, suffix: str = "") -> list[Tensor]:
    """Run one direction of a one-layer module from state 0 and return the hidden state after each frame.

    Args:
        rnn: the module whose weights are used.
        cell: its kind.
        x: `(batch, frame, feature)`.
        suffix: "" for the weights of the forward direction, "_reverse" for those of the backward one; the frames are
            taken as they stand in both cases.

    Returns:
        One `(batch, unit)` a frame; each is computed from the one before.
    """
    from_input, from_state, input_bias, state_bias = (
        getattr(rnn, f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h = c = x.new_zeros(len(x), rnn.hidden_size)
    states = []
    for a in F.linear(x, from_input, input_bias).unbind(1):
        b = F.linear(h, from_state, state_bias)
        if cell == "lstm":
            h, c = lstm_step(a + b, c)
        elif cell == "gru":
            h = gru_step(a, b, h)
        else:
            h = (a + b).tanh() if cell == "tanh" else (a + b).relu()
        states.append(h)
    return states


def lstm_step(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return h_t and c_t. The sum in c_t is the path along which gradients travel far: ∂c_t/∂c_{t-1} = f.

    i, f, o = σ(…);  g = tanh(…);  c_t = f · c_{t-1} + i · g;  h_t = o · tanh(c_t)

    Args:
        gates: `W x_t + U h_{t-1} + b` of i, f, g and o in this order, `(batch, 4 · unit)`.
        c: the cell's content c_{t-1}, `(batch, unit)`.
    """
    i, f, g, o = gates.chunk(4, dim=1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_step(from_input: Tensor, from_state: Tensor, h: Tensor) -> Tensor:
    """Return h_t, which lies between h_{t-1} and a proposal n.

    r, z = σ(…);  n = tanh(W x_t + b + r · (U h_{t-1} + b'));  h_t = z · h_{t-1} + (1 - z) · n

    Args:
        from_input: `W x_t + b` of r, z and n in this order, `(batch, 3 · unit)`.
        from_state: `U h_{t-1} + b'` of the same.
        h: h_{t-1}, `(batch, unit)`.
    """
    reset, update, proposed = from_input.chunk(3, dim=1)
    reset_state, update_state, proposed_state = from_state.chunk(3, dim=1)
    z = (update + update_state).sigmoid()
    n = torch.tanh(proposed + (reset + reset_state).sigmoid() * proposed_state)
    return z * h + (1 - z) * n
