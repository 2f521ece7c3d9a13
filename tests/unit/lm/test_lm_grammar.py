"""Grammars: lists of phrases and JSGF files are read; what is wrong with one is said with its line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import asr
from asr.errors import LanguageModelError
from asr.lm.grammar import Grammar
from asr.lm.jsgf import NOTHING, Choice, Reference, Repeated, Sequence, Words, parse_jsgf

HEAD = "#JSGF V1.0 UTF-8 en;\ngrammar house;\n"


def test_a_file_has_a_phrase_a_line_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text("\ufeff# rooms\n\nthe kitchen\r\n  the office \n")
    what, rules = asr.load_grammar(path).expressions
    assert what == Choice(((Words("the kitchen", 3), 0.0), (Words("the office", 4), 0.0)))
    assert rules == {}


def test_a_list_of_phrases_is_a_grammar_and_a_grammar_stays_itself() -> None:
    grammar = asr.load_grammar(["yes", "no"])
    assert asr.load_grammar(grammar) is grammar
    assert grammar == asr.load_grammar(("yes", "no"))
    assert grammar != asr.load_grammar(["yes"])


def test_the_example_of_the_module_is_read() -> None:
    text = """#JSGF V1.0;
grammar house;
// what is said
public <command> = [please] turn (on | off) the <device> | /0.2/ stop {STOP};
"""
    with pytest.raises(LanguageModelError, match=r"house.jsgf:4: .* either all have a weight, or none"):
        parse_jsgf(text, "house.jsgf")
    what, rules = parse_jsgf(text.replace("= [", "= /1/ [") + "<device> = light | radio /* or \n fan */;", "house.jsgf")
    assert what == Choice(((Reference("command", 4), 0.0),))
    please = Choice(((Words("please", 4), 0.0), (NOTHING, 0.0)))
    switch = Choice(((Words("on", 4), 0.0), (Words("off", 4), 0.0)))
    turn = Sequence((please, Words("turn", 4), switch, Words("the", 4), Reference("device", 4)))
    assert rules["command"] == Choice(((turn, 0.0), (Words("stop", 4), math.log(0.2))))
    assert rules["device"] == Choice(((Words("light", 5), 0.0), (Words("radio", 5), 0.0)))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("a b c", Words("a b c", 3)),
        ("a b* c", Sequence((Words("a", 3), Repeated(Words("b", 3)), Words("c", 3)))),
        ("(a b)+", Sequence((Words("a b", 3), Repeated(Words("a b", 3))))),
        ("a+*+", Repeated(Words("a", 3))),
        ("a {x \\} y} {z}", Words("a", 3)),
        ('"new york" \\"', Words('new york "', 3)),
        ("<NULL>", NOTHING),
        ("<VOID>", Choice(())),
        ("/2/ a | /4e0/ b | /0/ c", Choice(((Words("a", 3), math.log(2) - math.log(4)), (Words("b", 3), 0.0)))),
    ],
)
def test_each_sign_means_what_the_standard_says(rule: str, expected: object) -> None:
    assert parse_jsgf(f"{HEAD}public <x> = {rule};", "g")[1]["x"] == expected


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("grammar x;", 1, "begins with the line `#JSGF V1.0;`"),
        ("#JSGF V1.0;\npublic <x> = a;", 2, "after the header comes the name"),
        ("#JSGF V1.0;\ngrammar ;", 2, "has no name"),
        ("#JSGF V1.0;\ngrammar x\npublic <x> = a;", 3, "name of the grammar ends in `;`"),
        (HEAD + "import <other.*>;", 3, "imports are not read; copy the rules"),
        (HEAD + "public <x> = a\n;\nprivate <y> = b;", 5, "a rule begins with `<name> =`"),
        (HEAD + "public x = a;", 3, "begins with its name in <>, not 'x'"),
        (HEAD + "public <x> a;", 3, "after <x> comes `=`, but there is 'a'"),
        (HEAD + "public <x> = a", 3, "rule <x> ends in `;`, but there is the end of the file"),
        (HEAD + "public <x> = a | ;", 3, "something to say is missing before ';'"),
        (HEAD + "public <x> = (a\n| b;", 4, "the `(` of line 3 is not closed"),
        (HEAD + "public <x> = a);", 3, "rule <x> ends in `;`, but there is ')'"),
        (HEAD + "public <x> = a;\n<x> = b;", 4, "the rule <x> is written twice"),
        (HEAD + "public <x> = a\n<z>;", 4, "there is no rule <z>"),
        (HEAD + "public <x> = <house.y>;", 3, "rule of another grammar, which is not read; write <y>"),
        (HEAD + "public <NULL> = a;", 3, "<NULL> has its meaning already"),
        (HEAD + "<x> = a;", 1, "no rule is public"),
        (HEAD + "public <x> = /0/ a | /0/ b;", 3, "all weights of these alternatives are 0"),
        (HEAD + "public <x> = /-1/ a;", 3, "a weight is a number between two `/`"),
        (HEAD + "public <x> = /1e999/ a;", 3, "too long or too large"),
        (HEAD + "public <x> = a {b;", 3, "this tag has no end"),
        (HEAD + "public <x> = <a b>;", 3, "the name of a rule ends in `>`"),
        (HEAD + 'public <x> = "a;', 3, "this quotation has no end"),
        (HEAD + "/* a\npublic <x> = a;", 3, "this comment has no end"),
        (HEAD + "public <x> = a > b;", 3, "'>' has no meaning here"),
        (HEAD + "public <x> = " + "(" * 65 + "a" + ")" * 65 + ";", 3, "nested deeper than 64"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(LanguageModelError) as error:
        parse_jsgf(text, "house.jsgf")
    assert str(error.value).startswith(f"house.jsgf:{line}: ")
    assert reason in str(error.value)


def test_long_hostile_names_are_not_spelled_out_in_messages() -> None:
    with pytest.raises(LanguageModelError) as error:
        parse_jsgf(f"{HEAD}public {'x' * 10_000} = a;", "g")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("text", ["", "\n # not at the start\n\n", "# only a comment\n"])
def test_a_file_without_a_phrase_is_refused_unless_a_line_says_something(text: str, tmp_path: Path) -> None:
    path = tmp_path / "phrases.txt"
    path.write_text(text)
    if "not at" in text:
        assert asr.load_grammar(path).expressions[0] == Choice(((Words("# not at the start", 2), 0.0),))
        return
    with pytest.raises(LanguageModelError, match=r"phrases.txt: there is no phrase in it; write one a line"):
        asr.load_grammar(path)


def test_a_file_that_is_missing_or_too_large_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(LanguageModelError, match=r"none.jsgf: cannot read the grammar"):
        asr.load_grammar(tmp_path / "none.jsgf")
    path = tmp_path / "large.txt"
    path.write_text("a\n" * 2_000_001)
    with pytest.raises(LanguageModelError, match=r"large.txt: cannot read the grammar: larger than"):
        asr.load_grammar(path)


def test_phrases_from_a_program_have_the_same_limit() -> None:
    with pytest.raises(LanguageModelError, match="the grammar: larger than 4 MB; give fewer phrases"):
        asr.load_grammar(["a" * 1000] * 4000)


def test_what_is_no_list_of_phrases_is_refused() -> None:
    with pytest.raises(LanguageModelError, match="the path of a file, or a list of phrases"):
        asr.load_grammar([1, 2])  # type: ignore[list-item]


def test_the_checksum_tells_grammars_apart_by_what_they_say() -> None:
    assert Grammar("a", "yes").checksum == Grammar("b", "yes").checksum != Grammar("a", "no").checksum
