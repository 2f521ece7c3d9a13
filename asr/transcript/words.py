"""Tokens with frames → words with times and confidences.

CTC says when a token is *recognised*, not how long it is spoken: its posterior peaks for a frame or two, with blanks
around it. So a word's extent grows from the frames of its tokens to the middle between its neighbours.

Two corrections follow. A token is recognised `LATENESS_S` after it begins. And a bidirectional network knows the whole
utterance, so it may emit its first tokens before the speech has begun. Within `ONSET_S` of the speech's start the clock
is stretched, so that the first token falls on that start.

The constants fit the quickstart's dev set, whose word times are known. `benchmarks/word_times.py` measures the errors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from asr.audio.segment import Extent
from asr.text.tokens import TokenTable
from asr.transcript.confidence import Calibration, Evidence, word_posteriors
from asr.transcript.hypothesis import Hypothesis, TokenSpan

LATENESS_S = 0.07
ONSET_S = 0.7
GROWTH_S = 0.15  # most by which a word grows beyond its tokens; the rest is a pause


@dataclass(frozen=True)
class Decoded:
    """What the search found for one utterance.

    Attributes:
        hypotheses: best first.
        spans: the best one's tokens with their frames.
        speech: where in the utterance there is speech.
    """

    hypotheses: tuple[Hypothesis, ...]
    spans: tuple[TokenSpan, ...]
    speech: Extent

    def words(
        self, tokens: TokenTable, frame_shift_s: float, offset_s: float = 0.0, calibration: Calibration | None = None
    ) -> list[Word]:
        """Return the best hypothesis as words; `offset_s` is where the utterance starts in its recording."""
        words = by_word(self.spans, tokens)
        confidence = (calibration or Calibration()).confidence
        return [
            Word(
                tokens.decode([span.token for span in spans]),
                offset_s + extent.start_s,
                offset_s + extent.end_s,
                confidence(evidence),
            )
            for spans, extent, evidence in zip(
                words, word_extents(words, frame_shift_s, self.speech), self.evidence(tokens), strict=True
            )
        ]

    def evidence(self, tokens: TokenTable) -> list[Evidence]:
        """Return the evidence for each word of the best hypothesis."""
        return evidence_of(self.hypotheses, self.spans, tokens)


def evidence_of(hypotheses: Sequence[Hypothesis], spans: Iterable[TokenSpan], tokens: TokenTable) -> list[Evidence]:
    """Return the evidence for each word of the first hypothesis; `spans` is its alignment."""
    acoustic = [acoustic_value(word) for word in by_word(spans, tokens)]
    if len(hypotheses) == 1:
        return [Evidence(None, value) for value in acoustic]
    texts = [tokens.decode(hypothesis.tokens).split() for hypothesis in hypotheses]
    posteriors = word_posteriors(texts, [hypothesis.score for hypothesis in hypotheses])
    return [Evidence(*pair) for pair in zip(posteriors, acoustic, strict=True)]


def by_word(spans: Iterable[TokenSpan], tokens: TokenTable) -> list[list[TokenSpan]]:
    """Return the spans of each word. A token that is a space alone belongs to no word."""
    words: list[list[TokenSpan]] = [[]]
    for span in spans:
        text = tokens.texts[span.token]
        if text.startswith(" "):
            words.append([])
        if text != " ":
            words[-1].append(span)
    return [word for word in words if word]


def acoustic_value(spans: Sequence[TokenSpan]) -> float:
    """Return the mean natural log of the posteriors of a word's tokens."""
    return sum(math.log(max(span.probability, 1e-30)) for span in spans) / len(spans)


def word_extents(words: Sequence[Sequence[TokenSpan]], frame_shift_s: float, speech: Extent) -> list[Extent]:
    """Return when each word was spoken, in seconds from the utterance's start. Extents do not overlap.

    Args:
        words: the spans of each word's tokens; frame i is centred on `i · frame_shift_s`.
        frame_shift_s: time between frames.
        speech: where there is speech.
    """
    if not words:
        return []

    def spoken_s(frame: float) -> float:
        """Return when the sound was spoken that is recognised at a frame."""
        emitted_s = frame * frame_shift_s
        if first_s - LATENESS_S >= speech.start_s or emitted_s >= onset_end_s:
            return max(emitted_s - LATENESS_S, 0.0)
        share = (emitted_s - first_s) / (onset_end_s - first_s)
        return speech.start_s + share * (onset_end_s - LATENESS_S - speech.start_s)

    first_s = (words[0][0].start - 0.5) * frame_shift_s
    onset_end_s = speech.start_s + ONSET_S
    first_start_s = spoken_s(words[0][0].start - 0.5)
    if first_start_s - GROWTH_S <= speech.start_s:
        first_start_s = min(first_start_s, speech.start_s)
    last = words[-1][-1]
    last_end_s = spoken_s(last.end - 0.5)
    if spoken_s(last.start) < speech.end_s:
        last_end_s = min(speech.end_s, last_end_s + GROWTH_S)
    edges = [(first_start_s, first_start_s)]
    for before, after in pairwise(words):
        end, start = before[-1].end - 1, after[0].start
        middle_s = spoken_s((end + start) / 2)
        edges.append((min(middle_s, spoken_s(end) + GROWTH_S), max(middle_s, spoken_s(start) - GROWTH_S)))
    edges.append((last_end_s, last_end_s))
    return [Extent(start_s, max(start_s, end_s)) for (_, start_s), (end_s, _) in pairwise(edges)]


@dataclass(frozen=True, repr=False)
class Word:
    """One word of a transcript.

    Attributes:
        text: the word, without spaces around it.
        start_s: seconds from the start of the recording to the word's first sound.
        end_s: seconds from the start of the recording to the word's end; not before `start_s`.
        confidence: 0 (a guess) to 1 (certain).
    """

    text: str
    start_s: float
    end_s: float
    confidence: float

    def __repr__(self) -> str:
        """Return word, times and confidence, short."""
        return f"<asr.Word {self.text!r} {self.start_s:.2f}-{self.end_s:.2f} s, confidence {self.confidence:.2f}>"
