"""The token n-gram's tables against the model they were expanded from."""

from __future__ import annotations

import random

import numpy as np
import pytest

from asr.decoding import ngram_scorer
from asr.decoding.ngram_scorer import TokenNgramScorer
from asr.errors import LanguageModelError
from asr.lm.estimate import token_ngram
from asr.lm.kneser_ney import kneser_ney
from asr.lm.ngram import LN_10, LOG10_ZERO, SENTENCE_END, SENTENCE_START, UNKNOWN, NgramEntry, NgramLm
from asr.lm.texts import token_units
from asr.text.tokens import TokenTable

TEXTS = ["a cab", "back a bad cab", "dad", "a", "abba ab", "bad dad", "cab cab", "d"]
TABLE = TokenTable.from_texts([*TEXTS, "e"])  # no text holds an e


def table(symbols: str) -> TokenTable:
    return TokenTable.from_texts([symbols])


@pytest.mark.parametrize("order", [1, 2, 3, 5, 8])
def test_every_context_gives_every_token_what_the_model_says(order: int) -> None:
    lm = token_ngram(TEXTS, TABLE, order)
    scorer = TokenNgramScorer(lm, TABLE)
    units = [SENTENCE_END, *token_units(TABLE)[1:]]
    expected = np.array([[lm.log_prob(context, unit) for unit in units] for context in scorer.contexts])
    states = np.array(list(scorer.contexts.values()))
    np.testing.assert_allclose(scorer.score(states), expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(np.exp(scorer.scores).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("order", [1, 2, 4, 6])
def test_a_walk_through_the_states_gives_the_probabilities_of_the_whole_history(order: int) -> None:
    rng = random.Random(order)
    lm = token_ngram(TEXTS, TABLE, order)
    scorer, units = TokenNgramScorer(lm, TABLE), token_units(TABLE)
    state, history = scorer.start(1), [SENTENCE_START]
    row = np.array([0])
    for _ in range(200):
        token = rng.randrange(1, len(TABLE))
        expected = lm.log_prob(history, units[token])
        assert scorer.score(state)[0, token].item() == pytest.approx(expected, abs=1e-5)
        state = scorer.advance(state, row, np.array([token]))
        history.append(units[token])


def test_rows_follow_their_parents_and_token_0_leaves_them_where_they_are() -> None:
    scorer = TokenNgramScorer(token_ngram(TEXTS, TABLE, 3), TABLE)
    a, b = TABLE.encode("ab")
    state = scorer.advance(scorer.start(2), np.array([0, 0, 1]), np.array([a, 0, b]))
    contexts = {index: context for context, index in scorer.contexts.items()}
    assert [contexts[index] for index in state.tolist()] == [("<s>", "a"), ("<s>",), ("<s>", "b")]
    state = scorer.advance(state, np.array([2, 0, 1]), np.array([0, b, 0]))
    assert [contexts[index] for index in state.tolist()] == [("<s>", "b"), ("a", "b"), ("<s>",)]


def test_an_order_without_n_grams_and_contexts_cut_from_the_middle_back_off() -> None:
    # Pruned models may list "a b c" without "b c", and a model may name an order and hold nothing of it.
    lm = NgramLm(
        (
            {
                (SENTENCE_START,): NgramEntry(LOG10_ZERO, -0.1),
                (SENTENCE_END,): NgramEntry(-0.5),
                ("a",): NgramEntry(-0.6, -0.2),
                ("b",): NgramEntry(-0.7, -0.3),
            },
            {(SENTENCE_START, "a"): NgramEntry(-0.4, -0.15), ("a", "b"): NgramEntry(-0.25, -0.35)},
            {(SENTENCE_START, "a", "b"): NgramEntry(-0.05)},
            {},
        )
    )
    scorer = TokenNgramScorer(lm, table("ab"))
    for context, state in scorer.contexts.items():
        expected = [lm.log_prob(context, unit) for unit in (SENTENCE_END, "a", "b")]
        assert scorer.scores[state].tolist() == pytest.approx(expected, abs=1e-6)
    after = scorer.next_states[scorer.contexts[SENTENCE_START, "a"], 2].item()
    assert after == scorer.contexts[SENTENCE_START, "a", "b"]


def test_a_token_that_the_model_lacks_gets_the_probability_of_unk() -> None:
    lm = kneser_ney([list("ab"), list("ba")], 2)
    scorer = TokenNgramScorer(lm, table("abc"))
    for context, state in scorer.contexts.items():
        assert scorer.scores[state, 3].item() == pytest.approx(lm.log_prob(context, UNKNOWN), abs=1e-6)


def test_without_unk_a_missing_token_gets_the_zero_of_arpa_files() -> None:
    lm = kneser_ney([list("ab"), list("ba")], 1, vocabulary="ab")
    scores = TokenNgramScorer(lm, table("abc")).scores
    assert scores[0, 3].item() == pytest.approx(LN_10 * LOG10_ZERO)
    assert np.isfinite(scores).all()


def test_units_that_are_no_tokens_are_refused_by_name() -> None:
    lm = kneser_ney([["ab", "a"], ["cd"]], 2)
    with pytest.raises(LanguageModelError, match=r"\['ab', 'cd'\] are not tokens"):
        TokenNgramScorer(lm, table("abcd"))


def test_tables_that_would_not_fit_are_refused_with_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = token_ngram(TEXTS, TABLE, 4)
    monkeypatch.setattr(ngram_scorer, "MAX_TABLE_BYTES", 1000)
    with pytest.raises(LanguageModelError, match=r"a 4-gram with \d+ contexts and 8 tokens takes .* GiB"):
        TokenNgramScorer(lm, TABLE)
