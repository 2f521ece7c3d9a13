"""`asr score REF HYP`: transcripts in the usual formats."""

from __future__ import annotations

import gzip
import json
import random
import re

import pytest
from sclite import corrupted, rows_of_raw_summary, sctk

import asr
from asr.errors import ScoringError
from asr.scoring.error_counts import ErrorCounts
from asr.scoring.transcript_files import read_transcripts

REFERENCES = {"a-1": "turn the light on", "a-2": "off", "b-1": "and now the radio"}
HYPOTHESES = {"a-1": "turn a light on", "a-2": "off", "b-1": "and the radio please"}


def as_trn(texts: dict[str, str]) -> str:
    return "".join(f"{text} ({name})\n" for name, text in texts.items())


def as_kaldi(texts: dict[str, str]) -> str:
    return "".join(f"{name} {text}\n" for name, text in texts.items())


def as_jsonl(texts: dict[str, str]) -> str:
    return "".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts.items())


def as_ctm(texts: dict[str, str]) -> str:
    """Words in no order of time within the file."""
    lines = [
        f"{name} 1 {place * 0.5:.2f} 0.40 {word} 0.9\n"
        for name, text in texts.items()
        for place, word in enumerate(text.split())
    ]
    return ";; a comment\n" + "".join(reversed(lines))


WRITERS = {"trn": as_trn, "text": as_kaldi, "jsonl": as_jsonl, "ctm": as_ctm}


@pytest.mark.parametrize("named", [True, False], ids=["by ending", "by content"])
@pytest.mark.parametrize("hypothesis", WRITERS)
@pytest.mark.parametrize("reference", WRITERS)
def test_every_format_can_be_compared_with_every_other(tmp_path, reference, hypothesis, named):
    paths = []
    for side, form, texts in (("ref", reference, REFERENCES), ("hyp", hypothesis, HYPOTHESES)):
        name = {"text": "text"}.get(form, f"words.{form}") if named else "words.dat"
        (tmp_path / side).mkdir()
        paths.append(tmp_path / side / name)
        paths[-1].write_text(WRITERS[form](texts))
        assert read_transcripts(paths[-1]).format == form
    scored = asr.score_files(*paths)
    assert scored.figures.word_total == ErrorCounts(1, 1, 1, 9)
    assert (scored.folder, scored.card, scored.figures.missing, scored.figures.surplus) == (None, None, (), ())


def test_compressed_files_manifests_and_what_asr_transcribe_writes_are_read(tmp_path):
    cut = {"id": "a-1", "supervisions": [{"text": "Turn on", "speaker": "anna", "custom": {"snr_db": 12.5}}]}
    with gzip.open(tmp_path / "test.jsonl.gz", "wt") as file:
        file.write(json.dumps(cut) + "\n")
    (tmp_path / "out.jsonl").write_text(json.dumps({"path": "/x/a-1.wav", "channel": None, "text": "turn off"}) + "\n")
    figures = asr.score_files(tmp_path / "test.jsonl.gz", tmp_path / "out.jsonl", by=["speaker"]).figures
    assert (figures.word_total, figures.case_errors) == (ErrorCounts(2, 0, 0, 2), 1)
    assert figures.groups == {"speaker": {"anna": ErrorCounts(2, 0, 0, 2)}}
    assert figures.fields["a-1"]["snr_db"] == 12.5
    ignoring = asr.score_files(tmp_path / "test.jsonl.gz", tmp_path / "out.jsonl", ignore_case=True).figures
    assert (ignoring.word_total, ignoring.case_errors) == (ErrorCounts(1, 0, 0, 2), 0)


def test_kaldis_speakers_are_beside_the_texts(tmp_path):
    (tmp_path / "text").write_text("u1 one two\nu2 three\n")
    (tmp_path / "utt2spk").write_text("u1 anna\nu2 bert\n")
    (tmp_path / "hyp.trn").write_text("one (u1)\nthree (u2)\n")
    groups = asr.score_files(tmp_path / "text", tmp_path / "hyp.trn", by=["speaker"]).figures.groups
    assert groups == {"speaker": {"anna": ErrorCounts(0, 1, 0, 2), "bert": ErrorCounts(0, 0, 0, 1)}}


