"""Tables: delimiters, quotes and column names as people have them; errors that name file and line."""

import gzip
from pathlib import Path

import pytest

from asr.errors import ManifestError
from asr.importing.table import Columns, read_table


@pytest.fixture
def table(tmp_path):
    """Write a table and read it."""

    def read(content, name="t.csv", **columns):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, Columns(**columns)).utterances

    return read


def test_columns_are_found_by_their_usual_names(table, tmp_path):
    (utterance,) = table("ID,Speaker,split,Path,Sentence\nu1,anna,validation,clips/1.wav,hello you\n")
    assert (utterance.id, utterance.speaker, utterance.split) == ("u1", "anna", "dev")
    assert (utterance.audio_path, utterance.text) == (tmp_path / "clips/1.wav", "hello you")
    assert utterance.where == f"{tmp_path}/t.csv:2"


def test_columns_can_be_named(table, tmp_path):
    (utterance,) = table("text,path,b,a\nwrong,wrong,right,x.wav\n", audio="a", text="b")
    assert (utterance.text, utterance.audio_path) == ("right", tmp_path / "x.wav")
    with pytest.raises(ManifestError, match=r"t\.csv: no column 'c'; there are: text, path"):
        table("text,path\nhello,x.wav\n", text="c")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_delimiter_and_line_ends_are_found(table, delimiter, newline):
    rows = [["path", "text", "speaker"], ["a.wav", "one two", "s1"], ["b.wav", "three", ""]]
    utterances = table(newline.join(delimiter.join(row) for row in rows))
    assert [(u.text, u.speaker) for u in utterances] == [("one two", "s1"), ("three", None)]


def test_quoted_cells_hold_delimiters_quotes_and_line_breaks(table):
    utterances = table('path,text\na.wav,"well, ""yes""\nno"\n\nb.wav,c\n')
    assert [(u.text, u.where.rpartition(":")[2]) for u in utterances] == [
        ('well, "yes"\nno', "3"),
        ("c", "5"),
    ]


def test_of_columns_of_like_names_one_can_be_named_and_others_may_be_there_twice(table):
    (utterance,) = table("path,Text,text,note,note\na.wav,b,c,d,e\n", text="text")
    assert utterance.text == "c"


def test_rows_that_quotation_marks_of_the_texts_would_swallow_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('path,text\na.wav,"Yes\nb.wav,no\nc.wav,said he"\nd.wav,hello\ne.wav,"one,\nsee x.txt, two"\n')
    material = read_table(path, Columns())
    assert [one.id for one in material.utterances] == ["d", "e"]
    ((where, reason, is_fault),) = material.left_out
    assert (where, is_fault) == (f"{path}:4", True)
    assert reason.startswith("a cell begins with \" and goes on to the row of 'b.wav'")


def test_in_tab_separated_tables_a_quotation_mark_is_a_character(table):
    utterances = table('path\ttext\na.wav\t"Yes", he said\nb.wav\t"whole ""cell"""\n', name="t.tsv")
    assert [u.text for u in utterances] == ['"Yes", he said', 'whole "cell"']


def test_a_byte_order_mark_is_passed_over(table):
    (utterance,) = table(b"\xef\xbb\xbfpath,text\na.wav,h\xc3\xa9\n")
    assert utterance.text == "hé"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.wav", "a"),
        ("clips/a b.flac", "clips-a_b"),
        ("../x/a (1).mp3", "x-a_1_"),
        ("/data/x.y.wav", "data-x.y"),
    ],
)
def test_without_an_id_column_ids_come_from_paths(table, path, expected):
    (utterance,) = table(f"path,text\n{path},hello\n")
    assert utterance.id == expected


@pytest.mark.parametrize("name", ["t.csv.gz", "t.tsv.gz"])
def test_a_gzipped_table_is_read_like_another(table, name):
    content = 'path,text\r\na.wav,"one,\ntwo"\r\nb.wav,three\r\n'
    if name.startswith("t.tsv"):
        content = "path\ttext\na.wav\tone\nb.wav\tthree\n"
    plain, packed = table(content, name.removesuffix(".gz")), table(gzip.compress(content.encode()), name)
    assert [(u.id, u.text) for u in packed] == [(u.id, u.text) for u in plain]
    assert packed[1].text == "three"


def test_a_relative_path_is_known_to_be_one(table, tmp_path):
    first, second = table("path,text\na.wav,x\n/data/b.wav,y\n")
    assert (first.relative_to, second.relative_to) == (str(tmp_path), "")


