import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from asr.errors import ScoringError
from asr.reporting.report import (
    WIDTH,
    render_utterance,
    summary,
    to_json,
    to_text,
    write_reports,
)
from asr.reporting.report_page import report_page
from asr.scoring.error_counts import align_words, count_confusions, count_errors
from asr.scoring.intervals import Interval
from asr.scoring.score import UtteranceErrors, compare_scores, read_score, score_texts, write_trn

REFERENCES = {
    "anna-1": "the cat sat",
    "anna-2": "hello world",
    "bert-1": "b d e one two three four five six seven eight nine ten eleven twelve thirteen fourteen",
    "bert-2": "on the mat",
}
HYPOTHESES = {
    "anna-1": "the bat sat down",
    "anna-2": "hello world",
    "bert-1": "b t one two three four five six seven eight nine ten eleven twelve thirteen forty",
    "bert-2": "on mat",
}
GOLDEN = """\
         rate     95 % interval   errors   sub   del   ins               of
WER   24.00 %   10.00 … 40.00 %        6     3     2     1         25 words
CER   14.41 %    5.00 … 25.00 %       17     3     9     5   118 characters
4 utterances, 3 with errors (75.0 %); intervals over 12 speakers

UTTERANCES WITH ERRORS, most errors first

bert-1: 3 of 17 words (2 S, 1 D, 0 I)
REF:  b d e one two three four five six seven eight nine ten eleven twelve
HYP:  b * t one two three four five six seven eight nine ten eleven twelve
EVAL:   D S
REF:  thirteen fourteen
HYP:  thirteen forty
EVAL:          S

anna-1: 2 of 3 words (1 S, 0 D, 1 I)
REF:  the cat sat ****
HYP:  the bat sat down
EVAL:     S       I

bert-2: 1 of 3 words (0 S, 1 D, 0 I)
REF:  on the mat
HYP:  on *** mat
EVAL:    D

SUBSTITUTIONS: 3
     1  e → t
     1  fourteen → forty
     1  cat → bat

DELETIONS: 2
     1  d
     1  the

INSERTIONS: 1
     1  down
"""
sentences = st.lists(st.text("abc", min_size=1, max_size=9), max_size=30)


def score_folder(folder):
    score = read_score(folder)
    write_reports(score, folder)
    return score


@pytest.fixture
def folder(tmp_path):
    write_trn(REFERENCES, tmp_path / "ref.trn")
    write_trn(HYPOTHESES, tmp_path / "hyp.trn")
    return tmp_path


def test_the_text_report_is_as_worked_by_hand():
    # The interval is random numbers' work and has its own tests; here it is given.
    score = replace(
        score_texts(REFERENCES, HYPOTHESES),
        word_interval=Interval(0.1, 0.4, 0.95, 12, "speakers"),
        character_interval=Interval(0.05, 0.25, 0.95, 12, "speakers"),
    )
    assert to_text(score) == GOLDEN


def test_scoring_a_folder_writes_both_reports(folder):
    score = score_folder(folder)
    assert (folder / "wer.txt").read_text(encoding="utf-8") == to_text(score)
    figures = json.loads((folder / "wer.json").read_text(encoding="utf-8"))
    assert figures["wer"] == pytest.approx(6 / 25)
    assert figures["cer"] == pytest.approx(17 / 118)
    assert figures["words"] == {
        "reference": 25,
        "hits": 20,
        "substitutions": 3,
        "deletions": 2,
        "insertions": 1,
    }
    assert (figures["utterances"], figures["utterances_with_errors"]) == (4, 3)
    assert figures["wer_interval"]["low"] <= 6 / 25 <= figures["wer_interval"]["high"]
    assert figures["insertions"] == [{"word": "down", "count": 1}]
    assert {"reference": "cat", "hypothesis": "bat", "count": 1} in figures["substitutions"]


def test_frequent_errors_come_first_and_rare_ones_are_summed_up():
    references = {str(i): f"word{i % 25} x" for i in range(26)}  # word0 twice, 24 others once
    report = to_text(score_texts(references, dict.fromkeys(references, "x")))
    listed = report.split("DELETIONS: 26\n")[1].split("\n\n")[0].splitlines()
    assert listed[0].split() == ["2", "word0"]
    assert len(listed) == 21
    assert listed[-1].split() == ["5", "in", "5", "others"]


