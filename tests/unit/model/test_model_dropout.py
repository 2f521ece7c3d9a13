"""Dropout by bytes against what dropout is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from asr.model.rnn import Dropout


@pytest.mark.parametrize("probability", [0.1, 0.2, 0.5])
def test_each_element_is_dropped_with_the_probability_and_independently_of_its_neighbours(probability: float) -> None:
    torch.manual_seed(0)
    size = 2**20
    kept = Dropout(probability)(torch.ones(size)) != 0
    tolerance = 5 * (probability * (1 - probability) / size) ** 0.5 + 1 / 512  # five sigmas, and the rounding
    assert abs((1 - kept.double().mean()).item() - probability) < tolerance
    for distance in range(1, 17):  # eight elements share a random number
        both = (~kept[distance:] & ~kept[:-distance]).double().mean().item()
        assert abs(both - probability**2) < 3 * tolerance
    for place in range(8):
        assert abs((1 - kept[place::8].double().mean()).item() - probability) < 3 * tolerance


@given(probability=st.floats(0, 0.999), rows=st.integers(0, 5), columns=st.integers(0, 21))
def test_what_is_kept_is_scaled_so_that_the_mean_stays_and_the_gradient_goes_the_same_way(
    probability: float, rows: int, columns: int
) -> None:
    dropout = Dropout(probability)
    x = torch.ones(rows, columns, requires_grad=True)
    y = dropout(x)
    assert y.shape == x.shape
    dropped = dropout.dropped_of_256 / 256
    assert abs(dropped - probability) <= 1 / 256
    expected = torch.where(y == 0, 0.0, 1 / (1 - dropped))
    torch.testing.assert_close(y, expected)
    y.sum().backward()
    if x.numel():
        torch.testing.assert_close(x.grad, expected)


def test_the_seed_decides_and_evaluation_drops_nothing() -> None:
    dropout, x = Dropout(0.3), torch.randn(3, 50)
    torch.manual_seed(5)
    first = dropout(x)
    torch.manual_seed(5)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(dropout(x), first)
    assert dropout.eval()(x) is x
