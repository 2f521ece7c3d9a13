"""`text.replace`: by hand in several scripts, against a naive oracle, and what is refused."""

import re

import pytest
import regex
import yaml
from hypothesis import given
from hypothesis import strategies as st

from asr.bundle.settings import load_settings, save_settings
from asr.config import Config, TextSettings
from asr.errors import ConfigError
from asr.settings_file import load_config
from asr.text.normalise import normalise, table_of
from asr.text.replacements import prepare_replacements


@pytest.mark.parametrize(
    ("text", "table", "expected"),
    [
        ("Colour, colours, COLOUR'S discolour", {"Colour": "color"}, "color, colours, color's discolour"),
        ("Mr. Smith and mr Smith", {"mr.": "mister"}, "mister smith and mr smith"),
        ("50% of 50 %", {"%": " per cent"}, "50 per cent of 50 per cent"),
        ("new york, New  York City", {"new york": "ny", "new york city": "nyc"}, "ny, nyc"),
        ("well-known", {"known": "famous"}, "well-famous"),
        ("l'hôtel", {"hôtel": "auberge"}, "l'auberge"),
        ("um so um", {"um": ""}, "so"),
        ("St. Louis St. James", {"st.": "saint", "St. Louis": "st. louis"}, "st. louis saint james"),
        ("a1 1 11", {"1": "one"}, "a1 one 11"),
        ("裏 裏口", {"裏": "里"}, "里 里口"),
        ("A級 AB級", {"A": "甲"}, "甲級 ab級"),
        # Thai: a letter's marks belong to it. Hindi: a word goes on in its vowel signs.
        ("กา กี กี่", {"กี": "X"}, "กา x กี่"),
        ("हिन्दी हिन्द", {"हिन्द": "hind"}, "हिन्दी hind"),
        ("می\u200cخواهم می", {"می": "x"}, "می\u200cخواهم x"),
        ("مُحَمَّد", {"\u064e": "", "\u064f": "", "\u0651": ""}, "محمد"),
        ("Straße", {"ß": "ss"}, "straße"),
        ("Ἀθῆναι ΟΔΟΣ", {"ΟΔΟΣ": "δρόμος"}, "ἀθῆναι δρόμος"),
        ("don\u2019t", {"don't": "do not"}, "do not"),
        ("", {"a": "b"}, ""),
    ],
)
def test_words_are_replaced_as_by_hand(text, table, expected):
    assert normalise(text, TextSettings(replace=table)) == expected


def test_case_follows_the_rules_of_the_language():
    settings = TextSettings(replace={"IŞIK": "lamba"}, language="tr")
    assert normalise("Işık ışık ışıklar isik", settings) == "lamba lamba ışıklar isik"
    assert normalise("Colour colour", TextSettings(replace={"colour": "color"}, case="keep")) == "Colour color"


def test_keys_find_words_before_signs_are_deleted_and_words_that_deleting_made():
    settings = TextSettings(replace={"mr.": "mister", "well known": "famous"}, space="-", remove="punctuation")
    assert normalise("Mr. Smith, well-known!", settings) == "mister smith famous"


def naive(text, table):
    """At each place the longest key that cuts no word, by the package `regex`; what was replaced is not read again."""
    keys = sorted(table, key=len, reverse=True)
    word = r"[\p{L}\p{N}\p{M}]"
    written, place = "", 0
    while place < len(text):
        for key in keys:
            begins = "" if not regex.match(word, key[0]) else f"(?<!{word})"
            ends = "" if not regex.match(word, key[-1]) else f"(?!{word})"
            if regex.compile(begins + regex.escape(key) + ends).match(text, place):
                written += table[key]
                place += len(key)
                break
        else:
            written += text[place]
            place += 1
    return written


PARTS = st.text(alphabet="ab-%éд5 ", min_size=1, max_size=4).filter(str.strip)


@given(
    st.lists(st.sampled_from(["a", "b", "ab", "é", "д", "-", "%", "5", " ", "ba", "a b"]), max_size=12).map("".join),
    st.dictionaries(PARTS, st.text(alphabet="xyz", max_size=3), max_size=5),
)
def test_one_pass_over_a_text_is_that_of_the_naive_oracle(text, table):
    ready = prepare_replacements(table, str, str)
    text, table = re.sub(" +", " ", text), {re.sub(" +", " ", key): value for key, value in reversed(table.items())}
    assert ready.apply(text) == naive(text, table)


