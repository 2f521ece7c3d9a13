"""Joined n-best lists: expected word errors and posteriors, against brute force over all pairs."""

from functools import cache
from itertools import product
from math import exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.bayes_risk import SCALE, expected_errors, join


def edit_distance(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """Count by the definition: the fewest insertions, deletions and substitutions, tried out from the front."""

    @cache
    def rest(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        return min(rest(i + 1, j) + 1, rest(i, j + 1) + 1, rest(i + 1, j + 1) + (a[i] != b[j]))

    return rest(0, 0)


words = st.lists(st.sampled_from(["a", "b", "cc"]), max_size=5)
n_best = st.lists(st.tuples(words.map(" ".join), st.floats(-20, 0)), min_size=1, max_size=6, unique_by=lambda p: p[0])


@given(st.lists(st.tuples(words, st.floats(0, 1)), min_size=1, max_size=6))
def test_expected_errors_are_the_weighted_distances_of_all_pairs(found):
    texts, posteriors = zip(*found, strict=True)
    by_hand = [sum(p * edit_distance(tuple(one), tuple(other)) for other, p in found) for one in texts]
    np.testing.assert_allclose(expected_errors(texts, posteriors), by_hand, atol=1e-9)


@given(st.lists(n_best, min_size=1, max_size=3))
def test_the_joined_list_has_the_mean_posteriors_and_begins_with_the_fewest_expected_errors(lists):
    posteriors: dict[str, float] = {}
    for found in lists:
        total = sum(exp(SCALE * score) for _, score in found)
        for text, score in found:
            posteriors[text] = posteriors.get(text, 0.0) + exp(SCALE * score) / total / len(lists)
    risk = {
        text: sum(p * edit_distance(tuple(text.split()), tuple(other.split())) for other, p in posteriors.items())
        for text in posteriors
    }
    joined = join([tuple(zip(*found, strict=True)) for found in lists])
    assert {item.text: pytest.approx(item.posterior, abs=1e-9) for item in joined} == posteriors
    assert {item.text: pytest.approx(item.expected_errors, abs=1e-9) for item in joined} == risk
    first, *others = joined
    assert first.expected_errors == min(item.expected_errors for item in joined)
    assert [item.posterior for item in others] == sorted((item.posterior for item in others), reverse=True)
    for item in joined:
        text, score = lists[item.model][item.place]
        shares = [
            exp(SCALE * score) / sum(exp(SCALE * other) for _, other in found)
            for found in lists
            for text, score in found
            if text == item.text
        ]
        own = exp(SCALE * score) / sum(exp(SCALE * other) for _, other in lists[item.model])
        assert text == item.text
        assert own == pytest.approx(max(shares))


def test_two_models_that_agree_on_a_word_outvote_one_that_is_sure():
    """No text is in two lists: a word at a time, "x b" is nearest to all."""
    joined = join([(["x b"], [0.0]), (["a b"], [0.0]), (["x c"], [0.0])])
    assert joined[0].text == "x b"
    assert joined[0].expected_errors == pytest.approx(2 / 3)


def test_in_scripts_without_spaces_characters_are_the_words():
    joined = join([(["我今天去"], [0.0]), (["他今天去"], [0.0]), (["我今天来"], [0.0])])
    assert joined[0].text == "我今天去"


def test_long_texts_are_joined_too():
    texts = [" ".join(choice) for choice in product(["one two"] * 1 + ["three"], repeat=5)]
    texts = [f"{text} {'word ' * 100}".strip() for text in texts]
    joined = join([(texts, [-float(place) for place in range(len(texts))])] * 3)
    assert len(joined) == len(texts)
    assert sum(item.posterior for item in joined) == pytest.approx(1)
