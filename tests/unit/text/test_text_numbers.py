"""`text.numbers`: num2words is the oracle for whole numbers; the rest is worked by hand."""

import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import CONVERTER_CLASSES, num2words

from asr.config import TextSettings
from asr.errors import ConfigError, DependencyError
from asr.text.normalise import normalise
from asr.text.numbers import known_languages, say_numbers


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "42 apples, 1,000 pears", "forty-two apples, one thousand pears"),
        ("en", "in 1984", "in one thousand nine hundred and eighty-four"),
        ("en", "3.14 1.50 0.05", "three point one four one point five zero zero point zero five"),
        ("en", "−5 and F-16 and a 5-year plan", "minus five and F-sixteen and a five-year plan"),
        ("en", "the 3rd, 21st and 11th", "the third, twenty-first and eleventh"),
        ("en", "007 5%.", "zero zero seven five%."),
        ("en", "1,00,000 3,14", "1,00,000 3,14"),
        ("en_IN", "12,34,567", "twelve lakh thirty-four thousand five hundred and sixty-seven"),
        ("de", "1.000,5 Grad und 1.000.000", "eintausend Komma fünf Grad und eine Million"),
        ("de", "am 3. Mai ist er 30.", "am 3. Mai ist er dreißig."),
        ("de", "3.14", "3.14"),
        ("fr", "le 1er: 10 000 francs et 3,5", "le premier: dix mille francs et trois virgule cinq"),
        ("fr", "1 000-2 000", "1 000-2 000"),
        ("fr", "en 2020 300 francs", "en deux mille vingt trois cents francs"),
        ("nl", "de 3e dag", "de derde dag"),
        ("es", "el 1º día", "el primero día"),
        ("uk", "3,05", "три кома нуль п'ять"),
        ("ru", "5 и 3,14", "пять и 3,14"),
        ("tr", "5'te", "beş'te"),
        ("ar", "٣ كتب و ١٬٠٠٠", "ثلاثة كتب و ألف"),
        ("th", "มี 25คน 3.14", "มี ยี่สิบห้าคน สามจุดหนึ่งสี่"),
        ("ja", "5月3日 １２ 007", "五月三日 十二 零零七"),
        ("ko", "3월 42", "3월 사십이"),
        ("bn", "৪২", "বিয়াল্লিশ"),
    ],
)
def test_numbers_are_said_as_written_by_hand(language, text, expected):
    assert say_numbers(text, language) == expected


@pytest.mark.parametrize(
    "text", ["-5", ".5", "5kg", "90s", "A4", "v2", "3/4", "10:30", "10-20", "1.2.3", "12/5/2020", "2th", "00.5", "x5y"]
)
def test_what_has_several_readings_stays_in_digits(text):
    assert say_numbers(f"a {text} b", "en") == f"a {text} b"


@pytest.mark.parametrize("way", ["space", "remove"])
def test_signs_of_numbers_that_stay_are_neither_deleted_nor_spaced(way):
    """Or 10:30 would become 1030, which has a reading: a wrong one."""
    settings = TextSettings(numbers="en", **{way: "punctuation"})
    text = "(10:30), 3/4! -5 .5 “1.2.3” 10-20 3–4 5kg."
    assert normalise(text, settings) == "10:30 3/4 -5 .5 1.2.3 10-20 3–4 5kg"
    assert normalise("10:30", TextSettings(**{way: ":"})) == {"space": "10 30", "remove": "1030"}[way]


def test_the_point_of_an_ordinal_stays_within_a_text():
    settings = TextSettings(numbers="de", remove="punctuation")
    assert normalise("Am 3. Mai, um 5. Er ist 30!", settings) == "am 3. mai um 5. er ist dreißig"


@pytest.mark.parametrize("language", known_languages())
@pytest.mark.parametrize("value", [0, 7, 12, 21, 99, 100, 345, 1984, 20_000, 1_234_567])
def test_whole_numbers_are_said_as_num2words_says_them(language, value):
    words = num2words(value, lang=language).replace(",", "").split()
    assert say_numbers(str(value), language).split() == words


@pytest.mark.parametrize("language", ["bn", "vi", "cs", "pl", "kn"])
def test_a_minus_that_num2words_loses_or_cannot_say_stays(language):
    assert say_numbers("−5", language) == "−5"


@pytest.mark.parametrize("language", ["ru", "hu", "fa", "ar"])
def test_decimals_that_num2words_does_not_say_sign_by_sign_stay(language):
    sign = "٫" if language in ("fa", "ar") else ","
    assert say_numbers(f"3{sign}14", language) == f"3{sign}14"


@given(st.integers(0, 10**15 - 1))
def test_long_numbers_are_said_whole_up_to_15_digits(value):
    assert say_numbers(str(value), "en") == num2words(value, lang="en").replace(",", "")


@given(st.text(alphabet="0123456789", min_size=16, max_size=2000))
def test_longer_ones_are_said_digit_by_digit(digits):
    assert say_numbers(digits, "en").split() == [num2words(int(digit), lang="en") for digit in digits]


@given(st.text(alphabet="12 .,-−/:kst%٣五a", max_size=20), st.sampled_from(["en", "de", "fr", "th", "ar", "tr"]))
def test_what_is_no_digit_and_joins_none_stays_in_its_order(text, language):
    """What is left of the digits, their signs and letters beside them is in the result, one after the other."""
    words = iter(say_numbers(text, language).split())
    for word in text.split():
        if not any(map(str.isdigit, word)):
            assert any(other == word for other in words)


def test_an_unknown_language_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"text\.numbers = 'xx': not one of ar, az, .*, vi"):
        normalise("5", TextSettings(numbers="xx"))


def test_all_languages_of_num2words_are_known_but_the_one_that_never_ends():
    assert known_languages() == sorted(set(CONVERTER_CLASSES) - {"am"})


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "num2words":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DependencyError, match=r"pip install 'asr\[text\]'"):
        known_languages()


def test_words_take_the_case_of_the_texts_and_lose_signs_that_are_deleted():
    settings = TextSettings(numbers="de", case="upper", remove="punctuation")
    assert normalise("3,5 Grad!", settings) == "DREI KOMMA FÜNF GRAD"
    assert normalise("42!", TextSettings(numbers="en", space="-", remove="punctuation")) == "forty two"


def test_the_table_comes_before_numbers_and_sees_their_words():
    settings = TextSettings(
        numbers="en", replace={"1984": "nineteen eighty-four", "hundred and": "hundred", "5kg": "5 kg"}
    )
    assert normalise("1984, 105 and 5kg", settings) == "nineteen eighty-four, one hundred five and five kg"
