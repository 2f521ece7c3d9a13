"""The written-out recurrences against torch's kernels, and what theory says of the gradients that pass through them."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from asr.model.cells import hidden_states
from asr.model.rnn import make_rnn

UNITS, FRAMES = 8, 61
KINDS = {"lstm": nn.LSTM, "gru": nn.GRU, "tanh": nn.RNN, "relu": nn.RNN}


def gradient_by_distance(rnn: nn.RNNBase, cell: str, x: Tensor, towards: Tensor) -> Tensor:
    """Return ∂(towards · h_last)/∂h_{last - k}, `(distance, unit)`."""
    states = hidden_states(rnn, cell, x)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(states[-1][0] @ towards, states)
    return torch.stack(gradients)[:, 0].flip(0)


def vanilla(matrix: Tensor, nonlinearity: str) -> nn.RNN:
    """Return a vanilla RNN with this recurrent matrix and the inputs themselves as its other summand."""
    units = len(matrix)
    rnn = nn.RNN(units, units, batch_first=True, nonlinearity=nonlinearity).double()
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.zero_()
        rnn.weight_hh_l0.copy_(matrix)
        rnn.weight_ih_l0.copy_(torch.eye(units))
    return rnn


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("suffix", ["", "_reverse"])
def test_the_written_out_recurrence_equals_torchs_module_in_values_and_gradients(cell: str, suffix: str) -> None:
    options = {"nonlinearity": cell} if cell in ("tanh", "relu") else {}
    rnn = KINDS[cell](5, UNITS, batch_first=True, bidirectional=True, **options)
    x = torch.randn(3, 20, 5)
    forward, backward = rnn(x)[0].chunk(2, dim=2)
    expected = backward.flip(1) if suffix else forward
    actual = torch.stack(hidden_states(rnn, cell, x.flip(1) if suffix else x, suffix), 1)  # type: ignore[arg-type]
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    weight = torch.randn_like(actual)
    used = [parameter for name, parameter in rnn.named_parameters() if name.endswith("_reverse") == bool(suffix)]
    gradients = [torch.autograd.grad((y * weight).sum(), used) for y in (actual, expected)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_linear_recurrence_is_the_transposed_matrix_to_the_power_of_the_distance() -> None:
    """Worked by hand: with positive weights and inputs relu lets all through, so h_t = W h_{t-1} + x_t."""
    matrix = torch.tensor([[0.5, 0.25], [0.0, 0.5]], dtype=torch.float64)
    x = torch.ones(1, 5, 2, dtype=torch.float64)
    gradients = gradient_by_distance(vanilla(matrix, "relu"), "relu", x, torch.tensor([1.0, 0.0]).double())
    # Wᵀ = [[1/2, 0], [1/4, 1/2]]; (Wᵀ)^k (1, 0) = (2^-k, k · 2^-(k+1))
    expected = torch.tensor([[2.0**-k, k * 2.0 ** -(k + 1)] for k in range(5)], dtype=torch.float64)
    torch.testing.assert_close(gradients, expected)


@given(st.integers(0, 2**20), st.floats(0.1, 2.0), st.sampled_from(["tanh", "relu"]))
@settings(max_examples=30)
def test_a_vanilla_rnns_gradient_stays_below_the_largest_singular_value_to_the_power_of_the_distance(
    seed: int, largest: float, cell: str
) -> None:
    """Pascanu et al. 2013, section 2.1: the Jacobian is Wᵀ times slopes that are at most 1."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(UNITS, UNITS, generator=generator, dtype=torch.float64)
    matrix *= largest / torch.linalg.matrix_norm(matrix, 2)
    x = torch.randn(1, 20, UNITS, generator=generator, dtype=torch.float64)
    towards = torch.randn(UNITS, generator=generator, dtype=torch.float64)
    norms = gradient_by_distance(vanilla(matrix, cell), cell, x, towards).norm(dim=1)
    bound = largest ** torch.arange(20, dtype=torch.float64) * towards.norm()
    assert (norms <= bound * (1 + 1e-9)).all()


def test_over_60_frames_a_vanilla_rnn_forgets_exponentially_and_an_lstm_with_open_forget_gates_does_not() -> None:
    x = 0.5 * torch.randn(1, FRAMES, UNITS, dtype=torch.float64)
    towards = torch.randn(UNITS, dtype=torch.float64)
    orthogonal = torch.linalg.qr(torch.randn(UNITS, UNITS, dtype=torch.float64)).Q
    norms = gradient_by_distance(vanilla(0.8 * orthogonal, "tanh"), "tanh", x, towards).norm(dim=1)
    assert norms[60] / norms[0] <= 0.8**60
    halves = [norms[k + 20] / norms[k] for k in (0, 20, 40)]  # exponential: each 20 frames take about the same share
    assert max(halves) <= 0.8**20
    lstm = make_rnn("lstm", UNITS, UNITS, bidirectional=False).double()
    with torch.no_grad():
        lstm.bias_ih_l0[UNITS : 2 * UNITS] = 6.0  # forget gates near σ(6) = 0.9975, and 0.9975^60 = 0.86
    kept = gradient_by_distance(lstm, "lstm", x, towards).norm(dim=1)
    assert kept[60] / kept[1] > 0.1
    assert kept[60] / kept[1] > 1e4 * norms[60] / norms[1]


def test_a_spectral_radius_above_1_makes_the_gradient_explode_at_that_rate() -> None:
    """A positive matrix has a positive leading eigenvector (Perron): the power iteration grows by the radius."""
    matrix = torch.rand(UNITS, UNITS, dtype=torch.float64) + 0.1
    matrix *= 1.2 / torch.linalg.eigvals(matrix).abs().max()
    x = torch.rand(1, FRAMES, UNITS, dtype=torch.float64)
    norms = gradient_by_distance(vanilla(matrix, "relu"), "relu", x, torch.rand(UNITS).double()).norm(dim=1)
    assert norms[60] / norms[0] > 1e4
    assert math.log(norms[60] / norms[20]) / 40 == pytest.approx(math.log(1.2), rel=1e-6)
