"""Hotwords in scripts without spaces: occurrences counted by looking at every place of the text."""

import math

import numpy as np
import pytest
from enumeration import log_softmax
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decode_hotwords import TABLES, Pieces, running_totals

from asr.decoding.beam import BeamOptions, beam_search
from asr.decoding.hotwords import HotwordScorer
from asr.decoding.scorers import WeightedScorer
from asr.text.tokens import TokenTable

ALONE = "今天气，"
TABLE = TokenTable.from_texts([" ab" + ALONE])
CHINESE = TokenTable.from_texts(["今天气很好田"])
PHRASES = st.lists(st.text("ab今天，", min_size=1, max_size=3), min_size=1, max_size=2).map(" ".join)
PURE = st.text("今天", min_size=1, max_size=3)


PIECES = Pieces(("<blank>", " a", "b今", "天", " 今天", "今a", "，b", " ", "a", "气天"))


def occurrences(phrase, text):
    """Count the places of a text at which a phrase is, with whole words of the script that has spaces."""
    count = 0
    for place in range(len(text) - len(phrase) + 1):
        before, after = text[:place][-1:], text[place + len(phrase) :][:1]
        begins = phrase[0] in ALONE or before in ("", " ", *ALONE)
        ends = phrase[-1] in ALONE or after in ("", " ", *ALONE)
        count += text[place : place + len(phrase)] == phrase and begins and ends
    return count


@TABLES
@pytest.mark.parametrize("table", [TABLE, PIECES], ids=["characters", "pieces"])
@settings(deadline=None, max_examples=300)
@given(bonuses=st.dictionaries(PHRASES, st.floats(0.1, 9.0), max_size=4), data=st.data())
def test_a_sentence_has_the_bonus_of_each_occurrence(table, dense_bytes, bonuses, data):
    tokens = data.draw(st.lists(st.integers(1, len(table) - 1), max_size=20))
    expected = sum(bonus * occurrences(phrase, table.decode(tokens)) for phrase, bonus in bonuses.items())
    assert running_totals(HotwordScorer(bonuses, table, dense_bytes=dense_bytes), tokens)[-1] == pytest.approx(
        expected, abs=1e-9
    )


@settings(deadline=None)
@given(bonuses=st.dictionaries(PURE, st.floats(0.1, 9.0), max_size=4), text=st.text("今天 a", max_size=20))
def test_phrases_of_such_scripts_alone_are_counted_too(bonuses, text):
    expected = sum(bonus * occurrences(phrase, " ".join(text.split())) for phrase, bonus in bonuses.items())
    assert running_totals(HotwordScorer(bonuses, TABLE), TABLE.encode(text))[-1] == pytest.approx(expected, abs=1e-9)


@TABLES
@settings(deadline=None)
@given(bonuses=st.dictionaries(PHRASES, st.floats(0.1, 9.0), max_size=4), text=st.text("今天气 ab，", max_size=20))
def test_a_partial_match_that_fails_leaves_nothing(dense_bytes, bonuses, text):
    absent = {phrase: bonus for phrase, bonus in bonuses.items() if not occurrences(phrase, " ".join(text.split()))}
    *running, total = running_totals(HotwordScorer(absent, TABLE, dense_bytes=dense_bytes), TABLE.encode(text))
    assert total == pytest.approx(0.0, abs=1e-9)
    assert all(-1e-9 <= lent <= max(absent.values(), default=0.0) + 1e-9 for lent in running)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天气很好", 8.0),
        ("天气天气", 16.0),
        ("天 气", 0.0),
        ("天田气", 0.0),
        ("天", 0.0),
    ],
)
def test_a_chinese_phrase_matches_within_a_sentence(text, expected):
    table = TokenTable.from_texts([" 今天气很好田"])
    assert running_totals(HotwordScorer({"天气": 8.0}, table), table.encode(text))[-1] == pytest.approx(expected)


def test_each_character_lends_its_share_and_the_last_completes_the_phrase():
    scorer = HotwordScorer({"今天气": 6.0}, CHINESE)
    assert running_totals(scorer, CHINESE.encode("今天气很")) == pytest.approx([2, 4, 6, 6, 6])
    assert running_totals(scorer, CHINESE.encode("今天很")) == pytest.approx([2, 4, 0, 0])


def test_a_word_of_another_script_stays_whole():
    table = TokenTable.from_texts([" iphone我的很"])
    scorer = HotwordScorer({"phone": 3.0, "iphone": 5.0, "的iphone": 7.0}, table)
    assert running_totals(scorer, table.encode("我的iphone很"))[-1] == pytest.approx(5.0 + 7.0)
    assert running_totals(scorer, table.encode("我的 iphone 很"))[-1] == pytest.approx(5.0)
    assert running_totals(scorer, table.encode("我的phone"))[-1] == pytest.approx(3.0)


def test_a_hotword_turns_the_search_to_its_characters():
    scores = np.full((1, 12, len(CHINESE)), -12.0)
    for place, character in enumerate("今田田气很好"):
        scores[0, 2 * place, CHINESE.symbols.index(character)] = math.log(0.6)
        scores[0, 2 * place + 1, 0] = math.log(0.98)
    scores[0, 4, CHINESE.symbols.index("天")] = math.log(0.38)
    scorers = [WeightedScorer(HotwordScorer({"天气": 8.0}, CHINESE), 1.0)]
    plain, helped = (
        beam_search(log_softmax(scores), np.array([12]), BeamOptions(beam_size=16), used)[0][0]
        for used in ([], scorers)
    )
    assert CHINESE.decode(plain.tokens) == "今田田气很好"
    assert CHINESE.decode(helped.tokens) == "今田天气很好"
