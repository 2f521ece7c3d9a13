"""What the quickstart corpus says: spelled letters, codes, telephone numbers, dates and household commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TENS = ("twenty", "thirty", "forty", "fifty")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
ROUND_ORDINALS = ("tenth", "twentieth", "thirtieth")
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
NAMES = ("anna", "david", "maria", "peter")
PLACES = ("home", "work")
DEVICES = ("light", "lamp", "heating", "fan", "radio")
ROOMS = ("kitchen", "bedroom", "garage", "office")
UNITS = ("minutes", "hours")
CARRIERS = (
    *("spell", "code", "dial", "call", "at", "remind", "me", "on", "the", "of", "turn", "off", "in", "up"),
    *("down", "volume", "set", "timer", "alarm", "for", "ten", "play", "stop", "music"),
)

VOCABULARY = frozenset(
    word
    for words in (
        *(LETTERS, DIGITS, TENS, ORDINALS, ROUND_ORDINALS, MONTHS),
        *(NAMES, PLACES, DEVICES, ROOMS, UNITS, CARRIERS),
    )
    for word in words
)


def draw_sentence(rng: np.random.Generator) -> tuple[str, ...]:
    """Return the words of one sentence, all of them in `VOCABULARY`."""
    total = sum(weight for weight, _ in _SENTENCES)
    point = rng.random() * total
    for weight, make in _SENTENCES:
        point -= weight
        if point < 0:
            return tuple(make(rng))
    return tuple(_SENTENCES[-1][1](rng))


def _spelling(rng: np.random.Generator) -> list[str]:
    return ["spell", *_several(rng, LETTERS, 3, 6)]


def _code(rng: np.random.Generator) -> list[str]:
    return ["code", *_several(rng, LETTERS, 1, 3), *_several(rng, DIGITS, 2, 4)]


def _dialling(rng: np.random.Generator) -> list[str]:
    return ["dial", *_several(rng, DIGITS, 4, 7)]


def _calling(rng: np.random.Generator) -> list[str]:
    return ["call", _one(rng, NAMES), "at", _one(rng, PLACES)]


def _reminder(rng: np.random.Generator) -> list[str]:
    return ["remind", "me", "on", *_date(rng)]


def _switching(rng: np.random.Generator) -> list[str]:
    return ["turn", _one(rng, ("on", "off")), "the", _one(rng, DEVICES), "in", "the", _one(rng, ROOMS)]


def _volume(rng: np.random.Generator) -> list[str]:
    return ["turn", "the", "volume", _one(rng, ("up", "down"))]


def _timer(rng: np.random.Generator) -> list[str]:
    return ["set", "the", _one(rng, ("timer", "alarm")), "for", *_number(rng), _one(rng, UNITS)]


def _music(rng: np.random.Generator) -> list[str]:
    return [_one(rng, ("play", "stop")), "the", _one(rng, ("music", "radio")), "in", "the", _one(rng, ROOMS)]


def _date(rng: np.random.Generator) -> list[str]:
    """A day of a year; the teens are left out, which keeps the vocabulary small."""
    month = _one(rng, MONTHS)
    days = [[ordinal] for ordinal in ORDINALS + ROUND_ORDINALS]
    days += [["twenty", ordinal] for ordinal in ORDINALS]
    days += [["thirty", "first"]]
    day = days[int(rng.integers(len(days)))]
    return [month, *day] if rng.random() < 0.5 else ["the", *day, "of", month]


def _number(rng: np.random.Generator) -> list[str]:
    """A number of minutes or hours from two to fifty nine, without the teens."""
    kind = rng.random()
    if kind < 0.4:
        return [_one(rng, DIGITS[2:])]
    if kind < 0.7:
        return [_one(rng, ("ten", *TENS))]
    return [_one(rng, TENS), _one(rng, DIGITS[1:])]


def _one(rng: np.random.Generator, words: Sequence[str]) -> str:
    return words[int(rng.integers(len(words)))]


def _several(rng: np.random.Generator, words: Sequence[str], least: int, most: int) -> list[str]:
    return [_one(rng, words) for _ in range(int(rng.integers(least, most + 1)))]


# Shares of the corpus. Letters and digits get the most: their words are the shortest and the most alike.
_SENTENCES: tuple[tuple[float, Callable[[np.random.Generator], list[str]]], ...] = (
    (0.14, _spelling),
    (0.12, _code),
    (0.16, _dialling),
    (0.08, _calling),
    (0.20, _reminder),
    (0.14, _switching),
    (0.02, _volume),
    (0.10, _timer),
    (0.04, _music),
)
