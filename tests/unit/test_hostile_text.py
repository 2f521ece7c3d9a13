"""Text from users is text wherever it is shown: no output controls a terminal, and no text is taken for markup.

Each kind of text is in ids, speakers, names of files and folders, transcripts, tokens and settings, where that place
can hold it. A place that cannot hold it refuses it, with an error that is text too.
"""

import csv
import html
import io
import json
import shutil
import unicodedata

import numpy as np
import praatio.textgrid
import pysubs2
import pytest
import soundfile
from conftest import TINY, tone_speech

from asr.cli.transcribe import _in_lines, _on_terminal
from asr.corpus.manifest import make_cut, read_manifest, write_manifest
from asr.decoding.streaming import Partial
from asr.files import printable
from asr.scoring.score import read_trn
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
@pytest.mark.parametrize("is_final", [False, True])
@pytest.mark.parametrize("show", [_in_lines, _on_terminal])
def test_no_stream_controls_a_terminal_but_to_clear_its_line(show, is_final, text):
    written = []
    show(Partial(text, (), is_final), written.append)
    assert controlling("".join(written).removeprefix("\r\x1b[K")) == []


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


NAME = "$x^{[red]<b>{0}%s&amp;\u202e\x1b[31m:warning:\n👩‍👩‍👧‍👦"  # a folder may be called so
IDS = [name for name in (*WORDS.values(), "abc\u202efed") if len(name) < 1000 and not set(name) & set("()\n")]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A folder with data of hostile ids, speakers, texts and file names, and a model of them, made by the commands."""
    root = tmp_path_factory.mktemp("hostile") / NAME
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("dev", 6), ("test", len(IDS))):
        cuts = []
        for number in range(count):
            path = root / "audio" / f"{split}{number}{NAME}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone_speech("ab cd", rng), 16000)
            name = IDS[number % len(IDS)]
            cuts.append(make_cut(f"{split}{number}{name}", path, f"{name} b", f"{split}{name}"))
        write_manifest(cuts, root / "data" / f"{split}.jsonl.gz")
    (root / "spoken").mkdir()
    for number, text in enumerate(HOSTILE.values()):
        shutil.copy(path, root / "spoken" / f"{number}.wav")
        (root / "spoken" / f"{number}.txt").write_text(text, encoding="utf-8")
    shutil.copytree(root / "audio", root / "recordings" / NAME)
    for path in (root / "recordings").rglob("*.wav"):
        path.with_suffix(".txt").write_text("ab cd", encoding="utf-8")
    return root


def run(call, *arguments):
    """Run a command; see that neither what it shows nor its errors control a terminal, and return all of it."""
    status, out, err = call(*arguments)
    assert "Traceback" not in err
    assert controlling(out, "\n\t") == []  # a tab is between columns
    assert controlling(err) == []
    return status, out + err


KEEP_ALL = ("text.clean=false", "text.case=keep", "training.epochs=1", *TINY)
# As a user works, one after the other, each with its exit status; @ is the hostile folder.
COMMANDS = """
1 check @data
1 check @data --json
0 train --data @data --out @model SETTINGS
0 lm ngram @data/train.jsonl.gz --model @model
0 tune @model @data/dev.jsonl.gz --jobs 1
0 decode @model @data/test.jsonl.gz --out @model/decode_test
0 decode @model @data/test.jsonl.gz --out @model/decode_other --method greedy
0 score @model/decode_test
1 score @model/decode_test/ref.trn @model/decode_test/hyp.trn --out @scored
0 compare @model/decode_test @model/decode_other --out @compared.html
0 transcribe @model @audio --segment none
0 transcribe @model @audio --segment none --out @texts --format srt,vtt,json
0 align @model @data/dev.jsonl.gz
1 label @model @data/dev.jsonl.gz --out @labelled --wer 0.1
0 choose @model @data/dev.jsonl.gz --out @chosen --minutes 1
0 diagnose @model
1 diagnose @model --data @data
0 export @model --out @exported --format onnx
1 import folder @recordings --out @refused
2 import folder @spoken --out @imported --split-by utterance
0 pack @data --out @packed
0 settings --set text.remove=<[red]
1 check @missing
1 train --data @data --out @model SETTINGS
2 transcribe @model @missing.wav
1 score @missing
1 compare @missing @model
1 lm ngram @missing.txt --out @missing.arpa
1 plot @missing.wav --out @plot.png
2 diagnose @model @data
2 --@option
2 @command
"""


@pytest.fixture(scope="module")
def worked(hostile, call):
    """The folder after all commands."""
    settings = " ".join(f"--set {item}" for item in KEEP_ALL)
    for line in COMMANDS.strip().replace("SETTINGS", settings).splitlines():
        expected, *words = (f"{hostile}/{word[1:]}" if word[0] == "@" else word for word in line.split())
        status, shown = run(call, *words)
        assert status == int(expected), f"{line}\n{shown}"
    return hostile


def test_no_command_controls_a_terminal(worked):
    """Neither by what it prints nor by a file that people read."""
    read = (".html", ".json", ".jsonl", ".md", ".srt", ".svg", ".tsv", ".txt", ".vtt", ".yaml")
    files = [
        path
        for path in worked.rglob("*")
        if path.suffix in read and not {"recordings", "spoken"}.intersection(path.parts)
    ]
    assert {path.suffix for path in files} >= {".html", ".json", ".jsonl", ".md", ".srt", ".txt", ".vtt", ".yaml"}
    faults = {path.relative_to(worked): controlling(path.read_text(encoding="utf-8"), "\n\t") for path in files}
    assert {path: found for path, found in faults.items() if found} == {}


def test_a_trn_file_gives_ids_and_texts_back(worked):
    cuts = {cut.id: cut.supervisions[0].text for cut in read_manifest(worked / "data" / "test.jsonl.gz")}
    assert read_trn(worked / "model" / "decode_test" / "ref.trn") == cuts


@pytest.mark.parametrize("page", ["model/decode_test/report.html", "compared.html"])
def test_a_page_runs_nothing_of_the_text_and_shows_all_of_it(worked, browser, page):
    faults = []
    *_, last = cuts = list(read_manifest(worked / "data" / "test.jsonl.gz"))
    opened = browser.new_page(viewport={"width": 1200, "height": 20_000})  # rows are built when they come into sight
    for event in ("console", "pageerror", "dialog"):
        opened.on(event, lambda found: faults.append(str(found)))
    opened.goto((worked / page).as_uri())
    opened.get_by_text(printable(last.id)).first.wait_for()
    text = opened.locator("body").inner_text()
    assert faults == []
    assert controlling(text, "\n\t") == []
    assert opened.locator("body i, body script:text-is('alert(1)')").count() == 0
    for cut in cuts:
        assert printable(cut.id) in text
        assert all(printable(word) in text for word in cut.supervisions[0].text.split())
    opened.close()
