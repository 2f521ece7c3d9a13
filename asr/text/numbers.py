"""Numbers in digits → words, by num2words, where the digits have one reading: `text.numbers`.

Said, in the language that the setting names, with digits of any script:

    42 · 1,000 · 1 000 · 1.000     integers; groups of thousands as the language writes them
    3.14 · 3,14                    decimals, with the language's sign
    −5                             negative numbers; only the minus sign U+2212, because a hyphen may be a dash
    3rd · 1er · 3º                 ordinals that num2words writes in the same way
    007 · 20 digits                digit by digit, if there is a leading zero or more than 15 digits

Years are said as other integers are. All else has several readings and stays in digits, so that it can be seen:
`asr check` lists it, and `text.replace`, which comes first, can say it. `text.space` and `text.remove` leave its signs
alone. Such are dates, times, ranges, fractions and
versions (3/4, 10:30, 10-20, 1.2.3), digits beside letters (5kg, 90s), a hyphen, a point or a comma before the first
digit (-5, .5) and, in languages that write ordinals so, a point behind the number within the text (am 3. Mai). What
num2words cannot say stays too. Units and signs, such as %, are no part of a number: `text.replace` can say them.

num2words is asked for whole numbers only, because its decimals and negative numbers have faults in many languages: they
lose zeros, the fraction, or the minus. The words for the point and the minus are learnt from 3.14 and -5, and not used
where these two are not said as the number, the sign and the number.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from asr.errors import ConfigError, DependencyError
from asr.reading import shown
from asr.text.replacements import goes_on
from asr.text.units import is_written_without_spaces

_MOST_DIGITS = 15  # of a number that is not said digit by digit
_MINUS = "\u2212"
_HANGS = frozenset({"am"})  # num2words never comes back from some numbers in these languages

# Which languages write 1,000.5 and not 1.000,5; 12,34,567; 1 000; and ordinals with a point, as in "am 3. Mai".
_POINT = frozenset({"bn", "cy", "en", "en_IN", "en_NG", "es_GT", "es_NI", "he", "ja", "kn", "ko", "te", "th"})
_LAKHS = frozenset({"bn", "en_IN", "kn", "te"})
_SPACES = frozenset({"be", "cs", "eo", "fi", "fr", "fr_BE", "fr_CH", "fr_DZ", "hu", "kz"}) | frozenset(
    {"lt", "lv", "no", "pl", "pt", "ru", "sk", "sv", "tg", "uk"}
)
_POINT_OF_ORDINALS = frozenset({"cs", "da", "de", "fi", "hu", "is", "lv", "no", "pl", "sk", "sl", "sr", "tr"})
_ARABIC = frozenset({"ar", "fa"})  # 1٬000٫5 and 1,000.5

# Digits that single signs join, and the letters behind them.
_NUMBER = rf"{_MINUS}?\d+(?:[^\w\s]\d+)*"
_WITH_SPACES = r"(?:\d{1,3}(?: \d{3})+(?!\d)|\d+)"
_NUMBER_WITH_SPACES = rf"{_MINUS}?{_WITH_SPACES}(?:[^\w\s]{_WITH_SPACES})*"
_SUFFIX = r"[^\W\d_]*"
_BEFORE_ITS_DIGITS = re.compile(r"(?<!\w)[-.,]$")  # -5 and .5, but not F-16
_ENDS_TEXT = re.compile(r"\.[^\w\s]*\s*\Z")


def say_numbers(text: str, language: str, said: Counter[tuple[str, str]] | None = None) -> str:
    """Return a text with its numbers in words, where they have one reading; see above for the others.

    Args:
        text: with single spaces.
        language: a code that num2words knows.
        said: counts each number and its words.

    Raises:
        ConfigError: it does not know it.
        DependencyError: num2words is not installed.
    """
    speaker = _speaker(language)

    def say(found: re.Match[str]) -> str:
        words = speaker.said(found)
        if said is not None and words != found[0]:
            said[found[0], words] += 1
        return words

    return speaker.found_in.sub(say, text)


def outside_numbers(text: str, language: str, change: Callable[[str], str]) -> str:
    """Return a text with everything changed but the numbers that are still in digits, and their signs.

    Otherwise 10:30 could become 1030, and -5 the number 5, which have another reading.

    Raises:
        ConfigError, DependencyError: as `say_numbers`.
    """
    parts: list[str] = []
    done = 0
    for found in _speaker(language).unsaid.finditer(text):
        parts += (change(text[done : found.start()]), found[0])
        done = found.end()
    return "".join((*parts, change(text[done:])))


def known_languages() -> list[str]:
    """Return the codes of the languages in which numbers can be said, in order.

    Raises:
        DependencyError: num2words is not installed.
    """
    try:
        from num2words import CONVERTER_CLASSES
    except ImportError:
        raise DependencyError("text.numbers needs the package num2words: pip install 'asr[text]'") from None
    return sorted(CONVERTER_CLASSES.keys() - _HANGS)


@lru_cache(maxsize=8)
def _speaker(language: str) -> _Speaker:
    known = known_languages()
    if language not in known:
        raise ConfigError(f"text.numbers = {shown(language)}: not one of {', '.join(known)}")
    return _Speaker(language)


@lru_cache(maxsize=4096)
def _num2words(value: float, language: str, to: Literal["cardinal", "ordinal", "ordinal_num"] = "cardinal") -> str:
    """Return what num2words makes of a number, without commas; nothing if it fails."""
    from num2words import num2words

    try:
        words = num2words(value, lang=language, to=to)
    except Exception:  # its languages raise what they happen to, OverflowError and NotImplementedError among others
        return ""
    return " ".join(words.replace(",", " ").split()) if isinstance(words, str) else ""


@dataclass(frozen=True)
class _Speaker:
    """Says the numbers of a text in a language."""

    language: str

    @cached_property
    def found_in(self) -> re.Pattern[str]:
        """What finds the numbers of a text, with what is joined to them."""
        number = _NUMBER_WITH_SPACES if self.language in _SPACES else _NUMBER
        return re.compile(f"(?P<number>{number})(?P<suffix>{_SUFFIX})")

    @cached_property
    def unsaid(self) -> re.Pattern[str]:
        """What finds the numbers that were not said, with the signs because of which they were not."""
        point = r"(?:\.(?=[^\w\s]*\s*\w))?" if self.language in _POINT_OF_ORDINALS else ""
        return re.compile(rf"(?:(?<!\w)[-.,])?{_NUMBER}{point}")

    def said(self, found: re.Match[str]) -> str:
        """Return the words for a number, or the number as it is if it has more than one reading."""
        text, number, suffix = found.string, found["number"], found["suffix"]
        (start, digits_end), end = found.span("number"), found.end()
        if start and goes_on(text[start - 1], text[start]):
            return found[0]
        if end < len(text) and goes_on(text[end - 1], text[end]):
            return found[0]
        if _BEFORE_ITS_DIGITS.search(text[max(0, start - 2) : start]):
            return found[0]
        if self.language in _POINT_OF_ORDINALS and text.startswith(".", end) and not _ENDS_TEXT.match(text, end):
            return found[0]
        if suffix and goes_on(text[digits_end - 1], suffix[0]):
            return self._ordinal(number, suffix) or found[0]
        words = self._number(number)
        return words + suffix if words else found[0]

    def _ordinal(self, number: str, suffix: str) -> str:
        """Return the words for 3rd, or nothing if num2words does not write it so."""
        if not number.isdecimal() or len(number) > _MOST_DIGITS:
            return ""
        value = int(number)
        if _num2words(value, self.language, "ordinal_num").casefold() != f"{value}{suffix}".casefold():
            return ""
        return _sayable(_num2words(value, self.language, "ordinal"))

    def _number(self, number: str) -> str:
        """Return the words for a number, or nothing if it has more than one reading or cannot be said."""
        read = self._form.fullmatch(number)
        if read is None:
            return ""
        whole = "".join(str(int(sign)) for sign in read["whole"] if sign.isdecimal())
        fraction = "".join(str(int(sign)) for sign in read["fraction"] or "")
        if fraction and len(whole) > 1 and whole[0] == "0":  # 00.5
            return ""
        parts = [self._whole(whole)]
        if read["minus"]:
            parts.insert(0, self._minus)
        if fraction:
            parts += (self._point[0], self._fraction(fraction))
        return "".join(parts) if all(parts) else ""

    @cached_property
    def _form(self) -> re.Pattern[str]:
        """What a number looks like in the language."""
        point, group = (
            (r"\.", ",") if self.language in _POINT else (",", r"[. ]" if self.language in _SPACES else r"\.")
        )
        if self.language in _ARABIC:
            point, group = r"[.\u066b]", r"[,\u066c]"
        grouped = rf"\d{{1,3}}(?P<group>{group})\d{{3}}(?:(?P=group)\d{{3}})*"
        if self.language in _LAKHS:
            grouped += r"|\d{1,2}(?:,\d{2})*,\d{3}"
        return re.compile(rf"(?P<minus>{_MINUS}?)(?P<whole>\d+|{grouped})(?:{point}(?P<fraction>\d+))?")

    def _whole(self, digits: str) -> str:
        """Return the words for a whole number, or nothing if it cannot be said."""
        if len(digits) > _MOST_DIGITS or (len(digits) > 1 and digits[0] == "0"):
            return self._digit_by_digit(digits)
        return _sayable(_num2words(int(digits), self.language))

    def _digit_by_digit(self, digits: str) -> str:
        return self._gap.join(_num2words(int(digit), self.language) for digit in digits)

    @cached_property
    def _gap(self) -> str:
        """What is between the words for digits: nothing in a script without spaces."""
        return "" if is_written_without_spaces(_num2words(0, self.language)[0]) else " "

    @cached_property
    def _point(self) -> tuple[str, bool]:
        """The words for the point with the spaces around them, and whether the fraction is said as a number."""
        said, whole = _num2words(3.14, self.language), _num2words(3, self.language)
        for fraction, is_number in ((self._digit_by_digit("14"), False), (_num2words(14, self.language), True)):
            point = said.removeprefix(whole).removesuffix(fraction)
            if said == f"{whole}{point}{fraction}" and any(map(str.isalpha, point)):
                return point, is_number
        return "", False

    def _fraction(self, digits: str) -> str:
        significant = digits.lstrip("0")
        if not self._point[1] or not significant or len(significant) > _MOST_DIGITS:
            return self._digit_by_digit(digits)
        zeros = [self._digit_by_digit("0")] * (len(digits) - len(significant))
        return self._gap.join((*zeros, self._whole(significant)))

    @cached_property
    def _minus(self) -> str:
        """The words for the minus with the space behind them; nothing if they are not known."""
        said, five = _num2words(-5, self.language), _num2words(5, self.language)
        minus = said.removesuffix(five)
        return minus if minus != said and any(map(str.isalpha, minus)) else ""


def _sayable(words: str) -> str:
    """Return words if they are some: a letter and no digit."""
    return words if any(map(str.isalpha, words)) and not any(map(str.isdecimal, words)) else ""
