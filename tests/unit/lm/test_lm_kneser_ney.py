"""Kneser–Ney against a case worked by hand, the formulas written out plainly, and the laws of probability."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import LanguageModelError
from asr.lm.kneser_ney import FALLBACK_DISCOUNTS, Discounts, estimate_discounts, kneser_ney
from asr.lm.ngram import SENTENCE_END, SENTENCE_START, UNKNOWN, Ngram, NgramLm

Sentences = list[list[str]]


def counts(*, n1: int, n2: int, n3: int, n4: int, more: int = 0) -> np.ndarray:
    return np.repeat([0, 1, 2, 3, 4, 9], [5, n1, n2, n3, n4, more])


def test_discounts_are_those_of_chen_and_goodmans_equation_26() -> None:
    # Y = 10 / (10 + 2 · 5) = 1/2
    estimated = estimate_discounts(counts(n1=10, n2=5, n3=4, n4=2, more=7))
    assert estimated == pytest.approx(Discounts(1 - 2 * 0.5 * 5 / 10, 2 - 3 * 0.5 * 4 / 5, 3 - 4 * 0.5 * 2 / 4))


@pytest.mark.parametrize(
    "degenerate",
    [
        counts(n1=0, n2=5, n3=4, n4=2),
        counts(n1=10, n2=0, n3=4, n4=2),
        counts(n1=10, n2=5, n3=0, n4=2),
        counts(n1=10, n2=5, n3=10, n4=2),  # D₂ = 2 − 3 · 0.5 · 10/5 < 0
        counts(n1=10, n2=5, n3=4, n4=6),  # D₃ = 3 − 4 · 0.5 · 6/4 = 0
        np.array([], dtype=np.int64),
    ],
)
def test_too_few_counts_of_counts_fall_back_to_fixed_discounts(degenerate: np.ndarray) -> None:
    assert estimate_discounts(degenerate) == FALLBACK_DISCOUNTS == (0.5, 1.0, 1.5)


def test_a_bigram_is_that_worked_by_hand() -> None:
    lm = kneser_ney([list("ab"), list("ab"), list("ac")], 2, vocabulary="abc")
    # Unigrams: a, b and c follow one unit each, </s> follows two; fixed discounts, as no unigram follows three.
    # a(·) = 5, γ = (3 · 0.5 + 1.0) / 5 = 1/2, uniform 1/4.
    unigram = {"a": 0.5 / 5 + 0.5 / 4, "b": 0.5 / 5 + 0.5 / 4, "c": 0.5 / 5 + 0.5 / 4, SENTENCE_END: 1 / 5 + 0.5 / 4}
    # Bigrams: n₁ = 2 (ac, c</s>), n₂ = 2 (ab, b</s>), n₃ = 1 (<s>a): Y = 1/3, D₁ = 1/3, D₂ = 3/2, D₃ = 3.
    # After a: a(·) = 3, γ = (3/2 + 1/3) / 3 = 11/18.
    after_a = {
        "a": 11 / 18 * unigram["a"],
        "b": (2 - 3 / 2) / 3 + 11 / 18 * unigram["b"],
        "c": (1 - 1 / 3) / 3 + 11 / 18 * unigram["c"],
        SENTENCE_END: 11 / 18 * unigram[SENTENCE_END],
    }
    for unit in unigram:
        assert math.exp(lm.log_prob([], unit)) == pytest.approx(unigram[unit])
        assert math.exp(lm.log_prob([SENTENCE_START, "a"], unit)) == pytest.approx(after_a[unit])
    # After <s>: a was seen three times, and D₃ takes all three, so that only the unigram is left.
    assert math.exp(lm.log_prob([SENTENCE_START], "a")) == pytest.approx(unigram["a"])


class PlainKneserNey:
    """The formulas of `kneser_ney.py` one n-gram at a time, with dictionaries."""

    def __init__(self, sentences: Sentences, order: int, vocabulary: set[str]) -> None:
        self.vocabulary = vocabulary
        occurrences: Counter[Ngram] = Counter()
        before: defaultdict[Ngram, set[str]] = defaultdict(set)
        for sentence in sentences:
            marked = (SENTENCE_START, *sentence, SENTENCE_END)
            for length in range(1, order + 1):
                for start in range(len(marked) - length + 1):
                    ngram = marked[start : start + length]
                    occurrences[ngram] += 1
                    if start > 0:
                        before[ngram].add(marked[start - 1])
        self.longest = max(len(ngram) for ngram in occurrences)
        self.count: dict[Ngram, int] = {}
        for ngram, times in occurrences.items():
            as_seen = len(ngram) == self.longest or ngram[0] == SENTENCE_START
            if ngram != (SENTENCE_START,):
                self.count[ngram] = times if as_seen else len(before[ngram])
        self.discounts = {
            length: estimate_discounts(np.array([c for ngram, c in self.count.items() if len(ngram) == length]))
            for length in range(1, self.longest + 1)
        }

    def discount(self, ngram: Ngram) -> float:
        return self.discounts[len(ngram)][min(self.count[ngram], 3) - 1]

    def probability(self, history: Ngram, unit: str) -> float:
        lower = self.probability(history[1:], unit) if history else 1 / len(self.vocabulary)
        followers = [n for n in self.count if n[:-1] == history]
        if not followers:
            return lower
        total = sum(self.count[ngram] for ngram in followers)
        gamma = sum(self.discount(ngram) for ngram in followers) / total
        ngram = (*history, unit)
        seen = (self.count[ngram] - self.discount(ngram)) / total if ngram in self.count else 0.0
        return seen + gamma * lower


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_it_equals_the_formulas_written_out_plainly(order: int) -> None:
    rng = random.Random(order)
    sentences = [rng.choices("abcdefg", weights=[9, 5, 4, 3, 2, 1, 1], k=rng.randint(0, 9)) for _ in range(60)]
    lm = kneser_ney(sentences, order)
    plain = PlainKneserNey(sentences, order, {*"abcdefg", UNKNOWN, SENTENCE_END})
    assert any(discounts != FALLBACK_DISCOUNTS for discounts in plain.discounts.values()) or order == 1
    for _ in range(150):
        sentence = rng.choice(sentences)
        history = (SENTENCE_START, *sentence)[-(order - 1) :] if order > 1 else ()
        history = history[: rng.randint(0, len(history))]
        unit = rng.choice([*"abcdefg", UNKNOWN, SENTENCE_END])
        assert math.exp(lm.log_prob(history, unit)) == pytest.approx(plain.probability(history, unit))


def all_histories(lm: NgramLm) -> list[Ngram]:
    listed = [ngram for ngrams in lm.ngrams for ngram in ngrams if ngram[-1] != SENTENCE_END]
    return [(), *listed, ("never", "seen")]


@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=8), min_size=1, max_size=12),
    st.integers(1, 10),
    st.booleans(),
)
def test_after_every_history_the_probabilities_add_up_to_1(sentences: Sentences, order: int, is_open: bool) -> None:
    lm = kneser_ney(sentences, order, vocabulary=None if is_open else "abcde")
    predictable = [unit for (unit,) in lm.ngrams[0] if unit != SENTENCE_START]
    assert (UNKNOWN in predictable) == is_open
    for history in all_histories(lm):
        probabilities = [math.exp(lm.log_prob(history, unit)) for unit in predictable]
        assert math.fsum(probabilities) == pytest.approx(1)
        assert min(probabilities) > 0


def test_an_order_longer_than_every_sentence_is_cut_to_the_longest() -> None:
    assert kneser_ney([list("ab"), list("c")], 10).order == 4  # <s> a b </s>


def test_a_frequent_unit_with_one_predecessor_is_rare_elsewhere() -> None:
    sentences = [["san", "francisco"]] * 20 + [[city, "town"] for city in "abcdefg"]
    lm = kneser_ney(sentences, 2)
    assert lm.log_prob(["x"], "town") > lm.log_prob(["x"], "francisco")
    assert lm.log_prob(["san"], "francisco") > math.log(0.8)


@pytest.mark.parametrize(
    ("sentences", "order", "vocabulary", "message"),
    [
        ([], 2, None, "at least one sentence"),
        ([["a", "z"]], 2, "abc", r"outside the vocabulary: \['z'\]"),
        ([["a", "<s>"]], 2, None, r"\['<s>'\]; leave them out"),
        ([["a"]], 0, None, "from 1 to 20, not 0"),
        ([["a"]], 21, None, "from 1 to 20, not 21"),
    ],
)
def test_unusable_texts_are_refused(sentences: Sentences, order: int, vocabulary: str | None, message: str) -> None:
    with pytest.raises(LanguageModelError, match=message):
        kneser_ney(sentences, order, vocabulary)
