"""What the rule for texts does to a corpus, counted by hand and against the rule itself."""

import json
import unicodedata
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from asr.config import TextSettings
from asr.text.normalise import normalise
from asr.text.report import text_report

TEXTS = [
    "Don\u2019t co\u00adop 42 apples, well-known Colour! 5kg 10:30",
    "cafe\u0301 ﬁnd ＡＢ می\u200c خواهم it`s 3.14 42",
]


def test_a_report_counts_what_is_counted_by_hand():
    settings = TextSettings(
        replace={"Colour": "color", "Nope": "x"}, numbers="en", space="-", remove="punctuation", case="upper"
    )
    report = text_report(TEXTS, settings)
    assert (report.texts, report.uncomposed, report.unit) == (2, 1, "word")
    assert report.deleted == {"\u00ad": 1, "\u200c": 1}
    assert report.rewritten == {("`", "'"): 1, ("\u2019", "'"): 1, ("ﬁ", "fi"): 1, ("Ａ", "A"): 1, ("Ｂ", "B"): 1}
    assert (report.replaced, report.unused) == ({"COLOUR": 1}, ("NOPE",))
    assert report.said == {("42", "forty-two"): 2, ("3.14", "three point one four"): 1}
    assert (report.spaced, report.removed) == ({"-": 3}, {"!": 1, ",": 1})  # the point of 3.14 is said
    assert report.digits == {"10:30": 1, "5KG": 1}
    assert json.loads(json.dumps(report.to_json()))["rewritten"]["ﬁ → fi"] == 1
    lines = list(report.lines())
    assert lines[0] == "composed (NFC): 1 of 2 texts"
    assert lines[1] == "deleted, since they show nothing: U+00AD (1), U+200C (1)"
    assert "in text.replace, but in no text: NOPE" in lines


def test_a_long_list_is_cut_and_says_how_much_more_there_is():
    table = {f"{letter}x": letter for letter in "abcdefghijklmno"}
    (line,) = text_report(["nothing"], TextSettings(replace=table)).lines()
    assert line.endswith("lx, and 3 more")


def test_a_corpus_that_is_only_lowered_has_nothing_to_say():
    assert list(text_report(["HELLO world", "don't"], TextSettings()).lines()) == []


def test_the_unit_of_the_main_figure_is_that_of_the_script():
    assert text_report(["今天天气很好", "ok"], TextSettings()).unit == "character"
    assert text_report(["yes", "no"], TextSettings()).unit == "word"


@given(st.lists(st.text(alphabet="ab \u00adｂﬁ\u0640’`é\u0301-.５7:", max_size=12), max_size=5))
def test_what_is_counted_is_what_the_rule_does(texts):
    settings = TextSettings(remove="-.", case="keep")
    report = text_report(texts, settings)
    whole = Counter("".join(texts))
    assert report.deleted == {sign: whole[sign] for sign in "\u00ad\u0640" if whole[sign]}
    assert {old: count for (old, _), count in report.rewritten.items() if old != "`"} == {
        sign: whole[sign] for sign in "ｂﬁ’５" if whole[sign]
    }
    assert report.removed == {sign: whole[sign] for sign in "-." if whole[sign]}
    assert report.uncomposed == sum(not unicodedata.is_normalized("NFC", text) for text in texts)
    words = [word for text in texts for word in normalise(text, settings).split()]
    assert report.digits == Counter(word for word in words if any(map(str.isdigit, word)))
