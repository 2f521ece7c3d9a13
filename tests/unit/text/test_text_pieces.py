"""Sub-word pieces: a round trip for any text, sentencepiece as the judge, and errors that say the way out."""

import base64
import io
import json
import re
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from asr.config import TextSettings
from asr.errors import ConfigError, TokenError
from asr.text.tokens import BLANK, PieceTable, fewest_tokens, load_tokens, min_frames, train_pieces

KINDS = ("bpe", "unigram")
TEXTS = [
    "she sells sea shells on the sea shore",
    "the shells she sells are sea shells",
    "the seer sees the sea",
    "on shore the seer sells seashells",
]

# Words of Sennrich et al. 2016, section 3.2, with counts by which their neighbours can be counted by hand.
LOW = {"low": 5, "lower": 2, "newest": 6, "widest": 3}


def counts(texts):
    return Counter(word for text in texts for word in text.split())


def learn(texts, kind, pieces):
    return train_pieces(counts(texts), TextSettings(tokens=kind, pieces=pieces))


def most_pieces(texts, kind):
    """Return the number of pieces that the error for too many says is possible."""
    with pytest.raises(ConfigError) as error:
        learn(texts, kind, 20000)
    return int(re.search(r"at most (\d+) \w+ pieces", str(error.value))[1])


TABLES = {kind: learn(TEXTS, kind, 18) for kind in KINDS}
known_texts = st.text(sorted(set("".join(TEXTS)))).map(lambda text: " ".join(text.split()))
any_characters = st.characters(exclude_categories=["Cs"], exclude_characters="▁▅\0")
any_texts = st.text(any_characters, min_size=1).map(lambda text: " ".join(text.split())).filter(bool)


@pytest.mark.parametrize("kind", KINDS)
@given(text=known_texts)
def test_any_text_over_the_characters_survives_encoding_and_decoding(kind, text):
    table = TABLES[kind]
    ids = table.encode(text)
    assert BLANK not in ids
    assert table.decode(ids) == text


@pytest.mark.parametrize("kind", KINDS)
@given(text=known_texts)
def test_ids_and_texts_are_those_of_sentencepiece(kind, text):
    table = TABLES[kind]
    judge = SentencePieceProcessor(model_proto=table.model)
    assert table.encode(text) == judge.encode(text)
    assert table.decode(table.encode(text)) == judge.decode(judge.encode(text))
    assert [table.symbols[token] for token in table.encode(text)] == judge.encode(text, out_type=str)


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(any_texts, min_size=1, max_size=6), kind=st.sampled_from(KINDS))
def test_the_most_pieces_that_a_text_supports_can_be_learnt_whatever_its_script(texts, kind):
    most = most_pieces(texts, kind)
    assume(most >= 8)
    table = learn(texts, kind, most)
    assert len(table) == most + 1
    assert [table.decode(table.encode(text)) for text in texts] == texts
    # No table needs fewer frames than one token a word, and none more than its characters and a space before them.
    for text in texts:
        needed = min_frames(table.encode(text))
        assert min_frames(fewest_tokens(text, TextSettings(tokens=kind))) <= needed <= min_frames(f" {text}")


def test_bpe_merges_the_most_frequent_neighbours_first():
    # "es" and "est" 9 times (6 newest, 3 widest); then "lo" and "low" 7 times (5 low, 2 lower); "ew" only 6 times.
    table = train_pieces(LOW, TextSettings(tokens="bpe", pieces=15))
    assert table.symbols[:5] == ("<blank>", "es", "est", "lo", "low")
    assert set(table.symbols[5:]) == set("▁lowernstid")
    assert [table.symbols[token] for token in table.encode("lowest")] == ["▁", "low", "est"]


def test_unigram_takes_whole_words_where_that_makes_the_text_most_probable():
    table = train_pieces(LOW, TextSettings(tokens="unigram", pieces=15))
    assert set(table.symbols) == {"<blank>", "▁low", "▁lower", "▁newest", "▁widest", *"▁lowernstid"}
    assert len(table.encode("newest low")) == 2


def test_counts_of_words_give_the_bpe_pieces_that_whole_sentences_give():
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        model_type="bpe",
        vocab_size=31,
        character_coverage=1.0,
        minloglevel=2,
    )
    judge = SentencePieceProcessor(model_proto=model.getvalue())
    expected = [judge.id_to_piece(index) for index in range(3, 31)]  # after <unk>, <s> and </s>
    assert list(learn(TEXTS, "bpe", 28).symbols[1:]) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_depends_on_the_words_alone_and_not_on_their_order(kind):
    assert learn(TEXTS, kind, 18) == learn(reversed(TEXTS), kind, 18) == TABLES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_table_is_loaded_as_it_was(kind, tmp_path):
    TABLES[kind].save(tmp_path / "tokens.json")
    loaded = load_tokens(tmp_path / "tokens.json")
    assert loaded == TABLES[kind]
    assert loaded.encode("the sea") == TABLES[kind].encode("the sea")
    content = json.loads((tmp_path / "tokens.json").read_text(encoding="utf-8"))
    assert content["kind"] == "pieces"
    assert content["symbols"] == list(TABLES[kind].symbols)


