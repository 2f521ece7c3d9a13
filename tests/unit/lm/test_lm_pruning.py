"""Pruning by count and vocabularies with `<unk>`: a case worked by hand, and the laws of probability."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import LanguageModelError
from asr.lm.kneser_ney import kneser_ney
from asr.lm.ngram import SENTENCE_END, SENTENCE_START, UNKNOWN, Ngram, NgramLm

Sentences = list[list[str]]


def sums(lm: NgramLm) -> list[float]:
    """Return the sum of the probabilities after every history, listed or not."""
    predictable = [unit for (unit,) in lm.ngrams[0] if unit != SENTENCE_START]
    histories = [(), ("never", "seen"), *(n for ngrams in lm.ngrams for n in ngrams if n[-1] != SENTENCE_END)]
    return [math.fsum(math.exp(lm.log_prob(history, unit)) for unit in predictable) for history in histories]


def test_a_pruned_bigram_is_that_worked_by_hand() -> None:
    lm = kneser_ney([list("ab"), list("ab"), list("ac")], 2, vocabulary="abc", prune=[0, 1])
    # As without pruning: p(b) = p(c) = 0.5/5 + 0.5/4, and after a the total is 3, ab with D₂ = 3/2.
    unigram = 0.5 / 5 + 0.5 / 4
    # ac occurs once: all of its count is taken, so that γ(a) = (3/2 + 1) / 3 = 5/6, and c is backed off to.
    assert ("a", "c") not in lm.ngrams[1]
    assert lm.ngrams[0]["a",].log10_backoff == pytest.approx(math.log10(5 / 6))
    assert math.exp(lm.log_prob(["a"], "c")) == pytest.approx(5 / 6 * unigram)
    assert math.exp(lm.log_prob(["a"], "b")) == pytest.approx((2 - 3 / 2) / 3 + 5 / 6 * unigram)
    # c </s> was all that followed c: the model backs off with weight 1.
    assert lm.ngrams[0]["c",].log10_backoff == 0


@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=8), min_size=1, max_size=12),
    st.lists(st.integers(0, 3), min_size=3, max_size=3).map(sorted),
    st.sampled_from([None, 1, 2, ["a", UNKNOWN]]),
)
def test_n_grams_above_the_count_stay_and_after_every_history_the_probabilities_add_up_to_1(
    sentences: Sentences, counts: list[int], vocabulary: list[str] | int | None
) -> None:
    lm = kneser_ney(sentences, 4, vocabulary, [0, *counts])
    known = {unit for (unit,) in lm.ngrams[0]}
    occurrences: Counter[Ngram] = Counter()
    for sentence in sentences:
        marked = [SENTENCE_START, *(unit if unit in known else UNKNOWN for unit in sentence), SENTENCE_END]
        occurrences.update(
            tuple(marked[start : start + length]) for length in (2, 3, 4) for start in range(len(marked) - length + 1)
        )
    expected = {ngram for ngram, times in occurrences.items() if times > [0, *counts][len(ngram) - 1]}
    assert {ngram for ngrams in lm.ngrams[1:] for ngram in ngrams} == expected
    assert sums(lm) == pytest.approx([1.0] * len(sums(lm)))


def test_orders_that_pruning_leaves_empty_are_not_in_the_model() -> None:
    assert kneser_ney([list("abc")] * 2, 3, prune=[0, 1, 2]).order == 2


def test_the_last_count_holds_for_all_longer_n_grams() -> None:
    sentences = [list("abcab"), list("abd")]
    assert kneser_ney(sentences, 4, prune=[0, 1]) == kneser_ney(sentences, 4, prune=[0, 1, 1, 1])


def test_units_outside_a_limited_vocabulary_are_estimated_as_unk() -> None:
    sentences = [list("aab"), list("bax"), list("y")]
    lm = kneser_ney(sentences, 3, vocabulary=2)
    # The same as if the text had said <unk> itself.
    assert lm == kneser_ney([["a", "a", "b"], ["b", "a", UNKNOWN], [UNKNOWN]], 3, vocabulary=["a", "b", UNKNOWN])
    assert lm.log_prob(["a"], "x") == lm.log_prob(["a"], UNKNOWN) > kneser_ney(sentences, 3).log_prob(["a"], UNKNOWN)


def test_of_units_seen_equally_often_the_vocabulary_takes_the_first_in_the_alphabet() -> None:
    lm = kneser_ney([list("dcba"), list("dd")], 1, vocabulary=2)
    assert list(lm.ngrams[0]) == [("<s>",), ("</s>",), ("<unk>",), ("a",), ("d",)]


def test_a_text_that_can_be_walked_through_only_once_is_enough() -> None:
    sentences = [list("ab"), list("bb")]
    assert kneser_ney(iter(sentences), 2) == kneser_ney(sentences, 2)


@pytest.mark.parametrize("prune", [[1], [0, 2, 1], [0, 0, 0, 1], [-1]])
def test_counts_to_prune_by_that_make_no_sense_are_refused(prune: list[int]) -> None:
    with pytest.raises(LanguageModelError, match="cannot prune by"):
        kneser_ney([["a"]], 3, prune=prune)


def test_a_vocabulary_of_nothing_is_refused() -> None:
    with pytest.raises(LanguageModelError, match="at least one unit, not 0"):
        kneser_ney([["a"]], 2, vocabulary=0)
