import math

import pytest

from asr.config import TrainingSettings
from asr.training.run_state import halvings, learning_rate


def test_one_cycle_rises_to_the_peak_and_falls_to_zero() -> None:
    settings = TrainingSettings(learning_rate=1.0, warmup_share=0.25)
    assert learning_rate(settings, 0.125, []) == pytest.approx(0.5)
    assert learning_rate(settings, 0.25, []) == pytest.approx(1.0)
    assert learning_rate(settings, 0.625, []) == pytest.approx(0.5)  # half-way down the cosine
    assert learning_rate(settings, 1.0, []) == pytest.approx(0.0)
    rates = [learning_rate(settings, step / 200, []) for step in range(201)]
    assert rates[:51] == sorted(rates[:51])
    assert rates[50:] == sorted(rates[50:], reverse=True)


def test_one_cycle_agrees_with_torch() -> None:
    import torch

    settings = TrainingSettings(learning_rate=0.5, warmup_share=0.0)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(20):
        assert learning_rate(settings, step / 20, []) == pytest.approx(cosine.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        cosine.step()


@pytest.mark.parametrize(
    ("improved", "expected"),
    [
        ([], 0),
        ([True, True, True], 0),
        ([True, False, False], 1),
        ([True, False, True, False, False], 1),
        ([True, False, False, False, False], 2),
    ],
)
def test_the_rate_is_halved_after_each_run_of_epochs_that_did_not_get_better(
    improved: list[bool], expected: int
) -> None:
    assert halvings(improved, patience=2) == expected
    settings = TrainingSettings(schedule="plateau", learning_rate=1.0, warmup_share=0.1, plateau_patience=2)
    assert learning_rate(settings, 0.5, improved) == pytest.approx(math.pow(0.5, expected))