def test_the_text_of_a_piece_that_opens_a_word_begins_with_a_space():
    table = train_pieces(LOW, TextSettings(tokens="unigram", pieces=15))
    assert table.texts[table.symbols.index("▁newest")] == " newest"
    assert table.texts[table.symbols.index("▁")] == " "
    assert table.texts[table.symbols.index("r")] == "r"


@pytest.mark.parametrize("kind", KINDS)
def test_characters_that_training_did_not_see_are_named(kind):
    with pytest.raises(TokenError, match=r"'the zoo': no token for 'z',"):
        TABLES[kind].encode("the zoo")
    with pytest.raises(TokenError, match="no token for '▁'"):
        TABLES[kind].encode("the▁sea")


@pytest.mark.parametrize("ids", [[0], [1, 19], [-1]])
def test_ids_that_are_no_pieces_are_refused(ids):
    with pytest.raises(TokenError, match="between 1 and 18"):
        TABLES["bpe"].decode(ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [8, 12])
def test_fewer_pieces_than_characters_are_refused_with_the_least_possible(kind, pieces):
    texts = ["abcdefghijkl"] * 2
    with pytest.raises(
        ConfigError, match=rf"text\.pieces = {pieces} is too few: .* 12 characters .* at least 13 are needed"
    ):
        learn(texts, kind, pieces)
    assert set(learn(texts, kind, 13).symbols[1:]) == set("▁abcdefghijkl")


@pytest.mark.parametrize("character", ["▁", "▅", "\0"])
def test_characters_that_sentencepiece_keeps_to_itself_are_named(character):
    with pytest.raises(TokenError, match=r"which pieces cannot hold; .*text\.remove") as error:
        learn([f"one two thr{character}ee"], "bpe", 12)
    assert f"holds {character!r}," in str(error.value)


@pytest.mark.parametrize("mark", ["<blank>", "<unk>", "<s>", "</s>", "<pad>"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_marks_of_toolkits_are_words_like_any_other(kind, mark):
    texts = [f"{mark} sea {mark}", f"the sea{mark}"]
    table = learn(texts, kind, most_pieces(texts, kind))
    assert [table.decode(table.encode(text)) for text in texts] == texts


MODEL = base64.b64encode(TABLES["bpe"].model).decode()
SYMBOLS = list(TABLES["bpe"].symbols)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"kind": "pieces", "symbols": SYMBOLS}, "needs its sentencepiece model"),
        ({"kind": "pieces", "symbols": SYMBOLS, "model": "%%"}, "not in base64"),
        ({"kind": "pieces", "symbols": SYMBOLS, "model": ""}, "damaged"),
        ({"kind": "pieces", "symbols": SYMBOLS, "model": MODEL[:96]}, "(damaged|not the pieces of)"),
        ({"kind": "pieces", "symbols": SYMBOLS[::-1], "model": MODEL}, "not the pieces of"),
        ({"kind": "pieces", "symbols": SYMBOLS[:-1], "model": MODEL}, "not the pieces of"),
        ({"kind": "pieces", "symbols": [], "model": MODEL}, "not the pieces of"),
        ({"kind": "syllables", "symbols": SYMBOLS, "model": MODEL}, "not a token table; expected"),
    ],
)
def test_a_damaged_table_is_refused_by_name(tmp_path, content, reason):
    (tmp_path / "tokens.json").write_text(json.dumps(content))
    with pytest.raises(TokenError, match=rf"tokens\.json: .*{reason}"):
        load_tokens(tmp_path / "tokens.json")


def test_a_model_whose_first_piece_is_not_the_blank_is_refused():
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, model_type="bpe", vocab_size=30, minloglevel=2
    )
    judge = SentencePieceProcessor(model_proto=model.getvalue())
    with pytest.raises(TokenError, match=r"'<unk>', not the blank's place"):
        PieceTable(tuple(judge.id_to_piece(index) for index in range(30)), model.getvalue())


def test_pieces_spell_words_of_their_characters():
    for table in TABLES.values():
        assert table.characters == set("".join(TEXTS)) - {" "}
        assert table.spellable(["hose", "house", "", "sea shell"]) == ["hose"]
