"""Tokens that are whole words: the table is that of the text's words, and a text goes through it unchanged."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import TokenError
from asr.text.tokens import WordTable, load_tokens

PHONES = ["sil hh aw sil", "aa sil dh"]
TEXTS = st.lists(st.lists(st.text("abñß'", min_size=1, max_size=3), max_size=5).map(" ".join), min_size=1)


def test_the_tokens_are_the_words_of_the_texts_in_sorted_order():
    table = WordTable.from_texts(PHONES)
    assert table.symbols == ("<blank>", "aa", "aw", "dh", "hh", "sil")
    assert table.encode("sil hh aw sil") == [5, 4, 2, 5]
    assert table.decode([4, 2, 5, 5]) == "hh aw sil sil"
    assert table.spellable(["hh", "h", "hhaw", "aw"]) == ["hh", "aw"]


@given(texts=TEXTS)
def test_a_text_comes_back_from_its_tokens_and_the_table_from_its_file(tmp_path_factory, texts):
    if not any(texts):
        with pytest.raises(TokenError, match="at least one word; are all transcripts empty"):
            WordTable.from_texts(texts)
        return
    table = WordTable.from_texts(texts)
    path = tmp_path_factory.mktemp("table") / "tokens.json"
    table.save(path)
    assert load_tokens(path) == table
    for text in texts:
        assert table.decode(table.encode(text)) == text
        assert len(table.encode(text)) == len(text.split())


def test_a_word_that_is_no_token_is_named():
    with pytest.raises(TokenError, match=r"'sil zz aa': no token for \['zz'\], because the model's training text"):
        WordTable.from_texts(PHONES).encode("sil zz aa")


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        (["<blank>", "a", "a"], "each occurs once"),
        (["<blank>", "b", "a"], "sorted"),
        (["<blank>", "a\ud800"], "surrogate"),
        (["<blank>", "a b"], "without spaces"),
        (["<blank>", ""], "without spaces"),
        (["<blank>", "a\u3000" * 1_000_000], "without spaces"),
        (["x" * 10_000_000], "begins with '<blank>'"),
        ([], "begins with '<blank>'"),
        (["<blank>"], "at least one word"),
        (["<blank>", 1], "not a token table"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_hostile_table_of_words_is_refused_shortly(tmp_path, symbols, message):
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({"kind": "words", "symbols": symbols}))
    with pytest.raises(TokenError, match=message) as error:
        load_tokens(path)
    assert len(str(error.value)) < 300 + len(str(path))
