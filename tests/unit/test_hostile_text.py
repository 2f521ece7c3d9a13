"""Text from users is text wherever it is shown: no output controls a terminal, and no text is taken for markup.

Each kind of text is in ids, speakers, names of files and folders, transcripts, tokens and settings, where that place
can hold it. A place that cannot hold it refuses it, with an error that is text too.
"""

import csv
import html
import io
import json
import unicodedata

import praatio.textgrid
import pysubs2
import pytest

from asr.files import printable
from asr.transcript.transcript import FORMATS, Transcript
from asr.transcript.words import Word

HOSTILE = {
    "script": "<script>alert(1)</script>",
    "tag": "<i>x</i>",
    "rich": "[red]x[/red]",
    "rich link": "[link=http://x]x[/link]",
    "colour": "\x1b[31mred\x1b[0m",
    "hyperlink": "\x1b]8;;http://x\x07here\x1b]8;;\x1b\\",
    "title": "\x1b]0;owned\x07",
    "C1": "\x9b31mred",
    "return": "good\rbad",
    "bell": "\x07",
    "backspace": "a\x08b",
    "override": "abc\u202efed",
    "isolate": "\u2067abc",
    "line separator": "a\u2028b",
    "next line": "a\x85b",
    "lines": "a\n\n9\nb --> c",
    "tab": "a\tb",
    "long": "x" * 10_000,
    "family": "👩‍👩‍👧‍👦",
    "format": "%s%n%",
    "braces": "{0}{x}",
    "jinja": "{{7*7}}{%raw%}",
    "override tag": "{\\an8}\\N",
    "mathematics": "$x^{$",
    "entity": "&lt;&amp;",
    "arrow": "-->",
    "quote": "\"'`",
    "markdown": "|`a`*b*[c](d)",
    "emoji code": ":warning:",
}
# What one word of a language can be: no white space, nothing that controls.
WORDS = {name: text for name, text in HOSTILE.items() if not any(unicodedata.category(c) in ("Cc", "Zl") for c in text)}
REORDERING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def controlling(text, allowed="\n"):
    """Return the characters of a text that control a terminal or reorder a line."""
    found = {c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in REORDERING}
    return sorted(found - set(allowed))


def transcript_of(text, path="a.wav"):
    words = [Word("before", 0.0, 1.0, 0.9), Word(text, 1.0, 2.0, 0.9), Word("after", 2.0, 3.0, 0.9)]
    return Transcript.of(words, 3.5, path)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("format", FORMATS)
def test_no_format_of_a_transcript_controls_a_terminal(format, text):
    written = FORMATS[format](transcript_of(text, f"folder/{text}.wav"))
    assert controlling(written, "\n\t" if format == "tsv" else "\n") == []


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_json_gives_the_text_back_as_it_was(text):
    transcript = transcript_of(text, f"{text}.wav")
    for written in (transcript.to_json(), transcript.to_jsonl()):
        content = json.loads(written)
        assert content["words"][1]["text"] == text
        assert content["path"] == f"{text}.wav"
        assert content["text"] == f"before {text} after"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_player_of_subtitles_shows_the_text(text):
    transcript = transcript_of(text)
    for read, written, format in (
        (lambda line: line.replace("\u2060", ""), transcript.to_srt(), "srt"),
        (html.unescape, transcript.to_vtt(), "vtt"),
    ):
        cues = pysubs2.SSAFile.from_string(written, format_=format)
        lines = " ".join(event.text for event in cues).replace("\\N", " ")  # how pysubs2 writes a line's end
        assert read(lines) == f"before {printable(text)} after".replace("\\N", " ")
        assert all(event.start < event.end <= 4000 for event in cues), "no text adds a cue of its own"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_tables_keep_their_columns(text):
    rows = list(csv.reader(io.StringIO(transcript_of(text).to_tsv()), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [len(row) for row in rows] == [4] * 4
    assert rows[2][3] == printable("_".join(text.split()))
    lines = transcript_of(text, f"{text}.wav").to_ctm().splitlines()
    assert [len(line.split(" ")) for line in lines] == [6] * 3


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_praat_reads_the_text_back(text, tmp_path):
    (tmp_path / "a.TextGrid").write_text(transcript_of(text).to_textgrid(), encoding="utf-8")
    grid = praatio.textgrid.openTextgrid(str(tmp_path / "a.TextGrid"), includeEmptyIntervals=False)
    assert [entry.label for entry in grid.getTier("words").entries] == ["before", printable(text), "after"]