def test_absolute_paths_stay(table):
    (utterance,) = table("path,text\n/data/a.wav,hello\n")
    assert utterance.audio_path == Path("/data/a.wav")


def test_audio_may_lie_elsewhere(table, tmp_path):
    path = tmp_path / "cv" / "train.tsv"
    path.parent.mkdir()
    path.write_text("client_id\tpath\tsentence\taccent\nabc\tcommon_voice_de_1.mp3\tGuten Tag.\t\n")
    (utterance,) = read_table(path, Columns(), tmp_path / "cv" / "clips").utterances
    assert utterance.audio_path == tmp_path / "cv/clips/common_voice_de_1.mp3"
    assert (utterance.id, utterance.speaker, utterance.text) == ("common_voice_de_1", "abc", "Guten Tag.")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", r"t\.csv: the table is empty"),
        ("path,text\n", r"t\.csv: the table has a header but no rows"),
        ("path,words spoken\na.wav,hello\n", r"t\.csv: no column for the text .*--text-column"),
        ("speech,text\na.wav,hello\n", r"t\.csv: no column for the audio .*--audio-column"),
        ("path,text\nb.wav,one,two\n", r"t\.csv:2: 3 cells, but the header \(line 1\) has 2"),
        ("path,text\n,hello\n", r"t\.csv:2: 'path' is empty; it names the audio file"),
        ("path,text,split\na.wav,hello,holdout\n", r"t\.csv:2: 'holdout' is not a split; known: train"),
        ('path,text\na.wav,"hello\n', r"t\.csv:\d: malformed row"),
        ('path,text\na.wav,b\nc.wav,"d\ne.wav,f\n', r't\.csv:4: malformed row .* a cell of line 3 begins with "'),
        (b"path,text\na.wav,hello\nb.wav,h\xe9\n", r"t\.csv:3: not UTF-8"),
        (gzip.compress(b"path,text\na.wav,hello\n"), r"t\.csv: compressed with gzip; .*\.gz"),
        ("path,text,text\na.wav,b,c\n", r"t\.csv: 2 columns are called 'text' and 'text'; rename one"),
        ("path,Text,text\na.wav,b,c\n", r"t\.csv: 2 columns are called 'Text' and 'text'; name .* --text-column"),
        (
            "path,text\nhttps://a.org/a.wav,hello\n",
            r"t\.csv:2: 'path' is the address 'https://a\.org/a\.wav'; down",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_named(table, content, reason):
    with pytest.raises(ManifestError, match=reason):
        table(content)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"t\.csv: cannot read the table"):
        read_table(tmp_path / "t.csv", Columns())


def test_rows_that_cannot_be_used_are_left_out_with_line_and_reason(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,text,split\n,x,dev\na.wav,hello,dev\nb.wav,one,two,dev\n\nc.wav,bye,holdout\nd.wav,yes,test")
    material = read_table(path, Columns())
    assert [(u.id, u.where) for u in material.utterances] == [("a", f"{path}:3"), ("d", f"{path}:7")]
    assert [(where, reason.partition(";")[0]) for where, reason, _ in material.left_out] == [
        (f"{path}:2", "'path' is empty"),
        (f"{path}:4", "4 cells, but the header (line 1) has 3: ['b.wav', 'one', 'two', 'dev']"),
        (f"{path}:6", "'holdout' is not a split"),
    ]


def test_all_rows_bad_is_an_error_with_the_first_reasons(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,text\n" + ",x\n" * 25)
    with pytest.raises(ManifestError) as error:
        read_table(path, Columns())
    lines = str(error.value).split("\n")
    assert lines[0] == f"{path}:2: 'path' is empty; it names the audio file"
    assert lines[19].startswith(f"  {path}:21: ")
    assert lines[20:] == ["  and 5 more"]


@pytest.mark.parametrize(
    ("content", "named", "note"),
    [
        ("path,text\na.wav,x\n", None, "no column for the speaker (looked for speaker, speaker_id, client_id"),
        ("path,text,client_id\na.wav,x,\n", None, "column 'client_id' holds no speaker"),
        ("path,text,who\na.wav,x,\nb.wav,x,me\n", "who", "column 'who' holds no speaker in 1 of 2 utterances"),
    ],
)
def test_a_missing_or_empty_speaker_column_is_named(tmp_path, content, named, note):
    path = tmp_path / "t.csv"
    path.write_text(content)
    (told,) = read_table(path, Columns(speaker=named)).notes
    assert told.startswith(f"{path}: {note}")
    path.write_text("path,text,speaker\na.wav,x,me\n")
    assert read_table(path, Columns()).notes == []
