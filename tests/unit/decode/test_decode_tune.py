"""Tuning on dev sets whose best weights are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asr.config import DecodeSettings
from asr.decode.tune import tune

SETTINGS = DecodeSettings(beam_size=7, lm_order=4, lm_weight=9.0, insertion_bonus=9.0)


class FakeDevSet:
    """Decodes every utterance to a text that says how far the weights are from the best, in errors."""

    def __init__(self, distance: Callable[[float, float], float]) -> None:
        self.distance = distance
        self.calls: list[DecodeSettings] = []

    def decode(self, settings: DecodeSettings) -> list[str]:
        self.calls.append(settings)
        return [str(round(1000 * self.distance(settings.lm_weight, settings.insertion_bonus)))] * 2


def errors(reference: str, hypothesis: str) -> int:
    assert reference == "reference"
    return int(hypothesis)


@pytest.mark.parametrize("best", [(0.3, 0.75), (0.0, -0.75), (1.1, 1.75), (0.5, 0.5)])
def test_the_pair_with_the_fewest_errors_is_found(best: tuple[float, float]) -> None:
    dev = FakeDevSet(lambda weight, bonus: 2 * abs(weight - best[0]) + abs(bonus - best[1]))
    result = tune(dev.decode, ["reference"] * 2, errors, SETTINGS)
    assert (result.best.lm_weight, result.best.insertion_bonus) == best
    assert min(trial.errors for trial in result.trials) == 0


def test_nothing_is_tried_twice_and_only_the_weights_change() -> None:
    dev = FakeDevSet(lambda weight, bonus: weight + abs(bonus))
    result = tune(dev.decode, ["reference"] * 2, errors, SETTINGS)
    pairs = [(settings.lm_weight, settings.insertion_bonus) for settings in dev.calls]
    assert len(set(pairs)) == len(pairs) <= 40
    assert [(trial.lm_weight, trial.insertion_bonus) for trial in result.trials] == pairs
    assert all(weight >= 0 for weight, _ in pairs)
    assert {(settings.beam_size, settings.lm_order) for settings in dev.calls} == {(7, 4)}


def test_errors_are_summed_over_the_utterances() -> None:
    dev = FakeDevSet(lambda weight, bonus: weight)
    result = tune(dev.decode, ["reference"] * 2, errors, SETTINGS)
    assert all(trial.errors == 2 * round(1000 * trial.lm_weight) for trial in result.trials)


def test_among_equals_the_smallest_weights_win() -> None:
    dev = FakeDevSet(lambda weight, bonus: 0.0)
    best = tune(dev.decode, ["reference"] * 2, errors, SETTINGS).best
    assert (best.lm_weight, best.insertion_bonus) == (0.0, 0.0)


def test_a_hypothesis_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        tune(lambda settings: ["0"], ["reference"] * 2, errors, SETTINGS)
