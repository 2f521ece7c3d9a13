"""A recording and its text → how strict to be, measured by faults that are planted into the text.

How well a right word fits its sound depends on the model and on the recording. In noise, or to a poor model, wrong
words fit as well as right ones do elsewhere. So words of the text are replaced, dropped and added by chance, and the
text is aligned as before. What is accepted although there is a planted fault in it shows how many faults escape.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr.inference.heard import HeardRecording
from asr.inference.long_alignment import LongAlignment, align_words
from asr.segmenting.utterances import CutUtterance, Edges, Strictness, cut_utterances
from asr.text.tokens import TokenTable
from asr.text.written import WrittenWord

Floats: TypeAlias = NDArray[np.float64]

_FAULTY_SHARE = 0.1  # of the words
# Of a short text, several copies get faults. With half of them, chance alone made one recording in six far too strict.
_ENOUGH_FAULTS, _MOST_TIMES = 600, 16
_SCALES = tuple(Strictness(scale) for scale in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
# Of what is accepted, by the estimate. It is too high by half and more, as words that are right but not found count as
# wrong. Chosen on AN4's dev set, so that nothing changes there (97 % of the clean utterances are found, 1 % of what is
# accepted is wrong), and in noise of 15 dB less is wrong than 4 %.
_MOST_WRONG = 0.05


def suitable_strictness(
    heard: HeardRecording, edges: Edges, words: Sequence[WrittenWord], table: TokenTable
) -> Strictness:
    """Return the least strictness with which probably hardly any of what is accepted is wrong.

    It is the same each time, because the faults are drawn with seed 0. If too much is wrong at any strictness, that
    with the least.

    Args:
        heard: what the model hears in the recording.
        edges: of the words that were found in it.
        words: of the text, in order.
        table: the model's tokens.
    """
    accepted = np.array([_words(cut_utterances(edges, strictness)) for strictness in _SCALES], np.float64)
    right, wrong = np.zeros(len(_SCALES)), np.zeros(len(_SCALES))
    drawn = random.Random(0)
    vocabulary = sorted({word.spelled for word in words})
    times = min(_MOST_TIMES, math.ceil(_ENOUGH_FAULTS / (_FAULTY_SHARE * max(len(words), 1))))
    for _ in range(times):
        origins, planted = _plant(words, vocabulary, drawn)
        alignment = align_words(heard, planted, table)
        planted_edges = Edges(heard, alignment)
        for place, strictness in enumerate(_SCALES):
            for utterance in cut_utterances(planted_edges, strictness):
                counts = wrong if _has_fault(utterance, alignment, origins) else right
                counts[place] += _words([utterance]) / times
    shares = _wrong_shares(accepted, right, wrong, len(words))
    good = np.flatnonzero(shares <= _MOST_WRONG)
    return _SCALES[good[-1] if len(good) else int(shares.argmin())]


def _wrong_shares(accepted: Floats, right: Floats, wrong: Floats, words: int) -> Floats:
    """Return which share of the accepted words is wrong, at each strictness.

    The share of the planted faults that escapes is known. Of the text's own words, at most as many are beside a fault
    as are not accepted at the least strictness, or a tenth, where all are accepted; of these the same share escapes.
    """
    beside_fault = np.maximum(accepted - right, wrong)  # of the words that were accepted before the faults came
    escaped = np.divide(wrong, beside_fault, out=np.zeros_like(wrong), where=beside_fault > 0)
    doubtful = max(words - accepted[-1], _FAULTY_SHARE * words)
    shares: Floats = np.divide(escaped * doubtful, accepted, out=np.ones_like(wrong), where=accepted > 0)
    return shares


def _words(utterances: Sequence[CutUtterance]) -> int:
    return sum(one.last_word + 1 - one.first_word for one in utterances)


def _plant(
    words: Sequence[WrittenWord], vocabulary: Sequence[str], drawn: random.Random
) -> tuple[list[int | None], list[WrittenWord]]:
    """Return words with faults, and of each its number in the text; None for one that was not there.

    The place of a word is its number among them, so each can be found again.
    """
    origins: list[int | None] = []
    planted: list[WrittenWord] = []

    def add(word: WrittenWord, origin: int | None) -> None:
        number = len(planted)
        planted.append(replace(word, start=number, end=number + 1))
        origins.append(origin)

    for number, word in enumerate(words):
        fault = drawn.choice(["replaced", "dropped", "added"]) if drawn.random() < _FAULTY_SHARE else ""
        other = drawn.choice(vocabulary)
        if fault == "replaced" and other != word.spelled:
            add(replace(word, spelled=other), None)
        elif fault != "dropped":
            add(word, number)
        if fault == "added":
            add(replace(word, spelled=other), None)
    return origins, planted


def _has_fault(utterance: CutUtterance, alignment: LongAlignment, origins: Sequence[int | None]) -> bool:
    """Return whether an utterance's words do not follow each other in the text without faults."""
    first, last = alignment.words[utterance.first_word], alignment.words[utterance.last_word]
    inside = list(origins[first.start : last.end])
    begin = inside[0]
    return begin is None or inside != list(range(begin, begin + len(inside)))
