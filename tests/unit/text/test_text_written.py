"""The words of a text as the model spells them, and their places in the text as it was written."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.config import TextSettings
from asr.text.normalise import normalise
from asr.text.units import words_of
from asr.text.written import written, written_words

PLAIN = TextSettings(space="-", remove="punctuation")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", [("hello", "Hello,"), ("world", "World!")]),
        ("one — two", [("one", "one —"), ("two", "two")]),
        ("well-known", [("well", "well-known"), ("known", "well-known")]),
        ("'Tis don't", [("tis", "'Tis"), ("don't", "don't")]),
        ("\n\n  a \n b.\n", [("a", "a"), ("b", "b.")]),
        ("— a", [("a", "a")]),
        ("今天，好", [("今", "今"), ("天", "天，"), ("好", "好")]),
        ("…", []),
        ("", []),
    ],
)
def test_each_word_knows_what_was_written_for_it(text: str, expected: list[tuple[str, str]]) -> None:
    assert [(word.spelled, text[word.start : word.end]) for word in written_words(text, PLAIN)] == expected


@given(st.text(alphabet="aB'’-.,!  \nİé今天ーア", max_size=60))
def test_the_words_are_those_of_the_normalised_text_and_their_places_are_in_order(text: str) -> None:
    words = written_words(text, PLAIN)
    assert [word.spelled for word in words] == [
        word for line in text.split("\n") for word in words_of(normalise(line, PLAIN))
    ]
    for before, after in pairwise(words):
        assert before.start <= after.start
        assert before.end <= after.start or (before.start, before.end) == (after.start, after.end)
    if words:
        whole = written(text, words)
        assert normalise(whole, PLAIN).replace(" ", "") == "".join(word.spelled for word in words)


def test_a_text_that_is_one_line_of_30000_words_is_read_at_once() -> None:
    text = "Ein Wort, noch — eins. " * 6000
    words = written_words(text, PLAIN)
    assert len(words) == 24_000
    assert written(text, words[3:7]) == "eins. Ein Wort, noch —"
