"""Texts and settings → what the rule of `asr/text/normalise.py` does to them, for people to see before they train."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asr.text.normalise import (
    Form,
    cleaned,
    cleaning,
    form_of,
    normalise,
    outside_unsaid,
    signs_of,
    straightened,
    table_of,
    written,
)
from asr.text.numbers import say_numbers
from asr.text.units import letters_write_spaces

if TYPE_CHECKING:
    from asr.config import TextSettings

_LISTED = 12  # entries of each kind in a line


@dataclass(frozen=True)
class TextReport:
    """What normalising does to some texts. All mappings give how often something occurs, the most frequent first.

    Attributes:
        texts: how many there are.
        uncomposed: how many of them were not in composed Unicode (NFC).
        deleted: characters that `text.clean` deletes.
        rewritten: characters that `text.clean` and `text.apostrophes` replace, with what they become.
        replaced: the keys of `text.replace` that were found, as they are in normalised texts.
        unused: the keys that were not.
        said: numbers that `text.numbers` puts into words, with the words.
        spaced: characters that `text.space` turns into spaces.
        removed: characters that `text.remove` deletes.
        digits: words of the normalised texts that hold a digit.
        unit: in what errors are counted first: "word", or in scripts without spaces "character".
    """

    texts: int
    uncomposed: int
    deleted: Mapping[str, int]
    rewritten: Mapping[tuple[str, str], int]
    replaced: Mapping[str, int]
    unused: tuple[str, ...]
    said: Mapping[tuple[str, str], int]
    spaced: Mapping[str, int]
    removed: Mapping[str, int]
    digits: Mapping[str, int]
    unit: str

    def lines(self) -> Iterator[str]:
        """Yield what there is to say, a line for each kind of change."""
        if self.uncomposed:
            yield f"composed (NFC): {self.uncomposed} of {self.texts} texts"
        pairs = {f"{character_name(old)} → {new}": count for (old, new), count in self.rewritten.items()}
        said = {f"{number} → {words}": count for (number, words), count in self.said.items()}
        kinds: tuple[tuple[str, Mapping[str, int]], ...] = (
            ("deleted, since they show nothing", _named(self.deleted)),
            ("written in one form", pairs),
            ("replaced (text.replace)", self.replaced),
            ("in words (text.numbers)", said),
            ("become spaces (text.space)", _named(self.spaced)),
            ("deleted (text.remove)", _named(self.removed)),
            ("still in digits, which text.numbers or text.replace can change", self.digits),
        )
        yield from (f"{what}: {_counted(counts)}" for what, counts in kinds if counts)
        if self.unused:
            yield f"in text.replace, but in no text: {', '.join(self.unused[:_LISTED])}{_more(len(self.unused))}"

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as JSON values; pairs are joined by an arrow."""
        content: dict[str, Any] = {"texts": self.texts, "uncomposed": self.uncomposed}
        for name in ("deleted", "rewritten", "replaced", "said", "spaced", "removed", "digits"):
            counts: Mapping[Any, int] = getattr(self, name)
            content[name] = {" → ".join(key) if isinstance(key, tuple) else key: n for key, n in counts.items()}
        return content | {"unused": list(self.unused), "unit": self.unit}


def text_report(texts: Iterable[str], settings: TextSettings) -> TextReport:
    """Return what normalising does to some texts, each as people wrote it.

    Raises:
        ConfigError, DependencyError: as `normalise`.
    """
    tally = _Tally(settings)
    for text in texts:
        tally.add(text)
    return tally.report()


class _Tally:
    """What is known after some texts."""

    def __init__(self, settings: TextSettings) -> None:
        self._settings, self._form, self._table = settings, form_of(settings), table_of(settings)
        self._texts = self._uncomposed = 0
        self._deleted, self._replaced = Counter[str](), Counter[str]()
        self._rewritten, self._said = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        self._spaced, self._removed, self._digits = Counter[str](), Counter[str](), Counter[str]()
        self._letters = Counter[str]()

    def add(self, text: str) -> None:
        self._texts += 1
        settings = self._settings
        if not (text.isascii() and text.isprintable() and "`" not in text):  # else there is nothing of that to count
            self._uncomposed += not unicodedata.is_normalized("NFC", text)
            for old, new in _rewritings(text, self._form):
                if new:
                    self._rewritten[old, new] += 1
                else:
                    self._deleted[old] += 1
        kept = self._table.apply(" ".join(written(text, self._form).split()), self._replaced)
        if settings.numbers:
            kept = say_numbers(kept, settings.numbers, self._said)
        if settings.space or settings.remove:
            outside_unsaid(kept, settings, self._count_signs)
        normalised = normalise(text, settings)
        self._letters.update(normalised)
        self._digits.update(word for word in normalised.split() if any(map(str.isdigit, word)))

    def _count_signs(self, text: str) -> str:
        """Count the characters that become spaces or are deleted; return the text as it is."""
        settings = self._settings
        spaces, removals = (signs_of(signs, self._form, "") for signs in (settings.space, settings.remove))
        for character in text:
            if ord(character) in spaces:
                self._spaced[character] += 1
            elif ord(character) in removals:
                self._removed[character] += 1
        return text

    def report(self) -> TextReport:
        return TextReport(
            texts=self._texts,
            uncomposed=self._uncomposed,
            deleted=_ordered(self._deleted),
            rewritten=_ordered(self._rewritten),
            replaced=_ordered(self._replaced),
            unused=tuple(sorted(self._table.values.keys() - self._replaced.keys())),
            said=_ordered(self._said),
            spaced=_ordered(self._spaced),
            removed=_ordered(self._removed),
            digits=_ordered(self._digits),
            unit="word" if letters_write_spaces(self._letters) else "character",
        )


def _rewritings(text: str, form: Form) -> Iterator[tuple[str, str]]:
    """Yield each character that is deleted or written in another form, with what becomes of it."""
    kept = text
    if form.clean:
        table = cleaning()
        yield from ((character, table[ord(character)]) for character in text if ord(character) in table)
        kept = cleaned(text)
        for joiner in "\u200c\u200d":
            yield from [(joiner, "")] * (text.count(joiner) - kept.count(joiner))
    if form.apostrophes == "straight":
        straight = straightened(kept, clean=form.clean)
        yield from ((old, new) for old, new in zip(kept, straight, strict=True) if old != new)


def _ordered(counts: Counter[Any]) -> dict[Any, int]:
    """Return counts with the most frequent first, and among equals in the order of the characters."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def character_name(character: str) -> str:
    """Return a character as a person can recognise it: with its number if it shows nothing by itself."""
    if character == " ":
        return "space"
    if unicodedata.category(character)[0] in "MCZ":  # marks, control and format characters, separators
        shown = f"◌{character} " if unicodedata.category(character)[0] == "M" else ""
        return f"{shown}U+{ord(character):04X}"
    return character


def _named(counts: Mapping[str, int]) -> dict[str, int]:
    return {character_name(character): count for character, count in counts.items()}


def _counted(counts: Mapping[str, int]) -> str:
    listed = [f"{what} ({count})" for what, count in list(counts.items())[:_LISTED]]
    return ", ".join(listed) + _more(len(counts))


def _more(number: int) -> str:
    return f", and {number - _LISTED} more" if number > _LISTED else ""
