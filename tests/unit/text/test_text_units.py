"""Words of scripts without spaces: by hand, and held against the package `regex`, which knows Unicode's boundaries."""

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from asr.text.units import is_written_without_spaces, split_units, words_of, writes_spaces

MIXED = st.text(st.sampled_from("今天々をんゃーコヒ。「」ภาษาไทยกำลัง่ລາວខ្មែរမြန်བཀྲ་ཤis9'é ")) | st.text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天天气很好", "今|天|天|气|很|好"),
        ("iPhoneを買う", "iPhone|を|買|う"),
        ("iPhone を 買う", "iPhone|を|買|う"),
        ("コーヒーを飲む", "コーヒー|を|飲|む"),
        ("ジョン・スミス", "ジョン・|スミス"),
        ("2024年5月", "2024|年|5|月"),
        ("「きゃっと」と", "「きゃっ|と」|と"),
        ("人々らーめん", "人々|らー|め|ん"),
        ("你好，世界。", "你|好，|世|界。"),
        ("น้ำไทยดี", "น้ำ|ไท|ย|ดี"),
        ("ລາວ", "ລ|າ|ວ"),
        ("ភាសាខ្មែរ", "ភា|សា|ខ្មែ|រ"),
        ("မြန်မာ", "မြ|န်|မာ"),
        ("བཀྲ་ཤིས་བདེ་ལེགས།", "བཀྲ་|ཤིས་|བདེ་|ལེགས།"),
        ("don't well-known 3.5", "don't|well-known|3.5"),
        ("한국어 띄어쓰기 हिन्दी", "한국어|띄어쓰기|हिन्दी"),
        ("", ""),
    ],
)
def test_words_are_those_divided_by_hand(text, expected):
    assert "|".join(words_of(text)) == expected


@given(MIXED)
def test_words_joined_are_the_text_and_each_is_one_word(text):
    words = words_of(text)
    assert "".join(words) == "".join(text.split())
    assert all(split_units(word) == [word] for word in words)


@given(st.text(st.sampled_from("今天をんゃーコヒ。「」ภาษาไทยกำลัง่ລາວខ្មែរမြန်is9'é"), min_size=1))
def test_a_word_ends_only_where_unicode_ends_a_character_and_a_word(text):
    ends, place = set(), 0
    for unit in split_units(text):
        place += len(unit)
        ends.add(place)
    clusters = {match.end() for match in regex.finditer(r"\X", text)}
    boundaries = {match.end() for match in regex.finditer(r"\b", text, regex.WORD)} | {len(text)}
    assert ends <= clusters
    if any(is_written_without_spaces(character) for character in text):
        assert ends <= boundaries


@given(st.text(st.sampled_from("今天气很好をんみ"), min_size=1) | st.text("กขคงจ่้ิี", min_size=1).map("ก".__add__))
def test_without_signs_that_begin_no_line_words_are_those_of_unicode(text):
    assert split_units(text) == [part for part in regex.split(r"\b", text, flags=regex.WORD | regex.V1) if part]


def test_the_letters_without_spaces_are_those_between_which_unicode_breaks_lines():
    breaks = regex.compile(r"[\p{lb=ID}\p{lb=CJ}\p{lb=SA}]")
    written = regex.compile(r"[\p{Han}\p{Hira}\p{Kana}\p{Bopo}\p{Thai}\p{Lao}\p{Khmr}\p{Mymr}\p{Yiii}\p{Tale}\p{Talu}]")
    for code in range(0x30000):
        character = chr(code)
        if character.isalpha() and written.match(character) and breaks.match(character):
            assert is_written_without_spaces(character), hex(code)
        if regex.match(r"[\p{Latn}\p{Cyrl}\p{Arab}\p{Deva}\p{Hang}\p{Grek}\p{Ethi}\p{Nd}]", character):
            assert not is_written_without_spaces(character), hex(code)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["the cat sat", "한국어 띄어쓰기"], True),
        (["今天天气很好", "ok"], False),
        (["สวัสดี ครับ"], False),
        (["abc 今天"], True),
        (["abc 今天天气"], False),
        (["123 …"], True),
        ([], True),
    ],
)
def test_whether_texts_write_spaces_is_decided_by_most_letters(texts, expected):
    assert writes_spaces(texts) is expected
