"""The text of a JSGF grammar → expressions, which say what may be said.

    #JSGF V1.0;
    grammar house;
    public <command> = [please] turn (on | off) the <device> | /0.2/ stop {STOP};
    <device> = light | radio | heating;

What may be said are the public rules. Of the alternatives of a group, the one with the greatest weight counts 1, and
the others their share of it; without weights all count alike. Tags in braces are for programs, so they are left out.
An import is refused, because a grammar is one file.

Source: Sun Microsystems 1998, "JSpeech Grammar Format", https://www.w3.org/TR/jsgf.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, TypeAlias

from asr.errors import LanguageModelError
from asr.reading import shown

_HEADER = re.compile(r"#JSGF[ \t]+V1\.0(?:[ \t]+[^\s;]+){0,2}[ \t]*;")
_SIGN = re.compile(
    r"""(?P<skip>\s+|//[^\n]*|/\*.*?\*/)
    |(?P<tag>\{(?:[^{}\\]|\\.)*\})
    |(?P<weight>/\s*(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\s*/)
    |<(?P<rule>[^<>\s;=|*+()\[\]{}/"\\]+(?:\.\*)?)>
    |"(?P<quoted>(?:[^"\\\n]|\\.)*)"
    |(?P<mark>[;=|*+()\[\]])
    |(?P<word>(?:[^\s;=|*+<>()\[\]{}/"\\]|\\[^\s])+)""",
    re.VERBOSE | re.DOTALL,
)
_MOST_DEPTH = 64  # of brackets
_MOST_DIGITS = 40
_CLOSING = {"(": ")", "[": "]"}


@dataclass(frozen=True)
class Words:
    """Words that are said one after the other; `line` is where they are written, for messages."""

    text: str
    line: int


@dataclass(frozen=True)
class Sequence:
    """All items, one after the other; without any, nothing is said."""

    items: tuple[Expression, ...]


@dataclass(frozen=True)
class Choice:
    """One of the items, each with a natural-log weight of at most 0; without any, nothing can be said."""

    items: tuple[tuple[Expression, float], ...]


@dataclass(frozen=True)
class Repeated:
    """The item any number of times, none included."""

    item: Expression


@dataclass(frozen=True)
class Reference:
    """What the rule of this name says."""

    rule: str
    line: int


Expression: TypeAlias = "Words | Sequence | Choice | Repeated | Reference"
NOTHING = Sequence(())


def choice(items: Iterable[Expression]) -> Choice:
    """Return one of the items, all alike."""
    return Choice(tuple((item, 0.0) for item in items))


class _Sign(NamedTuple):
    kind: str  # a group of the pattern, or `end`
    text: str
    line: int


def parse_jsgf(text: str, name: str) -> tuple[Expression, dict[str, Expression]]:
    """Return what the public rules say, and what each rule says.

    Args:
        text: a file's.
        name: of the file, for messages.

    Raises:
        LanguageModelError: it is not JSGF, a rule is missing or written twice, or none is public. The message names
            the line.
    """
    return _Parser(text, name).grammar()


class _Parser:
    def __init__(self, text: str, name: str) -> None:
        self._name = name
        header = _HEADER.match(text)
        if header is None:
            self._refuse(1, "a grammar begins with the line `#JSGF V1.0;`")
        self._signs = self._split(text, header.end())
        self._here = next(self._signs)

    def grammar(self) -> tuple[Expression, dict[str, Expression]]:
        self._declaration()
        rules: dict[str, Expression] = {}
        public, references = [], list[Reference]()
        self._references = references
        while self._here.kind != "end":
            name, is_public, line = self._head()
            if name in rules:
                self._refuse(line, f"the rule <{name}> is written twice")
            rules[name] = self._alternatives(0)
            self._mark(";", f"the rule <{name}> ends in `;`")
            if is_public:
                public.append(Reference(name, line))
        for reference in references:
            if reference.rule not in rules:
                self._refuse(reference.line, f"there is no rule <{reference.rule}>; write it in this file")
        if not public:
            self._refuse(1, "no rule is public, so nothing can be said; write `public` before a rule")
        return choice(public), rules

    def _declaration(self) -> None:
        line = self._here.line
        if self._word() != "grammar":
            self._refuse(line, "after the header comes the name: `grammar NAME;`")
        if not self._word():
            self._refuse(line, "the grammar has no name: `grammar NAME;`")
        self._mark(";", "the name of the grammar ends in `;`")

    def _head(self) -> tuple[str, bool, int]:
        """Read `public <name> =`; return the name, whether it is public, and the line."""
        line, is_public = self._here.line, False
        if self._here.kind == "word":
            word = self._word()
            if word == "import":
                self._refuse(line, "imports are not read; copy the rules of the other grammar into this file")
            if word != "public":
                self._refuse(line, f"a rule begins with `<name> =` or `public <name> =`, not {shown(word)}")
            is_public = True
        if self._here.kind != "rule":
            self._refuse(self._here.line, f"a rule begins with its name in <>, not {self._shown()}")
        name = self._next().text
        if name in ("NULL", "VOID"):
            self._refuse(line, f"<{name}> has its meaning already; choose another name")
        self._mark("=", f"after <{name}> comes `=`")
        return name, is_public, line

    def _alternatives(self, depth: int) -> Expression:
        line = self._here.line
        items, weights = [], []
        while True:
            weight = self._weight()
            weights.append(weight)
            items.append(self._sequence(depth))
            if not self._is("|"):
                break
            self._next()
        given = [weight for weight in weights if weight is not None]
        if not given:
            return items[0] if len(items) == 1 else choice(items)
        if len(given) < len(items):
            self._refuse(line, "of several alternatives either all have a weight, or none")
        if max(given) == 0:
            self._refuse(line, "all weights of these alternatives are 0, so none can be said")
        pairs = zip(items, given, strict=True)
        return Choice(tuple((item, math.log(weight) - math.log(max(given))) for item, weight in pairs if weight > 0))

    def _weight(self) -> float | None:
        if self._here.kind != "weight":
            return None
        sign = self._next()
        number = sign.text.strip("/").strip()
        if len(number) > _MOST_DIGITS or not math.isfinite(float(number)):
            self._refuse(sign.line, f"the weight {shown(number)} is too long or too large")
        return float(number)

    def _sequence(self, depth: int) -> Expression:
        items: list[Expression] = []
        plain = False  # whether the last item is words without a sign behind them
        while (item := self._item(depth)) is not None:
            repeated = self._repeated(item)
            if plain and isinstance(repeated, Words) and isinstance(items[-1], Words):
                items[-1] = Words(f"{items[-1].text} {repeated.text}", items[-1].line)
            else:
                items.append(repeated)
            plain = isinstance(repeated, Words)
        if not items:
            self._refuse(self._here.line, f"something to say is missing before {self._shown()}; <NULL> says nothing")
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _item(self, depth: int) -> Expression | None:
        sign = self._here
        if sign.kind in ("word", "quoted"):
            return Words(self._next().text, sign.line)
        if sign.kind == "rule":
            return self._reference(self._next())
        if sign.kind != "mark" or sign.text not in _CLOSING:
            return None
        if depth == _MOST_DEPTH:
            self._refuse(sign.line, f"brackets are nested deeper than {_MOST_DEPTH} levels")
        self._next()
        inside = self._alternatives(depth + 1)
        self._mark(_CLOSING[sign.text], f"the `{sign.text}` of line {sign.line} is not closed")
        return choice([inside, NOTHING]) if sign.text == "[" else inside

    def _reference(self, sign: _Sign) -> Expression:
        if sign.text == "NULL":
            return NOTHING
        if sign.text == "VOID":
            return Choice(())
        if "." in sign.text:
            way_out = f"write <{sign.text.rpartition('.')[2]}>, and its rule into this file"
            self._refuse(sign.line, f"<{sign.text}> is a rule of another grammar, which is not read; {way_out}")
        reference = Reference(sign.text, sign.line)
        self._references.append(reference)
        return reference

    def _repeated(self, item: Expression) -> Expression:
        """Read the signs behind an item: `*`, `+` and tags."""
        signs = ""
        while self._here.kind == "tag" or self._is("*") or self._is("+"):
            sign = self._next()
            signs += sign.text if sign.kind == "mark" else ""
        if "*" in signs:
            return Repeated(item)
        return Sequence((item, Repeated(item))) if signs else item

    def _word(self) -> str:
        return self._next().text if self._here.kind == "word" else ""

    def _is(self, mark: str) -> bool:
        return self._here.kind == "mark" and self._here.text == mark

    def _mark(self, mark: str, sentence: str) -> None:
        if not self._is(mark):
            self._refuse(self._here.line, f"{sentence}, but there is {self._shown()}")
        self._next()

    def _next(self) -> _Sign:
        sign = self._here
        self._here = next(self._signs)
        return sign

    def _shown(self) -> str:
        return "the end of the file" if self._here.kind == "end" else shown(self._here.text)

    def _split(self, text: str, start: int) -> Iterator[_Sign]:
        """Yield the signs of a text from a place on, and then its end."""
        line = 1 + text.count("\n", 0, start)
        while start < len(text):
            found = _SIGN.match(text, start)
            if found is None:
                self._refuse(line, _unreadable(text, start))
            kind = found.lastgroup or "skip"
            if kind != "skip":
                content = found[kind]
                yield _Sign(kind, re.sub(r"\\(.)", r"\1", content) if kind in ("word", "quoted") else content, line)
            line += text.count("\n", start, found.end())
            start = found.end()
        while True:
            yield _Sign("end", "", line)

    def _refuse(self, line: int, reason: str) -> NoReturn:
        raise LanguageModelError(f"{self._name}:{line}: {reason}")


def _unreadable(text: str, start: int) -> str:
    sign = text[start]
    if text.startswith("/*", start):
        return "this comment has no end: `*/` is missing"
    if sign == '"':
        return "this quotation has no end on its line"
    if sign == "{":
        return "this tag has no end: `}` is missing, or it holds a brace without `\\` before it"
    if sign == "/":
        return "a weight is a number between two `/`, at least 0, such as /2/"
    if sign == "<":
        return "the name of a rule ends in `>`, and holds no space"
    return f"{shown(sign)} has no meaning here; write `\\` before it if it is said"