@given(
    st.dictionaries(st.text(alphabet="abc", min_size=1, max_size=2), st.text(alphabet="abc ", max_size=4), max_size=4)
)
def test_a_table_is_refused_or_nothing_that_it_made_is_replaced_again(table):
    settings = TextSettings(replace=table)
    try:
        ready = table_of(settings)
    except ConfigError as error:
        assert re.search("replaced again|both", str(error))  # noqa: PT017 (both outcomes are tested)
        return
    for key, value in table.items():
        assert naive(value, ready.values) == value
        assert normalise(key, settings) == normalise(value, settings)


def test_a_chain_of_replacements_is_refused_by_name_with_the_way_out():
    with pytest.raises(ConfigError, match=r"'a' becomes 'b', in which 'b' would be replaced again; .*'b': 'b'"):
        normalise("a", TextSettings(replace={"a": "b", "b": "c"}))
    assert normalise("dr dr.", TextSettings(replace={"dr": "dr.", "dr.": "dr."})) == "dr. dr."


def test_a_chain_through_a_deleted_sign_is_refused():
    with pytest.raises(ConfigError, match="replaced again"):
        normalise("a", TextSettings(replace={"a": "b-c", "bc": "d"}, remove="-"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({" ": "x"}, "the key ' ' is empty"),
        ({"\u200b": "x"}, "is empty"),
        ({"Colour": "a", "colour": "b"}, "'Colour' and 'colour' are both 'colour'"),
    ],
)
def test_a_key_that_finds_nothing_or_two_things_is_refused(table, message):
    with pytest.raises(ConfigError, match=message):
        normalise("x", TextSettings(replace=table))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.tsv", "colour\tcolor\n\nuh\t\nnew york\tny\n"),
        ("t.yaml", "colour: color\nuh: ''\nnew york: ny\n"),
    ],
)
def test_a_table_in_a_file_is_the_table_and_the_model_folder_holds_it(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "conf.yaml").write_text(f"text:\n  replace: {tmp_path / name}\n")
    config = load_config(tmp_path / "conf.yaml")
    assert config.text.replace == {"colour": "color", "uh": "", "new york": "ny"}
    assert config == load_config(None, [f"text.replace={tmp_path / name}"])
    save_settings(config, tmp_path)
    (tmp_path / name).unlink()
    assert load_settings(tmp_path).text == config.text


def test_a_word_can_be_given_on_the_command_line():
    assert load_config(None, ["text.replace.colour=color"]).text.replace == {"colour": "color"}


def test_a_model_folder_that_names_a_file_is_refused(tmp_path):
    (tmp_path / "t.tsv").write_text("a\tb\n")
    save_settings(Config(), tmp_path)
    content = yaml.safe_load((tmp_path / "config.yaml").read_text())
    content["text"]["replace"] = str(tmp_path / "t.tsv")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"text\.replace: .*not a group of named values"):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", "a b\n", r"t\.tsv:1: 'a b' is not a word, one tab"),
        ("t.tsv", "a\tb\nc\td\te\n", r"t\.tsv:2: "),
        ("t.tsv", "a\tb\na\tc\n", r"t\.tsv:2: 'a' is in the table already"),
        ("t.yaml", "- a\n", r"t\.yaml: .*colour: color"),
        ("t.yaml", "1: one\n", r"text\.replace: 1 is not a text; put it in quotes"),
        ("t.yaml", "one: true\n", r"text\.replace: true is not a text"),
        ("t.csv", "a,b\n", r"is neither a table nor a \.tsv or \.yaml file"),
    ],
)
def test_a_malformed_table_is_named_with_the_line(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_config(None, [f"text.replace={tmp_path / name}"])


def test_a_missing_file_and_a_huge_table_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.tsv: cannot read the table of text\.replace"):
        load_config(None, [f"text.replace={tmp_path / 'nothing.tsv'}"])
    (tmp_path / "t.tsv").write_text("".join(f"word{i}\tother{i}\n" for i in range(10_000)))
    with pytest.raises(ConfigError, match=r"kB is too large, at most 150"):
        load_config(None, [f"text.replace={tmp_path / 't.tsv'}"])


def test_the_largest_table_can_be_written_and_read_again(tmp_path):
    table = {f"ключ{i:05}": "значение" for i in range(3_000)}
    config = Config(text=TextSettings(replace=table))
    save_settings(config, tmp_path)
    assert load_settings(tmp_path).text.replace == table
