"""N-grams over an acoustic model's tokens."""

from __future__ import annotations

import math

import pytest

from asr.errors import LanguageModelError, TokenError
from asr.lm.estimate import token_ngram
from asr.lm.texts import token_sentences, token_units
from asr.text.tokens import TokenTable

TABLE = TokenTable.from_texts(["ab c"])


def test_units_are_the_symbols_with_the_space_made_visible() -> None:
    assert token_units(TABLE) == ["", "▁", "a", "b", "c"]
    assert list(token_sentences(["a b", "", "cab"], TABLE)) == [["a", "▁", "b"], [], ["c", "a", "b"]]


def test_every_token_has_a_probability_and_nothing_else_has() -> None:
    lm = token_ngram(["a b", "b a"], TABLE, 3)
    assert {unit for (unit,) in lm.ngrams[0]} == {"<s>", "</s>", "▁", "a", "b", "c"}
    predictable = ["</s>", "▁", "a", "b", "c"]
    assert sum(math.exp(lm.log_prob(["a", "▁"], unit)) for unit in predictable) == pytest.approx(1)
    assert lm.log_prob(["<s>"], "c") > -math.inf


def test_a_character_that_is_no_token_is_named() -> None:
    with pytest.raises(TokenError, match="no token for 'z'"):
        token_ngram(["az"], TABLE, 2)


def test_a_table_with_the_sign_that_stands_for_the_space_is_refused() -> None:
    with pytest.raises(LanguageModelError, match="both the space and '▁'"):
        token_units(TokenTable.from_texts(["a ▁"]))
