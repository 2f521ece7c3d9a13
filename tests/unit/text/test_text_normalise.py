"""Transcripts: normalisation, checked by hand and by law."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.config import TextSettings
from asr.text.normalise import normalise

SETTINGS = st.builds(TextSettings, case=st.sampled_from(["lower", "upper", "keep"]), remove=st.text(max_size=5))


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
        ("", {}, ""),
    ],
)
def test_normalisation_by_hand(text, settings, expected):
    assert normalise(text, TextSettings(**settings)) == expected


@given(st.text(), SETTINGS)
def test_normalising_twice_changes_nothing(text, settings):
    once = normalise(text, settings)
    assert normalise(once, settings) == once


@given(st.text(), SETTINGS)
def test_normalised_text_is_composed_and_singly_spaced(text, settings):
    result = normalise(text, settings)
    assert unicodedata.is_normalized("NFC", result)
    assert result == " ".join(result.split())
