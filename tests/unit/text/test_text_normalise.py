"""Transcripts: normalisation, checked by hand and by law."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.config import TextSettings
from asr.text.normalise import normalise

CHARACTERS = st.text(max_size=5) | st.just("punctuation")
SETTINGS = st.builds(
    TextSettings,
    case=st.sampled_from(["lower", "upper", "keep"]),
    language=st.sampled_from(["", "tr", "az"]),
    apostrophes=st.sampled_from(["straight", "keep"]),
    space=CHARACTERS,
    remove=CHARACTERS,
)
TEXTS = st.text() | st.text(alphabet="aBiIİı\u0307-'\u2019. \u0301\u00e9\u200d_\t", max_size=12)


@pytest.mark.parametrize(
    ("text", "settings", "expected"),
    [
        ("  Hello\t WORLD \n", {}, "hello world"),
        ("Hello", {"case": "upper"}, "HELLO"),
        ("Hello", {"case": "keep"}, "Hello"),
        ("Don't, stop!", {"remove": ",!"}, "don't stop"),
        ("cafe\u0301", {}, "café"),
        ("a - b", {"remove": "-"}, "a b"),
        ("ABC", {"remove": "b"}, "ac"),
        ("a\u00a0b\u3000c", {}, "a b c"),
        ("a b", {"remove": " "}, "a b"),
        ("İstanbul IŞIK ılık", {"language": "tr"}, "istanbul ışık ılık"),
        ("İstanbul I\u0307zmir IŞIK", {}, "istanbul izmir işik"),
        ("I\u0307stanbul", {"language": "az"}, "istanbul"),
        ("istanbul ışık ÇİĞ", {"language": "tr", "case": "upper"}, "İSTANBUL IŞIK ÇİĞ"),
        ("İstanbul Işık", {"language": "tr", "case": "keep"}, "İstanbul Işık"),
        ("IŞIK ilk", {"language": "tr", "remove": "I"}, "şk ilk"),
        ("IŞIK", {}, "işik"),
        ("", {}, ""),
        ("Don\u2019t", {}, "don't"),
        ("Don\u2019t", {"apostrophes": "keep"}, "don\u2019t"),
        ("don\u2019t", {"remove": "'"}, "dont"),
        ("don't", {"remove": "\u2019"}, "dont"),
        ("A well-known man", {"space": "-"}, "a well known man"),
        ("A well-known man", {"remove": "-"}, "a wellknown man"),
        ("so-called (\u00ab new \u00bb), 3 $!", {"space": "-", "remove": "punctuation"}, "so called new 3"),
        ("one/two...three", {"space": "punctuation"}, "one two three"),
        ("'Don\u2019t', she said, 'stop dogs' barking'", {"remove": "punctuation"}, "don't she said stop dogs barking"),
        ("a''b", {"remove": "punctuation"}, "ab"),
        (
            "\u0939\u093f\u0928\u094d\u0926\u0940\u0964",
            {"remove": "punctuation"},
            "\u0939\u093f\u0928\u094d\u0926\u0940",
        ),
        ("e-\u0301", {"remove": "-"}, "\u00e9"),
    ],
)
def test_normalisation_by_hand(text, settings, expected):
    assert normalise(text, TextSettings(**settings)) == expected


@given(TEXTS, SETTINGS)
def test_normalising_twice_changes_nothing(text, settings):
    once = normalise(text, settings)
    assert normalise(once, settings) == once


@given(TEXTS, SETTINGS)
def test_normalised_text_is_composed_and_singly_spaced(text, settings):
    result = normalise(text, settings)
    assert unicodedata.is_normalized("NFC", result)
    assert result == " ".join(result.split())
