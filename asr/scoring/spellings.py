"""Spellings that count as the same: rules from a file, and alternatives within a text. No torch.

A rule is a line `spelling => spelling`. It replaces whole words, in references and hypotheses, before they are aligned:

    okay => ok
    can not => cannot
    uh =>
    he's => { he is / he has }

At each word the first rule of the file that fits is taken, and what it wrote is not replaced again; so longer ones come
first. Case does not matter, and what is written takes the case of what it replaces. Nothing on the right removes the
words; alternatives in braces are all right. What follows `;;` is a comment.

NIST's global mapping files (.glm) are read too: `[he's] => [{he is / he has}] / [ ] __ [ ]`, `tea => T / __ [ shirt]`.
The part behind the last slash has the words that must be before and after; only whole words are replaced in any case.
Lines that begin with `*` are the file's heading.

A text with alternatives is read in the way that has the fewest errors. `@` in braces is nothing. In a reference of an
stm file, a word in parentheses may be left out.

Source: NIST, SCTK 2.4, doc/GLMRules.txt and doc/infmts.htm.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from asr.errors import ScoringError
from asr.reading import read_lines, shown
from asr.scoring.error_counts import count_errors

Words: TypeAlias = tuple[str, ...]
Reading: TypeAlias = list[tuple[Words, ...]]
"""A text: at each place the words that may be there; one choice, if there is no doubt."""

_MOST_READINGS = 256  # that are all tried
_CONTEXT = re.compile(r"(?:\[(?P<before>[^\[\]]*)\])?\s*__\s*(?:\[(?P<after>[^\[\]]*)\])?")
_FORM = "a rule is 'spelling => spelling'"


@dataclass(frozen=True)
class Rule:
    """A line of a file of spellings: the words it replaces, what may be in their place, and the words beside them."""

    source: Words
    targets: tuple[Words, ...]
    before: Words = ()
    after: Words = ()

    def __str__(self) -> str:
        """Return the rule as a line."""
        targets = " / ".join(" ".join(target) or "@" for target in self.targets)
        target = f"{{ {targets} }}" if len(self.targets) > 1 else " ".join(self.targets[0])
        beside = " ".join([*self.before, "__", *self.after])
        return f"{' '.join(self.source)} => {target}".rstrip() + (f" / {beside}" if beside != "__" else "")


@dataclass(frozen=True)
class RuleUse:
    """How many words of the references and of the hypotheses a rule replaced."""

    rule: str
    reference: int
    hypothesis: int


def read_rules(path: Path) -> list[Rule]:
    """Return the rules of a file, in its order.

    Raises:
        ScoringError: the file cannot be read, or a line is no rule that is understood; the message names it.
    """
    rules = []
    for number, raw in enumerate(read_lines(path, ScoringError, "the spellings"), 1):
        line = raw.partition(";;")[0].strip()
        if line and not line.startswith("*"):
            rules.append(_rule(line, f"{path}:{number}"))
    if not rules:
        raise ScoringError(f"{path}: no rules; {_FORM}")
    return rules


def _rule(line: str, where: str) -> Rule:
    source, arrow, rest = line.partition("=>")
    if not arrow:
        raise ScoringError(f"{where}: {shown(line)} has no '=>'; {_FORM}")
    target, context = _without_context(rest.strip())
    beside = _CONTEXT.fullmatch(context or "__")
    if beside is None:
        raise ScoringError(
            f"{where}: {shown(context)} are no words beside '__'; write '/ [before ] __ [ after]' or nothing"
        )
    words = tuple(_unquoted(source).split())
    if not words or "{" in source:
        raise ScoringError(f"{where}: {shown(line)} has no words to replace before '=>'; {_FORM}")
    inside = _unquoted(target).removeprefix("[")  # in NIST's own files a closing bracket is missing
    alternatives = [inside]
    if inside.startswith("{") and inside.endswith("}"):
        alternatives = re.split(r"\s/\s", inside[1:-1])
    if any(mark in part for part in alternatives for mark in "{}"):
        raise ScoringError(f"{where}: {shown(target)}: braces may be around the whole right side only")
    targets = tuple(_without_nothing(part.split()) for part in alternatives)
    return Rule(words, targets, tuple((beside["before"] or "").split()), tuple((beside["after"] or "").split()))


def _without_context(text: str) -> tuple[str, str]:
    """Return the right side of a rule and what it says of the neighbours, which comes last, after a slash."""
    head, slash, tail = text.rpartition("/")
    return (head.strip(), tail.strip()) if slash and "__" in tail else (text, "")


def _unquoted(text: str) -> str:
    text = text.strip()
    quoted = len(text) >= 2 and (text[0], text[-1]) in (("[", "]"), ("'", "'"))
    return text[1:-1].strip() if quoted else text


def _without_nothing(words: Sequence[str]) -> Words:
    return tuple(word for word in words if word != "@")


def reading_of(text: str, where: str, *, alternatives: bool, optional: bool = False) -> Reading:
    """Return a text as the words that may be at each place.

    Args:
        text: words with white space between them.
        where: of the text, for a message.
        alternatives: whether `{ a / b }` are alternatives.
        optional: whether a word in parentheses may be left out.

    Raises:
        ScoringError: braces do not match, or alternatives have others within.
    """
    reading: Reading = []
    choices: list[list[str]] | None = None
    for word in text.split():
        if alternatives and word in ("{", "}") and (choices is None) != (word == "{"):
            raise ScoringError(
                f"{where}: {shown(text)}: alternatives are {{ a / b }}, with spaces, and have no others within"
            )
        if alternatives and word == "{":
            choices = [[]]
        elif choices is not None and word == "}":
            reading.append(tuple(_without_nothing(choice) for choice in choices))
            choices = None
        elif choices is not None and word == "/":
            choices.append([])
        elif choices is not None:
            choices[-1].append(word)
        elif optional and re.fullmatch(r"\([^()]+\)", word):
            reading.append(((word[1:-1],), ()))
        else:
            reading.append(((word,),))
    if choices is not None:
        raise ScoringError(f"{where}: {shown(text)}: a '{{' has no '}}'")
    return reading


def plain_reading(text: str) -> Reading:
    """Return the words of a text, in which nothing has a special meaning."""
    return [((word,),) for word in text.split()]


def respell(
    references: Mapping[str, Reading], hypotheses: Mapping[str, Reading], rules: Sequence[Rule]
) -> tuple[dict[str, str], dict[str, str], tuple[RuleUse, ...]]:
    """Return the texts of references and hypotheses after the rules, each pair read with the fewest errors.

    Args:
        references, hypotheses: by utterance id, both with the same ids.
        rules: in the order in which they are tried.

    Returns:
        Both texts by utterance id, and how many words each rule replaced.
    """
    replaced = [[0, 0] for _ in rules]
    starting: dict[str, list[int]] = {}  # the rules by their first word
    for number, rule in enumerate(rules):
        starting.setdefault(rule.source[0].casefold(), []).append(number)

    def applied(reading: Reading, side: int) -> Reading:
        result: Reading = []
        place = 0
        while place < len(reading):
            candidates = starting.get(_plain(reading[place]) or "", ())
            number = next((number for number in candidates if _fits(rules[number], reading, place)), None)
            if number is None:
                result.append(reading[place])
                place += 1
                continue
            words = [choices[0][0] for choices in reading[place : place + len(rules[number].source)]]
            result.append(tuple(_in_case_of(words, target) for target in rules[number].targets))
            replaced[number][side] += len(words)
            place += len(words)
        return result

    texts = {
        name: fewest_errors(applied(reading, 0), applied(hypotheses[name], 1)) for name, reading in references.items()
    }
    uses = tuple(RuleUse(str(rule), *counts) for rule, counts in zip(rules, replaced, strict=True))
    return {name: pair[0] for name, pair in texts.items()}, {name: pair[1] for name, pair in texts.items()}, uses


def _fits(rule: Rule, reading: Reading, place: int) -> bool:
    """Whether a rule fits the words from a place on; within alternatives nothing is replaced."""
    start, wanted = place - len(rule.before), (*rule.before, *rule.source, *rule.after)
    words = [_plain(choices) for choices in reading[max(start, 0) : start + len(wanted)]]
    return words == [word.casefold() for word in wanted]


def _plain(choices: tuple[Words, ...]) -> str | None:
    """Return the word at a place without alternatives, in small letters."""
    return choices[0][0].casefold() if len(choices) == 1 and len(choices[0]) == 1 else None


def _in_case_of(words: Sequence[str], target: Words) -> Words:
    text = " ".join(words)
    if text.islower():
        return tuple(word.lower() for word in target)
    return tuple(word.upper() for word in target) if text.isupper() else target


def fewest_errors(reference: Reading, hypothesis: Reading) -> tuple[str, str]:
    """Return the texts of both, read in the way that has the fewest word errors.

    Up to 256 ways are all tried. Of more, one place after the other takes the choice with the fewest errors. Of several
    with as few, the first is taken.
    """
    places = [*reference, *hypothesis]
    open_places = [place for place, choices in enumerate(places) if len(choices) > 1]
    chosen = [choices[0] for choices in places]
    if not open_places:
        return _texts(chosen, len(reference))
    if math.prod(len(places[place]) for place in open_places) <= _MOST_READINGS:
        groups = [open_places]
    else:
        groups = [[place] for place in open_places]
    for group in groups:
        best = None
        for choice in itertools.product(*(places[place] for place in group)):
            tried = list(chosen)
            for place, words in zip(group, choice, strict=True):
                tried[place] = words
            errors = count_errors(*_texts(tried, len(reference)), unit="word").errors
            if best is None or errors < best[0]:
                best = errors, tried
        if best is not None:
            chosen = best[1]
    return _texts(chosen, len(reference))


def _texts(chosen: Sequence[Words], size: int) -> tuple[str, str]:
    """Return the texts of the words that were chosen: the first `size` places are the reference's."""
    join = itertools.chain.from_iterable
    return " ".join(join(chosen[:size])), " ".join(join(chosen[size:]))
