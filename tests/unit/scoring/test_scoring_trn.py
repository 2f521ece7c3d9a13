import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ScoringError
from asr.scoring.score import read_trn, write_trn

ids = (
    st.text(st.characters(exclude_characters="()", exclude_categories=("Cs",)), min_size=1)
    .map(lambda name: " ".join(name.split()))
    .filter(bool)
)


@given(st.dictionaries(ids, st.text(), max_size=5))
def test_what_is_written_is_read_back_word_for_word(texts):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ref.trn"
        write_trn(texts, path)
        read = read_trn(path)
    assert list(read) == list(texts)
    assert [text.split() for text in read.values()] == [text.split() for text in texts.values()]


def test_the_format_is_that_of_sclite(tmp_path):
    write_trn({"spk1-001": "grüß  gott", "spk1-002": ""}, tmp_path / "hyp.trn")
    assert (tmp_path / "hyp.trn").read_bytes() == "grüß gott (spk1-001)\n(spk1-002)\n".encode()


def test_parentheses_unusual_white_space_and_blank_lines_are_read(tmp_path):
    (tmp_path / "ref.trn").write_text("so (uh) it\u2028goes (a-1)\r\n\r\n  (a-2)\r\n", encoding="utf-8")
    assert read_trn(tmp_path / "ref.trn") == {"a-1": "so (uh) it goes", "a-2": ""}


def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path):
    (tmp_path / "ref.trn").write_bytes(b"\xef\xbb\xbfhello world (u1)\nfoo bar (u2)\n")
    assert read_trn(tmp_path / "ref.trn") == {"u1": "hello world", "u2": "foo bar"}


@pytest.mark.parametrize("line", ["no identifier", "text (open", "text ()", "text ( )", "text (a) more"])
def test_a_malformed_line_is_an_error_with_file_and_line(tmp_path, line):
    path = tmp_path / "ref.trn"
    path.write_text(f"fine (a)\n{line}\n", encoding="utf-8")
    with pytest.raises(ScoringError, match=r"ref\.trn:2: .*utterance-id") as caught:
        read_trn(path)
    assert line in str(caught.value)


def test_a_repeated_id_is_an_error_that_names_both_lines(tmp_path):
    path = tmp_path / "ref.trn"
    path.write_text("one (a)\ntwo (b)\nthree (b)\n", encoding="utf-8")
    with pytest.raises(ScoringError, match=r"ref\.trn:3: utterance 'b' is already on line 2"):
        read_trn(path)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ScoringError, match=r"hyp\.trn: cannot read"):
        read_trn(tmp_path / "hyp.trn")


def test_bytes_that_are_not_utf8_are_an_error_that_names_the_place(tmp_path):
    (tmp_path / "ref.trn").write_bytes(b"caf\xe9 (a)\n")
    with pytest.raises(ScoringError, match=r"ref\.trn:1: not UTF-8 \(byte 0xe9\)"):
        read_trn(tmp_path / "ref.trn")


@pytest.mark.parametrize("name", ["", "open (", "close )", "two\nlines", " padded", "double  space"])
def test_an_id_that_the_format_cannot_hold_is_refused_and_nothing_is_written(tmp_path, name):
    with pytest.raises(ScoringError, match="cannot be written"):
        write_trn({name: "text"}, tmp_path / "ref.trn")
    assert list(tmp_path.iterdir()) == []