def test_missing_utterances_count_as_deleted_and_surplus_ones_not_at_all(tmp_path, call):
    names = [f"u{number}" for number in range(25)]
    (tmp_path / "ref.trn").write_text(as_trn(dict.fromkeys(names, "one two")))
    (tmp_path / "hyp.trn").write_text(as_trn({**dict.fromkeys(names[:10], "one two"), "other\x1b[2J": "noise"}))
    status, out, err = call("score", tmp_path / "ref.trn", tmp_path / "hyp.trn", "--out", tmp_path / "out")
    assert (status, err) == (0, "")
    assert "MISSING: 15 utterances without a hypothesis, counted as deleted\n  u10\n" in out
    assert "  u19\n  and 5 more\n" in out
    assert "SURPLUS: 1 recognised text without a reference, not counted\n  other\\x1b[2J\n" in out
    figures = json.loads((tmp_path / "out" / "wer.json").read_text())
    assert figures["words"] == {"reference": 50, "hits": 20, "substitutions": 0, "deletions": 30, "insertions": 0}
    assert (figures["missing"], figures["surplus"]) == (names[10:], ["other\x1b[2J"])
    assert (tmp_path / "out" / "wer.txt").read_text().count("\n  u") == 15
    page = (tmp_path / "out" / "report.html").read_text()
    assert "15 utterances without a hypothesis" in page
    assert "1 recognised text without a reference" in page
    assert "other\\x1b[2J" in page
    assert "decode again" not in page


def test_words_of_a_ctm_are_divided_by_time_among_the_segments_of_an_stm(tmp_path):
    (tmp_path / "ref.stm").write_text(
        ';; LABEL "o" "Overall" "all"\n'
        "call A anna 0.0 2.0 <o,male> hello there\n"
        "call A excluded 2.0 4.0 <o,> IGNORE_TIME_SEGMENT_IN_SCORING\n"
        "call A bert 4.0 6.0 <o,female> { um / @ } bye (now)\n"
        "call B bert 0.0 6.0 <o,female> yes\n"
    )
    (tmp_path / "hyp.ctm").write_text(
        "call 1 0.2 0.5 hello 0.9\n"
        "call 1 1.6 0.6 there\n"  # its middle is before 2.0
        "call 1 2.5 0.5 whatever\n"
        "call 1 3.8 0.6 bye\n"  # its middle is after 4.0
        "call 1 7.0 0.5 late\n"  # after the last segment: an insertion there
        "other 1 0.0 0.5 noise\n"
    )
    figures = asr.score_files(tmp_path / "ref.stm", tmp_path / "hyp.ctm", by=["speaker", "label_2"]).figures
    assert figures.references == {
        "call-1-0.0-2.0": "hello there",
        "call-1-4.0-6.0": "bye now",
        "call-2-0.0-6.0": "yes",
    }
    assert figures.word_total == ErrorCounts(1, 1, 0, 5)
    assert figures.groups["label_2"] == {"female": ErrorCounts(1, 1, 0, 3), "male": ErrorCounts(0, 0, 0, 2)}
    assert (figures.missing, figures.surplus) == (("call-2-0.0-6.0",), ("other-1",))


def test_a_word_in_brackets_is_no_label(tmp_path):
    (tmp_path / "ref.stm").write_text("a 1 anna 0 1 <unk> yes\na 1 anna 1 2 <F0_M> no\n")
    (tmp_path / "hyp.stm").write_text("a 1 anna 0 1 yes\na 1 anna 1 2 no\n")
    figures = asr.score_files(tmp_path / "ref.stm", tmp_path / "hyp.stm").figures
    assert figures.references == {"a-1-0-1": "<unk> yes", "a-1-1-2": "no"}
    assert figures.word_total == ErrorCounts(0, 1, 0, 3)