def test_a_corpus_without_errors_has_a_report_without_lists():
    report = to_text(score_texts({"a": "one two"}, {"a": "one two"}))
    assert report.splitlines()[-1] == "1 utterance, 0 with errors (0.0 %); intervals over 1 utterance"


def test_files_that_do_not_belong_together_are_an_error_that_names_the_folder(folder):
    write_trn({"anna-1": "the cat sat"}, folder / "hyp.trn")
    with pytest.raises(ScoringError, match=r"3 utterances \(anna-2, bert-1, bert-2\)") as caught:
        score_folder(folder)
    assert str(folder) in str(caught.value)
    assert not (folder / "wer.json").exists()


def test_references_without_any_text_are_an_error(tmp_path):
    write_trn({"a": ""}, tmp_path / "ref.trn")
    write_trn({"a": "word"}, tmp_path / "hyp.trn")
    with pytest.raises(ScoringError, match="no reference"):
        score_folder(tmp_path)


def test_systems_are_compared_by_utterance_whatever_their_order():
    score = score_texts(REFERENCES, HYPOTHESES)
    perfect = score_texts(dict(reversed(REFERENCES.items())), REFERENCES)
    result = compare_scores(score, perfect)
    assert result.difference == pytest.approx(-6 / 25)
    assert result.p_value < 0.25


def test_systems_with_different_references_are_not_compared():
    score = score_texts({"a": "one two"}, {"a": "one"})
    with pytest.raises(ScoringError, match=r"different references .*'a'"):
        compare_scores(score, score_texts({"a": "one three"}, {"a": "one"}))


@given(sentences, sentences)
def test_an_alignment_keeps_both_texts_and_has_the_counted_errors(reference, hypothesis):
    aligned = align_words(" ".join(reference), " ".join(hypothesis))
    assert [word.reference for word in aligned if word.reference is not None] == reference
    assert [word.hypothesis for word in aligned if word.hypothesis is not None] == hypothesis
    counts = count_errors(" ".join(reference), " ".join(hypothesis), unit="word")
    marks = [word.mark for word in aligned]
    assert (marks.count("C"), marks.count("S")) == (counts.hits, counts.substitutions)
    assert (marks.count("D"), marks.count("I")) == (counts.deletions, counts.insertions)
    confusions = count_confusions([aligned])
    assert confusions.substitutions.total() == counts.substitutions
    assert (confusions.deletions.total(), confusions.insertions.total()) == (
        counts.deletions,
        counts.insertions,
    )


@given(sentences, sentences)
def test_aligned_lines_fit_the_width_and_words_stand_one_above_the_other(reference, hypothesis):
    counts = count_errors(" ".join(reference), " ".join(hypothesis), unit="word")
    alignment = align_words(" ".join(reference), " ".join(hypothesis))
    lines = render_utterance(UtteranceErrors("id", counts, alignment)).splitlines()[1:]
    assert all(len(line) <= WIDTH for line in lines)
    shown = []
    for ref, hyp, marks in zip(lines[0::3], lines[1::3], lines[2::3], strict=True):
        assert (ref[:6].rstrip(), hyp[:6].rstrip(), marks[:6].rstrip()) == ("REF:", "HYP:", "EVAL:")
        starts = [i for i in range(6, len(ref)) if ref[i] != " " and ref[i - 1] == " "]
        assert starts == [i for i in range(6, len(hyp)) if hyp[i] != " " and hyp[i - 1] == " "]
        shown += [
            (ref[i:].split()[0].strip("*"), hyp[i:].split()[0].strip("*"), marks[i : i + 1].strip() or "C")
            for i in starts
        ]
    assert shown == [(word.reference or "", word.hypothesis or "", word.mark) for word in alignment]


def test_wide_and_combining_characters_stand_one_above_the_other_too():
    reference, hypothesis = "안녕세상 नमस्ते end", "안 नमते end now"
    counts = count_errors(reference, hypothesis, unit="word")
    alignment = align_words(reference, hypothesis)
    lines = render_utterance(UtteranceErrors("id", counts, alignment)).splitlines()[1:]
    columns = [cell_len(line.partition("end")[0]) for line in lines[:2]]
    assert columns[0] == columns[1]
    assert [line[6:].split()[0] for line in lines] == ["안녕세상", "안", "S"]
    assert cell_len(lines[0].partition("न")[0]) == cell_len(lines[1].partition("न")[0])


