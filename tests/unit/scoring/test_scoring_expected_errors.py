"""Expected errors: against cases worked by hand, another library's optimiser, and truths that the test plants."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from asr.errors import ModelError, ScoringError
from asr.scoring.expected_errors import DevUtterance, ExpectedErrors, Signs, fit_expected_errors, rivalry


def utterances(signs: np.ndarray, errors: np.ndarray) -> list[DevUtterance]:
    return [
        DevUtterance(Signs(*row), int(count), int(row[0]) + 1, 2.0)
        for row, count in zip(signs.tolist(), errors.tolist(), strict=True)
    ]


def draw(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw signs: words, of which a share is doubted, and rivals."""
    words = rng.integers(1, 12, count)
    return np.stack([words, words * rng.beta(1, 6, count), rng.gamma(0.5, 1.0, count)], axis=1)


def test_rivalry_weighs_each_rival_by_its_probability() -> None:
    # One word replaced with a half of the best one's probability, two words missing with a quarter of it.
    texts, scores = ["a b c", "a x c", "a"], [0.0, math.log(0.5), math.log(0.25)]
    assert rivalry(texts, scores) == pytest.approx((0.5 * 1 + 0.25 * 2) / 1.75)
    assert rivalry(["a b c"], [-800.0]) == 0
    assert rivalry(["", "a"], [-800.0, -800.0]) == pytest.approx(0.5), "a word where nothing was recognised"


def test_the_weights_that_were_planted_are_found(rng: np.random.Generator) -> None:
    planted = np.array([0.02, 0.7, 0.4])
    signs = draw(rng, 20_000)
    fitted = fit_expected_errors(utterances(signs, rng.poisson(signs @ planted)))
    assert [fitted.words, fitted.doubt, fitted.rivalry] == pytest.approx(planted, rel=0.1)


def test_the_weights_are_those_of_the_greatest_likelihood(rng: np.random.Generator) -> None:
    signs = draw(rng, 150)
    errors = rng.poisson(signs @ [0.05, 0.5, 0.3])

    def loss(weights: np.ndarray) -> float:
        expected = signs @ weights
        prior = (weights[1] + weights[2]) / 6 - np.log(weights).sum() / 6  # gamma densities of the three
        return float((expected - errors * np.log(expected)).sum() + prior)

    best = minimize(loss, np.full(3, 0.1), method="L-BFGS-B", bounds=[(1e-9, None)] * 3, options={"ftol": 1e-14})
    fitted = fit_expected_errors(utterances(signs, errors))
    assert [fitted.words, fitted.doubt, fitted.rivalry] == pytest.approx(best.x, rel=0.02, abs=1e-3)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1), st.floats(0, 5), st.integers(0, 12)), min_size=1))
def test_the_sum_over_dev_is_its_errors_and_up_to_half_an_error(rows: list[tuple[int, float, float, int]]) -> None:
    dev = [DevUtterance(Signs(words, share * words, away), count, words, 1.0) for words, share, away, count in rows]
    heard = [one for one in dev if one.signs.words]
    if not heard:
        with pytest.raises(ScoringError, match="nothing was recognised"):
            fit_expected_errors(dev)
        return
    fitted = fit_expected_errors(dev)
    assert min(fitted.words, fitted.doubt, fitted.rivalry) > 0
    errors = sum(one.errors for one in heard)
    total = sum(fitted.errors(one.signs, 1.0) for one in heard)
    assert total + (fitted.doubt + fitted.rivalry) / 6 == pytest.approx(errors + 0.5)
    assert fitted.dev_errors == errors


def test_a_dev_set_without_an_error_does_not_promise_that_there_are_none() -> None:
    fitted = fit_expected_errors(utterances(np.array([[4, 0.1, 0.0], [6, 0.2, 0.0]]), np.array([0, 0])))
    # A sixth of an error for each sign, over ten words, 0.3 words of doubt and no rivalry.
    assert fitted.words == pytest.approx(1 / 60)
    assert fitted.doubt == pytest.approx((1 / 6) / (0.3 + 1 / 6))
    assert fitted.rivalry == pytest.approx(1), "dev says nothing of it"
    assert fitted.uncertainty == pytest.approx(math.sqrt(2))


def test_where_nothing_is_recognised_all_words_are_missing() -> None:
    dev = [DevUtterance(Signs(3, 0.5, 0.2), 1, 4, 2.0), DevUtterance(Signs(0, 0.0, 0.0), 2, 2, 2.0)]
    fitted = fit_expected_errors(dev)
    assert fitted.words_per_s == pytest.approx(6 / 4)
    assert fitted.errors(Signs(0, 0.0, 0.0), 3.0) == pytest.approx(4.5)
    assert fitted.reference_words(Signs(3, 0.5, 0.2)) == pytest.approx(4)
    assert fitted.dev_errors == 1, "of what was recognised"


def test_it_is_read_as_it_was_written_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert ExpectedErrors.load(tmp_path) is None
    fitted = ExpectedErrors(0.01, 0.5, 0.25, 1.02, 2.5, 31, 591)
    fitted.save(tmp_path)
    assert ExpectedErrors.load(tmp_path) == fitted
    path = tmp_path / "expected_errors.json"
    path.write_text(path.read_text().replace('"doubt": 0.5', '"doubt": -0.5'))
    with pytest.raises(ModelError, match=r"expected_errors.json: no expected errors: doubt: .*asr tune"):
        ExpectedErrors.load(tmp_path)