def test_figures_of_ctm_against_stm_are_sclites(tmp_path):
    rng = random.Random(5)
    words = [f"w{number}" for number in range(20)]
    stm, ctm, start = [], [], 0.0
    for place in range(200):
        text = [rng.choice(words) for _ in range(rng.randint(1, 8))]
        end = start + 0.5 * len(text)
        stm.append(f"talk 1 s{place % 4} {start:.2f} {end:.2f} {' '.join(text)}")
        for number, word in enumerate(corrupted(rng, text, 0.3, words)):
            ctm.append(f"talk 1 {max(0, start + 0.5 * number + rng.uniform(-0.3, 0.3)):.2f} 0.40 {word}")
        start = end + rng.choice([0, 1.0])
        if place % 20 == 9:
            stm.append(f"talk 1 excluded {start:.2f} {start + 2:.2f} IGNORE_TIME_SEGMENT_IN_SCORING")
            ctm += [f"talk 1 {start + 0.5 * number:.2f} 0.40 noise" for number in range(4)]
            start += 2
    ctm.sort(key=lambda line: float(line.split()[2]))
    (tmp_path / "r.stm").write_text("\n".join(stm) + "\n")
    (tmp_path / "h.ctm").write_text("\n".join(ctm) + "\n")
    sctk(tmp_path, "sclite", "-s", "-r", "r.stm", "stm", "-h", "h.ctm", "ctm", "-o", "rsum", "-n", "h")
    rows = rows_of_raw_summary(tmp_path / "h.raw")
    figures = asr.score_files(tmp_path / "r.stm", tmp_path / "h.ctm", by=["speaker"]).figures
    assert (len(figures.words), figures.word_total) == rows.pop("Sum")
    assert figures.groups["speaker"] == {name: counts for name, (_, counts) in rows.items()}


def test_a_recording_of_a_ctm_with_two_channels_is_two_utterances(tmp_path):
    (tmp_path / "h.ctm").write_text("call A 0 1 one\ncall B 0 1 two\nsolo 1 0 1 three\n")
    assert {name: said.text for name, said in read_transcripts(tmp_path / "h.ctm").texts.items()} == {
        "call-1": "one",
        "call-2": "two",
        "solo": "three",
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("h.trn", "one two\n", "h.trn:1: 'one two' does not have the form"),
        ("h.ctm", "rec 1 zero 1 word\n", "h.ctm:1: 'rec 1 zero 1 word' is not 'recording channel start duration word'"),
        ("h.ctm", "rec 1 * * <ALT_BEGIN>\n", "h.ctm:1: alternatives in a ctm file are not read; keep"),
        ("h.stm", "rec 1 anna 2.0 1.0 word\n", "h.stm:1: the segment ends at 1 s, before its start; exchange"),
        ("h.stm", "rec 1 anna word\n", "h.stm:1: expected 'recording channel speaker start end"),
        ("h.stm", "rec 1 anna -1 1 word\n", "h.stm:1: -1 and 1 are no times in seconds"),
        ("h.stm", "rec 1 anna 0 nan word\n", "h.stm:1: 0 and nan are no times in seconds"),
        ("h.stm", "rec 1 anna one two word\n", "h.stm:1: 'one' and 'two' are no times in seconds"),
        ("h.stm", "rec 1 anna 0 1 { a / b\n", r"h.stm:1: .*a '\{' has no '\}'"),
        ("h.trn", "a } b (u1)\n", r"h.trn: .*alternatives are \{ a / b \}"),
        ("h.jsonl", '{"id": "u1"}\n', "h.jsonl:1: text is missing; each line needs"),
        ("h.jsonl", '{"text": "u1"}\n', "h.jsonl:1: id is missing; each line needs"),
        ("h.jsonl", "[1\n", "h.jsonl:1: not JSON"),
        ("text", "u1 a\nu1 b\n", "text:2: utterance 'u1' is already at .*text:1; keep one"),
        ("h.dat", "\n\n", "h.dat: no line with text; the file may be trn, stm, ctm, Kaldi's text or jsonl"),
        ("h.ctm", ";; nothing\n", "h.ctm: no utterances; it was read as ctm"),
        ("h.dat", "some words\n", "read as text, has no utterance of .*, read as trn: 'some' here, 'u1' there"),
    ],
)
def test_what_cannot_be_read_is_an_error_with_its_line_and_a_way_out(tmp_path, name, content, message):
    (tmp_path / "ref.trn").write_text("one (u1)\none (rec-1-0-1)\n")
    (tmp_path / name).write_text(content)
    with pytest.raises(ScoringError, match=message):
        asr.score_files(tmp_path / "ref.trn", tmp_path / name)


