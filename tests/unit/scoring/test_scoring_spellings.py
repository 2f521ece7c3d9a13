"""Spellings that count as the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sclite import rows_of_raw_summary, sctk

import asr
from asr.errors import ScoringError
from asr.scoring.error_counts import ErrorCounts, count_errors
from asr.scoring.spellings import fewest_errors, plain_reading, read_rules, reading_of, respell


def rules_of(path: Path, text: str):
    path.write_text(text)
    return read_rules(path)


def respelled(path: Path, rules: str, reference: str, hypothesis: str) -> tuple[str, str]:
    texts = respell({"u": plain_reading(reference)}, {"u": plain_reading(hypothesis)}, rules_of(path, rules))
    return texts[0]["u"], texts[1]["u"]


@pytest.mark.parametrize(
    ("rules", "reference", "hypothesis", "expected"),
    [
        ("okay => ok", "okay then", "ok then", ("ok then", "ok then")),
        ("[okay] => [ok] / [ ] __ [ ] ;; NIST", "okay okays", "ok", ("ok okays", "ok")),
        ("'okay' => 'ok' / __", "okay", "ok", ("ok", "ok")),
        ("can not => cannot\ncan => may", "can not can", "cannot", ("cannot may", "cannot")),
        ("uh =>\n", "uh yes uh", "yes", ("yes", "yes")),
        ("uh => @", "uh yes", "yes", ("yes", "yes")),
        ("OKAY => OK", "okay Okay OKAY", "ok", ("ok OK OK", "ok")),
        ("a => b\nb => c", "a b", "b c", ("b c", "c c")),  # what a rule wrote is not replaced again
        ("he's => { he is / he has }", "he's gone", "he has gone", ("he has gone", "he has gone")),
        ("[he's] => [{he is / he has}] / [ ] __ [ ]", "he is here", "he's here", ("he is here", "he is here")),
        ("he's => { he is / he has }", "he is gone", "he has gone", ("he is gone", "he has gone")),
        ("[tea] => [T] / __ [ shirt]", "tea shirt tea", "a tea shirt", ("t shirt tea", "a t shirt")),
        ("[johns] => [john's] / [saint ] __", "johns saint johns", "", ("johns saint john's", "")),
        ('* name "x"\n;; text\nokay => ok', "okay", "ok", ("ok", "ok")),
    ],
)
def test_rules_replace_whole_words_of_both_texts(tmp_path, rules, reference, hypothesis, expected):
    assert respelled(tmp_path / "rules", rules, reference, hypothesis) == expected


def test_a_missing_bracket_as_in_nists_own_file_does_no_harm(tmp_path):
    (rule,) = rules_of(tmp_path / "rules", "[webster's] => [{webster's / webster is} / [ ] __ [ ]\n")
    assert rule.targets == (("webster's",), ("webster", "is"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("okay ok", "rules:1: 'okay ok' has no '=>'; a rule is 'spelling => spelling'"),
        ("=> ok", "rules:1: .* has no words to replace"),
        ("okay => ok / a __ b", "rules:1: 'a __ b' are no words beside '__'; write"),
        ("okay => a { b / c }", "rules:1: .*braces may be around the whole right side only"),
        (";; nothing", "rules: no rules; a rule is"),
    ],
)
def test_a_line_that_is_no_rule_is_an_error_that_names_it(tmp_path, line, message):
    with pytest.raises(ScoringError, match=message):
        rules_of(tmp_path / "rules", line + "\n")


def test_the_reports_say_how_many_words_each_rule_replaced(tmp_path, call):
    (tmp_path / "ref.trn").write_text("okay can not (u1)\nokay (u2)\n")
    (tmp_path / "hyp.trn").write_text("ok cannot (u1)\nokay (u2)\n")
    (tmp_path / "rules").write_text("okay => ok\ncan not => cannot\nnever => used\n")
    status, out, _ = call("score", tmp_path, "--equivalences", tmp_path / "rules")
    assert status == 0
    figures = json.loads((tmp_path / "wer.json").read_text())
    assert (figures["wer"], figures["words"]["reference"]) == (0.0, 3)
    assert figures["respelled"] == [
        {"rule": "okay => ok", "reference": 2, "hypothesis": 1},
        {"rule": "can not => cannot", "reference": 2, "hypothesis": 0},
        {"rule": "never => used", "reference": 0, "hypothesis": 0},
    ]
    for report in (out, (tmp_path / "wer.txt").read_text()):
        assert "okay => ok                          2            1\n" in report
        assert "can not => cannot                   2            0\n1 rule replaced nothing\n" in report
    files = asr.score_files(tmp_path / "ref.trn", tmp_path / "hyp.trn", equivalences=tmp_path / "rules").figures
    assert [(use.rule, use.reference, use.hypothesis) for use in files.respelled] == [
        tuple(use.values()) for use in figures["respelled"]
    ]


def test_alternatives_of_a_reference_are_read_as_by_sclite(tmp_path):
    (tmp_path / "r.trn").write_text(
        "{ um / uh / @ } i { am / have been } here (s-1)\n{ a b / c } d (s-2)\n{ x / y } (s-3)\n"
    )
    (tmp_path / "h.trn").write_text("i have been her (s-1)\nuh a b (s-2)\nz (s-3)\n")
    sctk(tmp_path, "sclite", "-s", "-i", "spu_id", "-r", "r.trn", "-h", "h.trn", "trn", "-o", "rsum", "-n", "h")
    counts = asr.score_files(tmp_path / "r.trn", tmp_path / "h.trn").figures.word_total
    assert counts == rows_of_raw_summary(tmp_path / "h.raw")["Sum"][1]
    assert counts == ErrorCounts(2, 1, 1, 8)  # worked by hand


choices = st.lists(st.lists(st.sampled_from("abc"), max_size=2).map(tuple), min_size=1, max_size=3).map(tuple)
readings = st.lists(choices, max_size=3)


@given(readings, readings)
def test_the_reading_with_the_fewest_errors_is_chosen(reference, hypothesis):
    def texts(reading):
        found = [""]
        for place in reading:
            found = [f"{text} {' '.join(words)}" for text in found for words in place]
        return {" ".join(text.split()) for text in found}

    chosen = fewest_errors(reference, hypothesis)
    assert chosen[0] in texts(reference)
    assert chosen[1] in texts(hypothesis)
    pairs = [(a, b) for a in texts(reference) for b in texts(hypothesis)]
    fewest = min(count_errors(a, b, unit="word").errors for a, b in pairs)
    if len(pairs) <= 256:
        assert count_errors(*chosen, unit="word").errors == fewest


def test_of_very_many_readings_a_good_one_is_found_in_a_moment():
    reference = reading_of(" ".join(["{ um / @ } word"] * 40), "here", alternatives=True)
    assert fewest_errors(reference, plain_reading("word " * 40)) == ("word " * 39 + "word", "word " * 39 + "word")
