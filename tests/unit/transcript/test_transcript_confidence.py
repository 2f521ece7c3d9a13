"""Word posteriors worked by hand, and a calibration fitted to words of known probability."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asr.transcript.confidence import Calibration, Evidence, word_posteriors
from asr.tuning.tune import fit_calibration


def test_a_words_posterior_is_the_share_of_the_hypotheses_that_have_it_at_its_place() -> None:
    hypotheses = [["turn", "it", "on"], ["turn", "on"], ["turn", "it", "off"]]
    assert word_posteriors(hypotheses, [math.log(0.6), math.log(0.3), math.log(0.1)]) == pytest.approx([1.0, 0.7, 0.9])


def test_scores_need_not_be_normalised() -> None:
    assert word_posteriors([["a"], ["b"]], [-5000.0, -5000.0 - math.log(3)]) == pytest.approx([0.75])
    assert word_posteriors([[], ["a"]], [0.0, -1.0]) == []


def test_the_fit_finds_the_coefficients_that_made_the_words_right(rng: np.random.Generator) -> None:
    made_by = Calibration(bias=1.0, posterior=0.8, acoustic=1.5)
    evidence = [Evidence(*pair) for pair in zip(rng.uniform(0.1, 0.9, 6000), -rng.exponential(1.0, 6000), strict=True)]
    right = [bool(rng.random() < made_by.confidence(item)) for item in evidence]
    fitted = fit_calibration(evidence, right)
    assert (fitted.bias, fitted.posterior, fitted.acoustic) == pytest.approx((1.0, 0.8, 1.5), abs=0.2)


def test_log_odds_add_up_and_an_undisputed_word_is_not_certain() -> None:
    calibration = Calibration(bias=0.5, posterior=2.0, acoustic=1.0)
    # Log-odds 0.5 + 2 · log(0.8 / 0.2) - 0.7
    assert calibration.confidence(Evidence(0.8, -0.7)) == pytest.approx(1 / (1 + math.exp(0.2) / 16))
    assert calibration.confidence(Evidence(1.0, 0.0)) == pytest.approx(1 / (1 + math.exp(-6.5)))
    assert Calibration().confidence(Evidence(None, math.log(0.3))) == pytest.approx(0.3)


@pytest.mark.parametrize("right", [[True, True], [False, False]])
def test_with_nothing_to_learn_from_the_defaults_stay(right: list[bool]) -> None:
    assert fit_calibration([Evidence(0.5, -1.0), Evidence(0.7, -1.0)], right) == Calibration()
