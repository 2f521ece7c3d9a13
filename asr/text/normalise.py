"""Transcripts as people write them → transcripts as the model learns them; and which texts can be utterance ids.

The rule, in its order. Each step but the first depends on a setting of the section `text`.

1. Unicode is composed (NFC), now and after every other step. All white space, no-break spaces too, is single spaces.
2. `clean`: what cannot be seen is deleted, and each letter is written in one form.
   - Deleted: control and format characters, such as soft hyphens, zero-width spaces, byte order marks and marks of the
     direction; variation selectors; the Arabic tatweel. A joiner or non-joiner stays between letters of the Arabic
     script and of those of South Asia, where it belongs to the spelling.
   - Replaced by their usual form: full-width and half-width letters, digits and signs; Arabic presentation forms;
     ligatures such as ﬁ; mathematical letters; ſ; the hyphens U+2010 and U+2011, which become -. Dashes and the minus
     stay what they are, and so do superscripts, fractions and all other signs.
3. `case`, by the rules of `language`.
4. `apostrophes`: ’ becomes '. With `clean` so do ‘ ʼ ʻ ՚ ׳, and ` and ´ between two letters.
5. `replace`: a table of words and strings, see `asr/text/replacements.py`.
6. `numbers`: numbers in digits become words, see `asr/text/numbers.py`.
7. `space`: some characters become a space; then `remove`: some are deleted. For the class `punctuation`, an apostrophe
   within a word is a letter: "don't" keeps it, "'tis" does not. Hyphens, dashes and all other signs are characters like
   letters, unless one of these settings names them. Combining marks, such as Arabic vowel signs, are never deleted
   unless one of them does. Signs within a number that 6 leaves in digits stay.

Where 5 and 6 are used, the steps from 5 on are repeated until nothing changes. So a key finds words that 6 and 7 made.
A normalised text does not change again, so text can be normalised wherever it enters.

Sources: Unicode Standard Annex #15 (NFC, and the compatibility forms of step 2, of which those named here are taken);
Unicode Standard Annex #31, section 2.3 (where joiners matter); Unicode, SpecialCasing.txt (Turkish and Azerbaijani).
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

from asr.text.numbers import outside_numbers, say_numbers
from asr.text.replacements import Replacements, prepare_replacements

if TYPE_CHECKING:
    from asr.config import TextSettings


PUNCTUATION = "punctuation"  # in place of characters: all that Unicode calls punctuation (P*) or a symbol (S*)

CURLY_APOSTROPHE = "\u2019"
_OTHER_APOSTROPHES = re.compile("[\u2018\u02bc\u02bb\u055a\u05f3]")  # ‘ ʼ ʻ ՚ ׳
_ACCENTS_FOR_APOSTROPHES = re.compile(r"(?<=[^\W\d_])[`\u00b4](?=[^\W\d_])")
# At the start or the end of a word, or several in a row: quotation marks. One within a word belongs to it.
_QUOTING = re.compile(r"(?<!\S)'+|'+(?!\S)|''+")

# What Turkish and Azerbaijani write otherwise than all other languages.
_DOTTED_I = {"lower": str.maketrans({"İ": "i", "I": "ı"}), "upper": str.maketrans({"i": "İ"})}
_MOST_ROUNDS = 8  # of replacing, saying and deleting; a table of single words needs two


def normalise(text: str, settings: TextSettings) -> str:
    """Return a text as the model learns it, by the rule above.

    Raises:
        ConfigError: `settings.replace` or `settings.numbers` cannot be used.
        DependencyError: `settings.numbers` needs a package that is not installed.
    """
    form = form_of(settings)
    kept = written(text, form)
    if not (settings.replace or settings.numbers):
        return reduced(kept, form, settings)
    table = table_of(settings)
    for _ in range(_MOST_ROUNDS):
        before = kept
        kept = written(table.apply(" ".join(kept.split())), form)
        if settings.numbers:
            kept = written(say_numbers(kept, settings.numbers), form)
        kept = reduced(kept, form, settings)
        if kept == before:
            break
    return kept


def normalised_hypothesis(text: str, settings: TextSettings) -> str:
    """Return a recognised text as it is compared with references: with `settings.replace`, else as it is.

    It is in the tokens of normalised texts already. But a model folder's table may be newer than its training.
    """
    return normalise(text, settings) if settings.replace else text


def table_of(settings: TextSettings) -> Replacements:
    """Return the table of `settings.replace`, written by steps 1 to 4.

    Raises:
        ConfigError: the table cannot be used.
    """
    return _prepared(_Same(settings))


class _Same:
    """Settings as the key of a cache, by identity: they hold a table, so they have no hash."""

    def __init__(self, settings: TextSettings) -> None:
        self.settings = settings

    def __hash__(self) -> int:
        return id(self.settings)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.settings is self.settings


@lru_cache(maxsize=8)
def _prepared(same: _Same) -> Replacements:
    settings, form = same.settings, form_of(same.settings)
    return prepare_replacements(
        settings.replace, partial(written, form=form), partial(reduced, form=form, settings=settings)
    )


class Form(NamedTuple):
    """The settings of steps 2 to 4."""

    case: str
    language: str
    apostrophes: str
    clean: bool


def form_of(settings: TextSettings) -> Form:
    """Return the settings of steps 2 to 4."""
    return Form(settings.case, settings.language, settings.apostrophes, settings.clean)


def written(text: str, form: Form) -> str:
    """Return a text after steps 1 to 4; its white space is as it was."""
    if form.clean and not (text.isascii() and text.isprintable()):
        text = cleaned(text)
    kept = _fold(text, form.case, form.language)
    if form.apostrophes == "straight" and not (kept.isascii() and "`" not in kept):
        kept = straightened(kept, clean=form.clean)
    return kept


def cleaned(text: str) -> str:
    """Return a text without what cannot be seen, with each letter in one form."""
    # Most texts hold nothing of the table, and this shows it much faster than the table itself.
    is_clean = text.isprintable() and unicodedata.is_normalized("NFKC", text) and not _PLAIN_BUT_CLEANED.search(text)
    kept = text if is_clean else text.translate(cleaning())
    if "\u200c" in kept or "\u200d" in kept:
        kept = _JOINERS.sub(_joiner, kept)
    return unicodedata.normalize("NFC", kept)


_JOINERS = re.compile("[\u200c\u200d]+")


def _joiner(found: re.Match[str]) -> str:
    """Return the first of some joiners, or nothing where none belongs."""
    text, start, end = found.string, found.start(), found.end()
    return text[start] if _joins(text[start - 1 : start]) and _joins(text[end : end + 1]) else ""


def _joins(character: str) -> bool:
    """Return whether a character is a letter or mark of a script in which joiners belong to the spelling."""
    if not ("\u0590" <= character < "\u1e00" or "\U00010a00" <= character < "\U00012000"):
        return False
    return unicodedata.category(character)[0] in "LM"


# The compatibility forms that are only another way to write a letter, by Unicode's tag.
_FORMS = {"<wide>", "<narrow>", "<small>", "<vertical>", "<font>", "<initial>", "<medial>", "<final>", "<isolated>"}
_LIGATURES = "ĳĲŀĿŉſǄǅǆǇǈǉǊǋǌǱǲǳ" + "".join(map(chr, (*range(0xFB00, 0xFB07), *range(0xFB13, 0xFB18))))
_HYPHENS = "\u2010\u2011"
# What step 2 changes although it can be printed and is its own compatibility form.
_PLAIN_BUT_CLEANED = re.compile("[\u2010\u034f\u0640\u115f\u1160\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_VISIBLE_FORMAT = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u180e\u200c\u200d")
_INVISIBLE = "\u034f\u0640\u115f\u1160\u3164\uffa0"  # the grapheme joiner, the tatweel, fillers of Hangul
_FORM_BLOCKS = (range(0x80, 0x10000), range(0x1D400, 0x1D800), range(0x1EE00, 0x1EF00), range(0xE0000, 0xE0200))


@cache
def cleaning() -> Mapping[int, str]:
    """Return what becomes of each character that step 2 changes; joiners are left to `_joiner`."""
    table = {}
    for code in (*range(0x80), *(code for block in _FORM_BLOCKS for code in block)):
        character = chr(code)
        category = unicodedata.category(character)
        form = unicodedata.decomposition(character).partition(" ")[0]
        if category in ("Cc", "Cf"):
            if character not in _VISIBLE_FORMAT and not character.isspace():
                table[code] = ""
        elif "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef" or character in _INVISIBLE:
            table[code] = ""
        elif (form in _FORMS or character in _LIGATURES) and not character.isspace():
            # Forms of Arabic marks alone stand on a space or a tatweel.
            table[code] = unicodedata.normalize("NFKC", character).lstrip(" ").replace("\u0640", "")
    return table | dict.fromkeys(map(ord, _HYPHENS), "-")


def straightened(text: str, *, clean: bool) -> str:
    """Return a text with one sign for all apostrophes."""
    kept = text.replace(CURLY_APOSTROPHE, "'")
    if clean:
        kept = _ACCENTS_FOR_APOSTROPHES.sub("'", _OTHER_APOSTROPHES.sub("'", kept))
    return kept


def _fold(text: str, case: str, language: str) -> str:
    """Return a text in one case, composed."""
    if language:
        text = unicodedata.normalize("NFC", text).translate(_DOTTED_I.get(case, {}))  # composed, so that İ is one sign
    elif case == "lower" and ("İ" in text or "\u0307" in text):  # or its dot would become a loose one, and a token
        text = unicodedata.normalize("NFC", text).replace("İ", "i")
    if case == "lower":
        text = text.lower()
    elif case == "upper":
        text = text.upper()
    return unicodedata.normalize("NFC", text)


def reduced(kept: str, form: Form, settings: TextSettings) -> str:
    """Return a text after the last step, with single spaces."""
    if settings.space or settings.remove:
        text = outside_unsaid(kept, settings, partial(_without_signs, form=form, settings=settings))
        # An accent may have found its letter now, or a joiner lost it.
        if not text.isascii() and (again := written(text, form)) != text:
            return reduced(again, form, settings)
        kept = text
    if kept.isprintable() and "  " not in kept:  # so all its white space is single spaces
        return kept.strip()
    return " ".join(kept.split())


def outside_unsaid(text: str, settings: TextSettings, change: Callable[[str], str]) -> str:
    """Return a text with all of it changed but, with `settings.numbers`, the numbers that it leaves in digits."""
    if settings.numbers and any(map(str.isdecimal, text)):
        return outside_numbers(text, settings.numbers, change)
    return change(text)


def _without_signs(text: str, form: Form, settings: TextSettings) -> str:
    return _replace(_replace(text, settings.space, form, " "), settings.remove, form, "")


def _replace(text: str, characters: str, form: Form, by: str) -> str:
    """Return a text with each of some characters, or of the class `punctuation`, replaced."""
    kept = text.translate(signs_of(characters, form, by)) if characters else text
    return _QUOTING.sub(by, kept) if characters == PUNCTUATION else kept


@lru_cache(maxsize=8)
def signs_of(characters: str, form: Form, by: str) -> Mapping[int, str]:
    """Return the table for `str.translate` of `settings.space` or `settings.remove`, in which each becomes `by`.

    It has no white space, which is collapsed instead. The class `punctuation` has no apostrophe.
    """
    if characters == PUNCTUATION:
        return _punctuation(by)
    signs = characters + written(characters, form) if form.clean else written(characters, form)
    return {ord(character): by for character in signs if not character.isspace()}


@cache
def _punctuation(by: str) -> Mapping[int, str]:
    """Return the table of all punctuation and symbols but the straight apostrophe."""
    signs = (code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] in "PS")
    return dict.fromkeys((code for code in signs if chr(code) != "'"), by)


def is_utterance_id(name: str) -> bool:
    """Return whether a trn file, with a line `text (id)` per utterance, can hold the id."""
    return bool(name) and name == " ".join(name.split()) and "(" not in name and ")" not in name
