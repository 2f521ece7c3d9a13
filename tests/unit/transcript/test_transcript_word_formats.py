"""Transcripts as vtt, tsv, ctm and TextGrid, read back by other libraries."""

import csv
import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pysubs2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import SupervisionSegment, SupervisionSet
from praatio import textgrid

from asr.transcript.transcript import Transcript
from asr.transcript.words import Word

TRANSCRIPT = Transcript(
    'zwei "Brötchen" <b> &c',
    (
        Word("zwei", 0.12, 0.4, 0.9),
        Word('"Brötchen"', 0.48, 1.0799999, 0.123456),
        Word("<b>", 1.0, 1.2, 0.5),
        Word("&c", 1.3, 1.3, 1.0),
    ),
    1.5,
    0.5,
    "ton/[a] b.wav",
)
EMPTY = Transcript("", (), 2.0, 0.0)

WORD = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=12)


@st.composite
def spoken(draw: st.DrawFn) -> Transcript:
    """Words in order that may touch, overlap a little or last no time."""
    clock, words = 0.0, []
    for text in draw(st.lists(WORD, max_size=8)):
        start_s = max(0.0, clock + draw(st.floats(-0.2, 2)))
        end_s = start_s + draw(st.floats(0, 1))
        words.append(Word(text, start_s, end_s, draw(st.floats(0, 1))))
        clock = end_s
    return Transcript(" ".join(word.text for word in words), tuple(words), clock + draw(st.floats(0, 3)), 0.5, "x.wav")


def read_textgrid(content: str, folder: Path) -> textgrid.Textgrid:
    path = folder / "a.TextGrid"
    path.write_text(content, encoding="utf-8")
    return textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")


def test_webvtt_is_read_back_and_markup_in_words_is_none() -> None:
    assert TRANSCRIPT.to_vtt() == ('WEBVTT\n\n00:00:00.120 --> 00:00:01.300\nzwei "Brötchen" &lt;b&gt; &amp;c\n')
    (cue,) = pysubs2.SSAFile.from_string(TRANSCRIPT.to_vtt(), format_="vtt")
    assert (cue.start, cue.end) == (120, 1300)
    assert EMPTY.to_vtt() == "WEBVTT\n"


@given(spoken())
def test_webvtt_has_the_cues_of_subrip(transcript: Transcript) -> None:
    ours = pysubs2.SSAFile.from_string(transcript.to_vtt(), format_="vtt")
    subrip = pysubs2.SSAFile.from_string(transcript.to_srt(), format_="srt")
    assert [(cue.start, cue.end) for cue in ours] == [(cue.start, cue.end) for cue in subrip]


def test_tsv_is_read_back_by_the_csv_module() -> None:
    rows = list(csv.DictReader(io.StringIO(TRANSCRIPT.to_tsv()), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["word"] for row in rows] == ["zwei", '"Brötchen"', "<b>", "&c"]
    assert [(row["start_s"], row["end_s"], row["confidence"]) for row in rows[:2]] == [
        ("0.120", "0.400", "0.9000"),
        ("0.480", "1.080", "0.1235"),
    ]
    assert EMPTY.to_tsv() == "start_s\tend_s\tconfidence\tword\n"


def test_ctm_is_read_back_by_lhotse(tmp_path: Path) -> None:
    path = tmp_path / "a.ctm"
    path.write_text(TRANSCRIPT.to_ctm(), encoding="utf-8")
    segment = SupervisionSegment("u", "[a]_b", 0, 1.5, channel=1)
    found = SupervisionSet.from_segments([segment]).with_alignment_from_ctm(path)
    words = next(iter(found)).alignment["word"]
    assert [word.symbol for word in words] == [word.text for word in TRANSCRIPT.words]
    assert [word.start for word in words] == pytest.approx([0.12, 0.48, 1.0, 1.3])
    assert [word.duration for word in words] == pytest.approx([0.28, 0.6, 0.2, 0.0], abs=1e-3)
    assert [word.score for word in words] == pytest.approx([0.9, 0.1235, 0.5, 1.0])
    assert EMPTY.to_ctm() == ""
    assert replace(TRANSCRIPT, channel=1).to_ctm().startswith("[a]_b 2 0.120 ")


def test_a_textgrid_is_read_back_by_praatio(tmp_path: Path) -> None:
    tier = read_textgrid(TRANSCRIPT.to_textgrid(), tmp_path).getTier("words")
    assert [(entry.start, entry.end, entry.label) for entry in tier.entries] == [
        (0.0, 0.12, ""),
        (0.12, 0.4, "zwei"),
        (0.4, 0.48, ""),
        (0.48, 1.08, '"Brötchen"'),
        (1.08, 1.2, "<b>"),  # it began before the last word ended
        (1.2, 1.3, ""),
        (1.3, 1.301, "&c"),  # it had no length
        (1.301, 1.5, ""),
    ]
    (only,) = read_textgrid(EMPTY.to_textgrid(), tmp_path).getTier("words").entries
    assert (only.start, only.end, only.label) == (0.0, 2.0, "")


@settings(deadline=None)
@given(transcript=spoken())
def test_a_textgrids_intervals_cover_the_recording(
    tmp_path_factory: pytest.TempPathFactory, transcript: Transcript
) -> None:
    grid = read_textgrid(transcript.to_textgrid(), tmp_path_factory.mktemp("grid"))
    entries = grid.getTier("words").entries
    assert [entry.label for entry in entries if entry.label] == [word.text for word in transcript.words]
    assert entries[0].start == 0
    assert all(a.end == b.start for a, b in pairwise(entries))
    assert entries[-1].end == grid.maxTimestamp >= round(transcript.duration_s, 3) - 1e-9