def test_an_unknown_field_is_an_error_that_lists_the_known_ones(tmp_path):
    for name in ("r.jsonl", "h.jsonl"):
        (tmp_path / name).write_text('{"id": "u", "text": "a", "speaker": "anna", "room": "hall"}\n')
    with pytest.raises(ScoringError, match=re.escape("no utterance has a field 'rom'; there are: 'speaker', 'length'")):
        asr.score_files(tmp_path / "r.jsonl", tmp_path / "h.jsonl", by=["rom"])
    assert list(asr.score_files(tmp_path / "r.jsonl", tmp_path / "h.jsonl", by=["room"]).figures.groups) == ["room"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ref.trn"], "ref.trn: a file, so the recognised texts are needed too"),
        (["folder", "--out", "x"], "--out is for REF and HYP"),
        (["folder", "--ignore-case"], "--ignore-case is for REF and HYP"),
    ],
)
def test_arguments_that_do_not_belong_together_are_errors(tmp_path, monkeypatch, call, arguments, message):
    (tmp_path / "ref.trn").write_text("one (u1)\n")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    status, _, err = call("score", *arguments)
    assert status == 1
    assert message in err


def test_a_decode_folder_is_scored_by_the_fields_of_its_manifest(tmp_path, call):
    (tmp_path / "ref.trn").write_text("one two (u1)\nthree (u2)\n")
    (tmp_path / "hyp.trn").write_text("one (u1)\nthree (u2)\n")
    lines = [
        {"id": "u1", "speaker": "anna", "words": [], "fields": {"room": "hall"}},
        {"id": "u2", "speaker": "bert", "words": [], "fields": {"room": "car"}},
    ]
    (tmp_path / "hyp.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    status, out, _ = call("score", tmp_path, "--by", "room", "--by", "speaker")
    assert status == 0
    assert (
        "room       WER   errors   sub   del   ins   words\nhall   50.00 %        1     0     1     0       2\n" in out
    )
    figures = json.loads((tmp_path / "wer.json").read_text())
    assert figures["by"]["speaker"]["anna"]["deletions"] == 1
    assert re.search(r"^bert +0\.00 %", (tmp_path / "wer.txt").read_text(), re.MULTILINE)


def test_names_of_any_kind_are_shown_as_text_in_tables_of_one_width(tmp_path, call):
    speakers = ["<script>alert(1)</script>", "[red]x[/red]", "\x1b[2Ja", "\u202eabc", "אבג", "👩‍🚀", "x" * 10_000]
    lines = [{"id": f"u{n}", "text": "one", "speaker": speaker} for n, speaker in enumerate(speakers)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "h.jsonl").write_text("".join(json.dumps({**line, "text": "two"}) + "\n" for line in lines))
    status, out, _ = call(
        "score", tmp_path / "r.jsonl", tmp_path / "h.jsonl", "--by", "speaker", "--out", tmp_path / "o"
    )
    assert status == 0
    assert all(character.isprintable() or character in "\n\u200d" for character in out)
    for shown in ("<script>alert(1)</script>", "[red]x[/red]", "\\x1b[2Ja", "\\u202eabc", "אבג", "👩", f"{'x' * 79}…"):
        assert re.search(rf"^{re.escape(shown)}.* 100\.00 % +1 +1 +0 +0 +1$", out, re.MULTILINE), shown
    assert "<script>alert" not in (tmp_path / "o" / "report.html").read_text()