def test_in_scripts_without_spaces_the_character_error_rate_is_the_main_figure(tmp_path):
    """The references have 11 characters, the space included. The worse system leaves one out and adds one."""
    write_trn({"u1": "今天天气很好", "u2": "ok 好吗"}, tmp_path / "ref.trn")
    write_trn({"u1": "今我天气很好", "u2": "ok 好吗"}, tmp_path / "hyp.trn")
    score = read_score(tmp_path)
    assert score.unit == "character"
    assert to_json(score)["main"] == "cer"
    worse = score_texts(score.references, {"u1": "今我天气很", "u2": "okk 好吗"})
    comparison = compare_scores(score, worse)
    assert (comparison.unit, comparison.difference) == ("character", pytest.approx(2 / 11))


def test_a_line_is_filled_to_the_last_column_and_not_beyond():
    def lines(reference):
        counts = count_errors(reference, "", unit="word")
        return render_utterance(UtteranceErrors("id", counts, align_words(reference, ""))).splitlines()[1:]

    assert [len(line) for line in lines(f"{'a' * 36} {'b' * 37}")[:2]] == [80, 80]
    assert len(lines(f"{'a' * 36} {'b' * 37}")) == 3
    assert len(lines(f"{'a' * 36} {'b' * 38}")) == 6


def test_a_word_longer_than_the_line_still_stands_on_one_line():
    long = "x" * 100
    alignment = align_words(f"{long} b", f"{long} c")
    text = render_utterance(UtteranceErrors("id", count_errors("b", "c", unit="word"), alignment))
    assert text.splitlines()[1:5] == [f"REF:  {long}", f"HYP:  {long}", "EVAL:", "REF:  b"]


def test_characters_two_columns_wide_are_aligned_and_wrapped_by_their_width():
    text = to_text(score_texts({"a": "今天天气很好" * 5}, {"a": "今田天气很好" * 5}))
    (_, *block), (_, *rest) = (lines.splitlines() for lines in text.split("REF:  ")[1:])
    assert block[0] == "HYP:  " + " ".join("今田天气很好" * 4 + "今")  # 25 characters of two columns and a space
    assert block[1].split() == ["EVAL:", *"SSSS"]
    assert [cell_len(block[1][: match.start()]) for match in re.finditer("S", block[1])] == [9, 27, 45, 63]
    assert rest[0] == "HYP:  " + " ".join("田天气很好")


def test_control_characters_of_texts_and_ids_are_shown_and_not_sent_to_the_terminal():
    report = to_text(score_texts({"u\x1b[31m": "one\x1b[2J two"}, {"u\x1b[31m": "one\x9bH \u202eowt"}))
    assert all(c.isprintable() or c == "\n" for c in report)
    assert "u\\x1b[31m: 2 of 2 words" in report
    assert "     1  one\\x1b[2J → one\\x9bH" in report
    ref, hyp = report.split("REF:  ")[1].splitlines()[:2]
    assert ref.index("two") == hyp.removeprefix("HYP:  ").index("\\u202eowt")


def test_of_utterances_with_as_many_errors_the_shorter_comes_first():
    score = score_texts({"long": "a b c", "short": "a b", "good": "a"}, {"long": "a b", "short": "a", "good": "a"})
    assert [utterance.id for utterance in score.wrong] == ["short", "long"]


def test_scripts_without_spaces_have_the_character_error_rate_first_and_say_why():
    score = score_texts({"a": "今天天气很好", "b": "ok"}, {"a": "今田天气很好", "b": "ok"})
    _, first, second, note, *_ = summary(score).splitlines()
    # One of six characters and two letters; one of six characters, each a word, and one word.
    assert first.split()[:3] == ["CER", "12.50", "%"]
    assert second.split()[:3] == ["WER", "14.29", "%"]
    assert "takes a character for a word" in note
    assert note[1:] in report_page(score, Path("x"))
