"""Transcripts → what is wrong with them: letters of another script, invisible characters, lengths that fit no audio."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from asr.config import TextSettings
from asr.corpus.findings import Fault
from asr.text.normalise import normalise

# Scripts with letters that look the same. Other mixtures, such as Latin names in Chinese, are how people write.
_ALIKE = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"})
# Letters that look the same in Latin, Cyrillic and Greek; each may be a word by itself.
_TWINS = frozenset("aceiopsxyABCEHIKMOPTXYаеосхурісАВЕКМНОРСТХУІοικνυΑΒΕΖΗΙΚΜΝΟΡΤΥΧ")
# Forms of letters that have a plain one. Not "compat", which some letters of Thai and Lao are.
_STYLED = ("<font>", "<wide>", "<narrow>", "<initial>", "<medial>", "<final>", "<isolated>")
_ANNOTATION = re.compile(r"\[[^\[\]]+\]|<[^<>]+>|\{[^{}]+\}|\([^()]+\)")
_ARABIC_SIGNS = (
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2"  # of numbers, verses and the like: they are seen
)
_JOINERS = "\u200c\u200d"
# UTF-8 that was read as Windows-1252: é becomes Ã©, ’ becomes â€™.
_MISREAD = re.compile("[ÂÃ][\u0080-¿]|â€[™œ\u009d˜“”¦]|[ÐÑ][\u0080-¿ŒœŽžŠšŸƒ‚„…†‡ˆ‰‹]")

_FITTED_FROM = 50  # utterances; fewer tell nothing about what is usual
_FITTED_MOST = 20_000
_UNUSUAL, _LEAST_FACTOR = 4.5, 2.0

Floats = NDArray[np.float64]


def examine_text(text: str, transcript: str, settings: TextSettings) -> Iterator[Fault]:
    """Yield what is wrong with a transcript.

    Args:
        text: as the manifest has it.
        transcript: the same, normalised. What normalising puts right is no fault.
        settings: of normalising.
    """
    yield from _annotations(text, settings)
    digits = [character for character in transcript if character.isdecimal()]
    if digits:
        yield Fault("digits", f"{len(digits)} digits, as in {_word_with(transcript, digits[0])!r}", len(digits))
    if text.isascii():
        return
    if unicodedata.normalize("NFC", text) != text:
        yield Fault("mixed-unicode", "some of its characters are written as a letter and a mark")
    misread = _MISREAD.findall(text)
    if "\ufffd" in text or misread:
        sign = "U+FFFD, which stands for a lost character" if "\ufffd" in text else repr(misread[0])
        yield Fault("broken-encoding", f"it was read in another encoding than it was written in: {sign}")
    yield from _invisible(text, transcript)
    for word in transcript.split():
        yield from _look_alikes(word)
    yield from _lone_look_alikes(transcript)


def _annotations(text: str, settings: TextSettings) -> Iterator[Fault]:
    remarks = [found for found in _ANNOTATION.findall(text) if normalise(found, settings)]
    if remarks:
        yield Fault("annotation", f"{remarks[0]!r:.60} is in brackets and becomes part of what is learnt", len(remarks))


def _word_with(transcript: str, character: str) -> str:
    return next(word for word in transcript.split() if character in word)


def _invisible(text: str, transcript: str) -> Iterator[Fault]:
    """Yield characters that show nothing: zero-width ones, soft hyphens, marks of direction.

    Joiners between letters of Arabic and Indic scripts change how these look, and belong there.
    """
    found = [
        character
        for place, character in enumerate(text)
        if unicodedata.category(character) == "Cf"
        and not (character in _JOINERS and place and "\u0600" <= text[place - 1] <= "\u18af")
        and character not in _ARABIC_SIGNS
    ]
    if found:
        names = ", ".join(f"U+{ord(one):04X} {unicodedata.name(one, '')}".strip() for one in dict.fromkeys(found))
        fate = "stays in what is learnt" if set(found) & set(transcript) else "is deleted when it is normalised"
        yield Fault("invisible-character", f"it holds {names}, which {fate}", len(found))


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    """Return the script of a letter, by the first word of its name; "" if it is no letter."""
    return unicodedata.name(character, "").partition(" ")[0] if character.isalpha() else ""


def _look_alikes(word: str) -> Iterator[Fault]:
    if word.isascii():
        return
    scripts = Counter(script for script in map(_script, word) if script in _ALIKE)
    if len(scripts) > 1:
        common = scripts.most_common(1)[0][0]
        strangers = [one for one in dict.fromkeys(word) if _script(one) in _ALIKE and _script(one) != common]
        yield Fault("look-alike", f"{word!r} mixes scripts: {', '.join(map(_named, strangers))}", len(strangers))
    styled = [
        one for one in dict.fromkeys(word) if one.isalpha() and unicodedata.decomposition(one).startswith(_STYLED)
    ]
    if styled:
        yield Fault("look-alike", f"{word!r} holds styled letters: {', '.join(map(_named, styled))}", len(styled))


def _lone_look_alikes(transcript: str) -> Iterator[Fault]:
    """Yield words of one letter that look like letters of the script that the rest is written in."""
    scripts = Counter(script for script in map(_script, transcript) if script in _ALIKE)
    if len(scripts) > 1:
        common = scripts.most_common(1)[0][0]
        lone = [word for word in dict.fromkeys(transcript.split()) if word in _TWINS and _script(word) != common]
        if lone:
            yield Fault(
                "look-alike", f"alone among {common.lower()} letters: {', '.join(map(_named, lone))}", len(lone)
            )


def _named(character: str) -> str:
    return f"{character} is {unicodedata.name(character, f'U+{ord(character):04X}')}"


def letters_and_words(transcript: str) -> tuple[int, int]:
    """Return how many letters and how many words a normalised transcript has."""
    words = transcript.split()
    return sum(map(len, words)), len(words)


def length_faults(letters: Sequence[int], words: Sequence[int], sounds_s: Sequence[float]) -> dict[int, Fault]:
    """Return which transcripts are far too long or too short for their audio, by place.

    What is usual is fitted to the corpus itself: so many seconds of sound, and so many more for each letter and each
    word. Spelled words have few letters for their length, and this knows it. The fit minimises relative errors and
    gives outliers little weight (iteratively reweighted least squares).

    Args:
        letters: of each utterance; one without any is not judged.
        words: of each utterance.
        sounds_s: for how long each utterance holds sound, see `asr.corpus.audio_faults.Heard`.
    """
    judged = np.flatnonzero((np.asarray(letters) > 0) & (np.asarray(sounds_s) > 0))
    if len(judged) < _FITTED_FROM:
        return {}
    lengths = np.stack([np.ones(len(letters)), np.asarray(letters), np.asarray(words)], axis=1)[judged]
    seconds = np.asarray(sounds_s, np.float64)[judged]
    step = -(-len(judged) // _FITTED_MOST)
    expected_s = np.maximum(lengths @ _usual(lengths[::step], seconds[::step]), 0.1)
    ratios = np.log(seconds / expected_s)
    spread = 1.4826 * float(np.median(np.abs(ratios - np.median(ratios))))
    limit = max(_UNUSUAL * spread, float(np.log(_LEAST_FACTOR)))
    found = {}
    for row in np.flatnonzero(np.abs(ratios) > limit).tolist():
        kind = "transcript-too-short" if ratios[row] > 0 else "transcript-too-long"
        reason = f"{int(lengths[row, 1])} letters in {seconds[row]:.1f} s of sound; usual here: {expected_s[row]:.1f} s"
        found[int(judged[row])] = Fault(kind, reason, float(np.exp(ratios[row])))
    return found


def _usual(lengths: Floats, seconds: Floats) -> Floats:
    """Return how many seconds an utterance takes, and how many more each letter and each word adds.

    Source: iteratively reweighted least squares with Cauchy's weights, e.g. Holland & Welsch, "Robust regression using
    iteratively reweighted least-squares", 1977.
    """
    weights: Floats = 1 / seconds
    coefficients: Floats = np.zeros(lengths.shape[1])
    for _ in range(20):
        solved = np.linalg.lstsq(lengths * weights[:, None], seconds * weights, rcond=None)
        coefficients = np.asarray(solved[0], np.float64)
        expected = np.maximum(lengths @ coefficients, 0.1)
        ratios = np.log(seconds / expected)
        spread = 1.4826 * float(np.median(np.abs(ratios))) + 1e-3
        weights = np.asarray(1 / (expected * np.sqrt(1 + np.square(ratios / (2 * spread)))), np.float64)
    return coefficients
