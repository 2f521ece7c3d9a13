"""Back-off and perplexity on a model small enough to reckon by hand."""

from __future__ import annotations

import math

import pytest

from asr.lm.ngram import LN_10, LOG10_ZERO, NgramEntry, NgramLm

BIGRAM = NgramLm(
    (
        {
            ("<s>",): NgramEntry(LOG10_ZERO, -0.25),
            ("</s>",): NgramEntry(-0.5),
            ("a",): NgramEntry(-0.4, -0.125),
            ("b",): NgramEntry(-0.6),
        },
        {("<s>", "a"): NgramEntry(-0.2), ("a", "b"): NgramEntry(-0.1)},
    )
)
WITH_UNKNOWN = NgramLm(({**BIGRAM.ngrams[0], ("<unk>",): NgramEntry(-2.0)}, BIGRAM.ngrams[1]))


@pytest.mark.parametrize(
    ("history", "unit", "log10_probability"),
    [
        (["<s>"], "a", -0.2),  # listed
        (["<s>"], "b", -0.25 - 0.6),  # backoff(<s>) · p(b)
        (["a"], "</s>", -0.125 - 0.5),
        (["b"], "a", -0.4),  # no back-off weight
        ([], "a", -0.4),
        (["b", "b", "a"], "b", -0.1),  # only the last unit of the history matters to a bigram
        (["z"], "a", -0.4),  # outside the vocabulary
    ],
)
def test_probabilities_back_off_to_shorter_histories(history: list[str], unit: str, log10_probability: float) -> None:
    assert BIGRAM.log_prob(history, unit) == pytest.approx(LN_10 * log10_probability)


def test_units_outside_the_vocabulary_count_as_unk_if_there_is_one() -> None:
    assert BIGRAM.log_prob(["a"], "z") == -math.inf
    assert WITH_UNKNOWN.log_prob(["a"], "z") == pytest.approx(LN_10 * (-0.125 - 2.0))
    assert WITH_UNKNOWN.log_prob(["z"], "a") == pytest.approx(LN_10 * -0.4)


@pytest.mark.parametrize("lm", [BIGRAM, WITH_UNKNOWN])
def test_perplexity_counts_sentence_ends_and_leaves_out_unknown_units(lm: NgramLm) -> None:
    result = lm.perplexity([["a", "b"], ["z", "a"]])
    log10_probability = (-0.2 - 0.1 - 0.5) + (-0.4 - 0.125 - 0.5)
    assert result.perplexity == pytest.approx(10 ** (-log10_probability / 5))
    assert (result.units, result.oovs) == (5, 1)


def test_the_perplexity_of_no_sentence_is_not_a_number() -> None:
    assert math.isnan(BIGRAM.perplexity([]).perplexity)
