"""Hotwords: whole occurrences counted by hand, whatever the tokens; what was lent to a partial match is taken back."""

from __future__ import annotations

import pytest
import torch
from enumeration import LETTERS, PIECES, hotword_score
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding.hotwords import HotwordScorer
from asr.errors import ConfigError, TokenError
from asr.text.tokens import TokenTable

ENGLISH = TokenTable.from_texts([" abcdefghijklmnopqrstuvwxyz"])
PHRASES = st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3).map(" ".join)
BONUSES = st.dictionaries(PHRASES, st.floats(0.1, 9.0), max_size=4)


def running_totals(scorer: HotwordScorer, tokens: list[int]) -> list[float]:
    """Return the bonus after each token, and at last the finished sentence's."""
    state, total, totals = scorer.start(1, torch.device("cpu")), 0.0, []
    for token in tokens:
        total += scorer.score(state)[0, token].item()
        totals.append(total)
        state = scorer.advance(state, torch.tensor([0]), torch.tensor([token]))
    return [*totals, total + scorer.score(state)[0, 0].item()]


def bonus(bonuses: dict[str, float], text: str) -> float:
    return running_totals(HotwordScorer(bonuses, ENGLISH), ENGLISH.encode(text))[-1]


@pytest.mark.parametrize("table", [LETTERS, PIECES], ids=["letters", "pieces"])
@settings(deadline=None)
@given(bonuses=BONUSES, data=st.data())
def test_a_sentence_has_the_bonus_of_each_whole_occurrence(
    table: TokenTable, bonuses: dict[str, float], data: st.DataObject
) -> None:
    tokens = data.draw(st.lists(st.integers(1, len(table) - 1), max_size=20))
    words = table.decode(tokens).split()
    *_, total = running_totals(HotwordScorer(bonuses, table), tokens)
    assert total == pytest.approx(hotword_score(bonuses, words), abs=1e-9)


@settings(deadline=None)
@given(bonuses=BONUSES, data=st.data())
def test_a_partial_match_that_fails_leaves_nothing(bonuses: dict[str, float], data: st.DataObject) -> None:
    tokens = data.draw(st.lists(st.integers(1, len(LETTERS) - 1), max_size=20))
    words = LETTERS.decode(tokens).split()
    absent = {phrase: value for phrase, value in bonuses.items() if not hotword_score({phrase: 1.0}, words)}
    *running, total = running_totals(HotwordScorer(absent, LETTERS), tokens)
    assert total == pytest.approx(0.0, abs=1e-9)
    assert all(-1e-9 <= lent <= max(absent.values(), default=0.0) + 1e-9 for lent in running)


def test_each_character_lends_its_share_until_the_phrase_fails_or_is_complete() -> None:
    scorer = HotwordScorer({"ab cd": 5.0}, ENGLISH)
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


def test_hotwords_that_cannot_be_are_refused_by_name() -> None:
    with pytest.raises(TokenError, match="the hotword 'bé' holds"):
        HotwordScorer({"bé": 1.0}, LETTERS)
    with pytest.raises(TokenError, match="' ' is empty"):
        HotwordScorer({" ": 1.0}, LETTERS)
    with pytest.raises(ConfigError, match="the hotword 'ab' has the bonus 0"):
        HotwordScorer({"ab": 0.0}, LETTERS)
