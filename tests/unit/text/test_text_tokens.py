"""Token tables: a round trip for any text, and the frames that CTC needs, by brute force."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import TokenError
from asr.text.tokens import BLANK, TokenTable, load_tokens, min_frames

SPACED = st.text(min_size=1).map(lambda text: " ".join(text.split())).filter(bool)


def collapse(path):
    """CTC's map from a path of frames to its labels: merge repeats, then drop blanks."""
    return tuple(token for token, _ in itertools.groupby(path) if token != BLANK)


@given(st.lists(SPACED, min_size=1))
def test_any_text_survives_encoding_and_decoding(texts):
    table = TokenTable.from_texts(texts)
    assert [table.decode(table.encode(text)) for text in texts] == texts
    assert all(BLANK not in table.encode(text) for text in texts)


@given(st.lists(SPACED, min_size=1))
def test_the_table_is_sorted_whatever_the_order_of_the_texts(texts):
    table = TokenTable.from_texts(texts)
    assert table == TokenTable.from_texts(reversed(texts))
    assert table.symbols[0] == "<blank>"
    assert list(table.symbols[1:]) == sorted(set("".join(texts)))
    assert len(table) == len(table.symbols)


def test_a_saved_table_is_loaded_as_it_was(tmp_path):
    table = TokenTable.from_texts(["größe 漢字 'n"])
    table.save(tmp_path / "tokens.json")
    assert load_tokens(tmp_path / "tokens.json") == table
    content = json.loads((tmp_path / "tokens.json").read_text(encoding="utf-8"))
    assert content == {"kind": "char", "symbols": list(table.symbols)}


def test_decoding_collapses_white_space():
    table = TokenTable.from_texts(["a b"])
    space, a, b = table.encode(" ab")
    assert table.decode([space, a, space, space, b, space]) == "a b"


def test_unknown_characters_are_named():
    table = TokenTable.from_texts(["abc"])
    with pytest.raises(TokenError, match=r"'abcxé': no token for 'x', 'é'"):
        table.encode("abcxé")


@pytest.mark.parametrize("ids", [[0], [1, 4], [-1]])
def test_ids_that_are_no_characters_are_refused(ids):
    with pytest.raises(TokenError, match="between 1 and 3"):
        TokenTable.from_texts(["abc"]).decode(ids)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("not json", "cannot read the token table: not JSON"),
        ("[]", "expected"),
        ('{"kind": "bpe", "symbols": ["<blank>", "a"]}', "expected"),
        ('{"kind": "char", "symbols": "abc"}', "expected"),
        ('{"kind": "char", "symbols": ["a", "<blank>"]}', "begins with '<blank>'"),
        ('{"kind": "char", "symbols": ["<blank>"]}', "at least one character"),
        ('{"kind": "char", "symbols": ["<blank>", "ab"]}', "single characters"),
        ('{"kind": "char", "symbols": ["<blank>", "b", "a"]}', "sorted"),
        ('{"kind": "char", "symbols": ["<blank>", "a", "a"]}', "once"),
    ],
)
def test_a_file_that_is_no_token_table_is_refused_by_name(tmp_path, content, reason):
    (tmp_path / "tokens.json").write_text(content)
    with pytest.raises(TokenError, match=rf"tokens\.json: .*{reason}"):
        load_tokens(tmp_path / "tokens.json")


def test_a_missing_token_table_is_named(tmp_path):
    with pytest.raises(TokenError, match=r"tokens\.json: cannot read"):
        load_tokens(tmp_path / "tokens.json")


@pytest.mark.parametrize("tokens", [t for n in range(5) for t in itertools.product((1, 2), repeat=n)])
def test_min_frames_is_the_length_of_the_shortest_path_that_collapses_to_the_tokens(tokens):
    shortest = next(
        frames
        for frames in itertools.count()
        if any(collapse(path) == tokens for path in itertools.product((BLANK, 1, 2), repeat=frames))
    )
    assert min_frames(tokens) == shortest


def test_the_characters_of_a_table_spell_words_without_spaces():
    table = TokenTable.from_texts(["a cab"])
    assert table.characters == {"a", "b", "c"}
    assert table.spellable(["cab", "cad", "", "a b", "b"]) == ["cab", "b"]


@pytest.mark.parametrize(
    ("symbols", "message"),
    [
        (["<blank>", "a", "a"], "each occurs once"),
        (["<blank>", "b", "a"], "sorted"),
        (["<blank>", "\ud800"], "surrogate"),
        (["<blank>", "a" * 10_000_000], "single characters"),
        (["x" * 10_000_000], "begins with '<blank>'"),
        ([], "begins with '<blank>'"),
        (["<blank>"], "at least one character"),
        (["<blank>", 1], "not a token table"),
        ({"<blank>": 1}, "not a token table"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_hostile_token_table_is_refused_shortly(tmp_path, symbols, message):
    path = tmp_path / "tokens.json"
    path.write_text(json.dumps({"kind": "char", "symbols": symbols}))
    with pytest.raises(TokenError, match=message) as error:
        load_tokens(path)
    assert len(str(error.value)) < 300 + len(str(path))
