"""Tables in arrays are mappings like any other, whatever is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.lm.kneser_ney import kneser_ney
from asr.lm.ngram import NgramTable

SENTENCES = st.lists(st.lists(st.sampled_from("abc"), max_size=6), min_size=1, max_size=8)


@given(SENTENCES, st.lists(st.sampled_from(["<s>", "a", "b", "c", "</s>", "z"]), max_size=4).map(tuple))
def test_a_table_answers_as_a_dictionary_of_its_items_does(sentences: list[list[str]], asked: tuple[str, ...]) -> None:
    for table in kneser_ney(sentences, 3).ngrams:
        assert isinstance(table, NgramTable)
        dictionary = dict(table.items())
        assert len(table) == len(dictionary)
        assert list(table) == list(dictionary)
        assert all(table[ngram] == entry for ngram, entry in dictionary.items())
        assert (asked in table) == (asked in dictionary)
        assert table.get(asked) == dictionary.get(asked)


def test_what_is_not_listed_is_a_key_error() -> None:
    table = kneser_ney([["a"]], 2).ngrams[1]
    with pytest.raises(KeyError, match="'a', 'a'"):
        table["a", "a"]
