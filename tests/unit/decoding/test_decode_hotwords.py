"""Hotwords: whole occurrences counted by hand, whatever the tokens; what was lent to a partial match is taken back."""

from __future__ import annotations

import math
import random
import re
import tracemalloc

import numpy as np
import pytest
from enumeration import LETTERS, PIECES, WORDS, hotword_score
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding.hotwords import DENSE_BYTES, HotwordScorer
from asr.errors import ConfigError, TokenError
from asr.text.tokens import TokenTable

ENGLISH = TokenTable.from_texts([" abcdefghijklmnopqrstuvwxyz"])
PHRASES = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3).map(" ".join)
BONUSES = st.dictionaries(PHRASES, st.floats(0.1, 9.0), max_size=4)
TABLES = pytest.mark.parametrize("dense_bytes", [DENSE_BYTES, 0], ids=["dense", "sparse"])


def running_totals(scorer: HotwordScorer, tokens: list[int]) -> list[float]:
    """Return the bonus after each token, and at last the finished sentence's."""
    state, total, totals = scorer.start(1), 0.0, []
    for token in tokens:
        total += scorer.score(state)[0, token].item()
        totals.append(total)
        state = scorer.advance(state, np.array([0]), np.array([token]))
    return [*totals, total + scorer.score(state)[0, 0].item()]


def bonus(bonuses: dict[str, float], text: str) -> float:
    return running_totals(HotwordScorer(bonuses, ENGLISH), ENGLISH.encode(text))[-1]


@TABLES
@pytest.mark.parametrize("table", [LETTERS, PIECES, WORDS], ids=["letters", "pieces", "words"])
@settings(deadline=None)
@given(bonuses=BONUSES, data=st.data())
def test_a_sentence_has_the_bonus_of_each_whole_occurrence(
    table: TokenTable, dense_bytes: int, bonuses: dict[str, float], data: st.DataObject
) -> None:
    tokens = data.draw(st.lists(st.integers(1, len(table) - 1), max_size=20))
    words = table.decode(tokens).split()
    *_, total = running_totals(HotwordScorer(bonuses, table, dense_bytes=dense_bytes), tokens)
    assert total == pytest.approx(hotword_score(bonuses, words), abs=1e-9)


@TABLES
@settings(deadline=None)
@given(bonuses=BONUSES, data=st.data())
def test_a_partial_match_that_fails_leaves_nothing(
    dense_bytes: int, bonuses: dict[str, float], data: st.DataObject
) -> None:
    tokens = data.draw(st.lists(st.integers(1, len(LETTERS) - 1), max_size=20))
    words = LETTERS.decode(tokens).split()
    absent = {phrase: value for phrase, value in bonuses.items() if not hotword_score({phrase: 1.0}, words)}
    *running, total = running_totals(HotwordScorer(absent, LETTERS, dense_bytes=dense_bytes), tokens)
    assert total == pytest.approx(0.0, abs=1e-9)
    assert all(-1e-9 <= lent <= max(absent.values(), default=0.0) + 1e-9 for lent in running)


@TABLES
def test_each_character_lends_its_share_until_the_phrase_fails_or_is_complete(dense_bytes: int) -> None:
    scorer = HotwordScorer({"ab cd": 5.0}, ENGLISH, dense_bytes=dense_bytes)
    assert running_totals(scorer, ENGLISH.encode("ab cd ")) == pytest.approx([1, 2, 3, 4, 5, 5, 5])
    assert running_totals(scorer, ENGLISH.encode("ab ce")) == pytest.approx([1, 2, 3, 4, 0, 0])
    assert running_totals(scorer, ENGLISH.encode("ab cde")) == pytest.approx([1, 2, 3, 4, 5, 0, 0])
    assert running_totals(scorer, ENGLISH.encode("ab c")) == pytest.approx([1, 2, 3, 4, 0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ann", 4.0),
        ("call ann now", 4.0),
        ("  ann  ann ", 8.0),
        ("anna", 0.0),
        ("joann", 0.0),
        ("ann lee", 4.0 + 10.0 + 2.0),
        ("ann leeds", 4.0),
        ("annlee", 0.0),
        ("ann ann  lee", 2 * 4.0 + 10.0 + 2.0),
    ],
)
def test_phrases_match_whole_words_only(text: str, expected: float) -> None:
    assert bonus({"ann": 4.0, "ann lee": 10.0, "lee": 2.0}, text) == pytest.approx(expected)


def test_a_failed_phrase_falls_back_to_one_that_began_within_it() -> None:
    assert bonus({"new york city": 3.0, "york town": 5.0}, "new york town") == pytest.approx(5.0)


def test_no_hotwords_score_nothing() -> None:
    assert running_totals(HotwordScorer({}, LETTERS), LETTERS.encode("ab  a")) == [0.0] * 6


@settings(deadline=None)
@given(bonuses=BONUSES, data=st.data())
def test_sparse_tables_score_all_tokens_of_all_rows_as_dense_ones(
    bonuses: dict[str, float], data: st.DataObject
) -> None:
    dense, sparse = HotwordScorer(bonuses, PIECES), HotwordScorer(bonuses, PIECES, dense_bytes=0)
    states = [scorer.start(3) for scorer in (dense, sparse)]
    rows, blank_or_token = st.integers(0, 2), st.integers(0, len(PIECES) - 1)
    for parents in data.draw(st.lists(st.tuples(rows, rows, rows), max_size=10)):
        tokens = data.draw(st.tuples(blank_or_token, blank_or_token, blank_or_token))
        states = [
            scorer.advance(state, np.array(parents), np.array(tokens))
            for scorer, state in zip((dense, sparse), states, strict=True)
        ]
        np.testing.assert_allclose(sparse.score(states[1]), dense.score(states[0]), rtol=0, atol=1e-9)


class Pieces(TokenTable):
    """A table with tokens of several characters, of which the scorer needs the texts alone."""

    def __post_init__(self) -> None:
        pass


@pytest.mark.parametrize(
    "letters", ["abcdefghijklmnopqrstuvwxyz", "กขคงจฉชซญดตถทนบปผฝพฟมยรลวสหอฮาเแโ"], ids=["spaces", "no spaces"]
)
def test_the_memory_of_many_hotwords_is_bounded(letters: str) -> None:
    rng = random.Random(0)

    def words(count: int, shortest: int, longest: int) -> list[str]:
        return ["".join(rng.choices(letters, k=rng.randint(shortest, longest))) for _ in range(count)]

    pieces = {*letters, *words(500, 2, 3), *(f" {word}" for word in words(500, 1, 3))}
    table, phrases = Pieces(("<blank>", *sorted(pieces))), words(10_000, 5, 14)
    tracemalloc.start()
    scorer = HotwordScorer(dict.fromkeys(phrases, 5.0), table)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 150e6  # a dense table of 70,000 nodes and 1,000 tokens takes 1.1e9
    tokens = [table.symbols.index(letter) for letter in phrases[0]]
    expected = sum(phrase in phrases[0] for phrase in set(phrases)) if letters[0] == "ก" else 1
    assert running_totals(scorer, tokens)[-1] == pytest.approx(5.0 * expected)


def test_hotwords_that_cannot_be_are_refused_by_name() -> None:
    with pytest.raises(TokenError, match="the hotword 'bé' holds 'é'; the model's tokens write only: ab"):
        HotwordScorer({"bé": 1.0}, LETTERS)
    with pytest.raises(TokenError, match="' ' is empty"):
        HotwordScorer({" ": 1.0}, LETTERS)
    with pytest.raises(ConfigError, match="the hotword 'ab' has the bonus 0"):
        HotwordScorer({"ab": 0.0}, LETTERS)
    for bonus in (math.nan, math.inf, 1e308, -1.0, "5", None):
        with pytest.raises(ConfigError, match=re.escape(f"the hotword 'ab' has the bonus {bonus!r}; give one")):
            HotwordScorer({"ab": bonus}, LETTERS)
    HotwordScorer({"ab": np.float32(5.0)}, LETTERS)


def test_all_hotwords_that_no_tokens_can_write_are_in_one_message() -> None:
    with pytest.raises(TokenError) as raised:
        HotwordScorer({f"{letter}b": 1.0 for letter in "acdefghi"}, LETTERS)
    message = str(raised.value)
    assert [letter for letter in "acdefghi" if f"'{letter}b'" in message] == list("cdefg")
    assert "and 2 more" in message


def test_a_hotword_with_a_space_is_refused_if_no_token_writes_one() -> None:
    chinese = TokenTable.from_texts(["今天气很好"])
    with pytest.raises(TokenError, match="the hotword '今天 很好' holds a space"):
        HotwordScorer({"今天 很好": 1.0, "天气": 2.0}, chinese)


def test_a_hotword_that_no_word_token_spells_is_refused() -> None:
    with pytest.raises(TokenError, match=r"'ab abab': no token for \['abab'\]"):
        HotwordScorer({"ab abab": 1.0}, WORDS)
