"""Tokens with frames → words with times and confidences.

A word is what is between two spaces. Where the script has no spaces, it is one of the units of `asr.text.units`.

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
from dataclasses import asdict, dataclass, field
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from asr.audio.segment import Extent
from asr.text.tokens import SPACE, TokenTable
from asr.text.units import split_units, words_of
from asr.transcript.confidence import Calibration, Evidence, word_posteriors

if TYPE_CHECKING:
    from asr.transcript.posteriors import SparsePosteriors

LATENESS_S = 0.07
ONSET_S = 0.7
GROWTH_S = 0.15  # most by which a word grows beyond its tokens; the rest is a pause


@dataclass(frozen=True)
class Hypothesis:
    """One token sequence that may have been said. Scores are natural logs; frames are the acoustic model's.

    Attributes:
        tokens: token ids, without blanks.
        score: ranks hypotheses: acoustic score + LM score + insertion bonuses.
        acoustic_score: log-probability of the tokens given the audio.
        lm_score: weighted log-probabilities of the scorers, the end of the sentence included; 0 without scorers.
        frames: for each token, the frame at which it is emitted; they never decrease.
    """

    tokens: tuple[int, ...]
    score: float
    acoustic_score: float
    lm_score: float
    frames: tuple[int, ...]


@dataclass(frozen=True)
class TokenSpan:
    """One token's frames, `end` exclusive, and its highest posterior probability among them."""

    token: int
    start: int
    end: int
    probability: float


@dataclass(frozen=True)
class Decoded:
    """What the search found for one utterance.

    Attributes:
        hypotheses: best first.
        spans: the best one's tokens with their frames.
        speech: where in the utterance there is speech.
        posteriors: of the frames; None unless the search was to keep them.
    """

    hypotheses: tuple[Hypothesis, ...]
    spans: tuple[TokenSpan, ...]
    speech: Extent
    posteriors: SparsePosteriors | None = field(default=None, kw_only=True)

    def words(
        self, tokens: TokenTable, frame_shift_s: float, offset_s: float = 0.0, calibration: Calibration | None = None
    ) -> list[Word]:
        """Return the best hypothesis as words; `offset_s` is where the utterance starts in its recording."""
        words = by_word(self.spans, tokens)
        extents = word_extents([word.spans for word in words], frame_shift_s, self.speech)
        confidence = (calibration or Calibration()).confidence
        return [
            Word(
                word.text,
                offset_s + extent.start_s,
                offset_s + extent.end_s,
                confidence(evidence),
                word.space_before,
            )
            for word, extent, evidence in zip(words, extents, self.evidence(tokens), strict=True)
        ]

    def evidence(self, tokens: TokenTable) -> list[Evidence]:
        """Return the evidence for each word of the best hypothesis."""
        return evidence_of(self.hypotheses, self.spans, tokens)


def evidence_of(hypotheses: Sequence[Hypothesis], spans: Iterable[TokenSpan], tokens: TokenTable) -> list[Evidence]:
    """Return the evidence for each word of the first hypothesis; `spans` is its alignment."""
    acoustic = [acoustic_value(word.spans) for word in by_word(spans, tokens)]
    if len(hypotheses) == 1:
        return [Evidence(None, value) for value in acoustic]
    texts = [words_of(tokens.decode(hypothesis.tokens)) for hypothesis in hypotheses]
    posteriors = word_posteriors(texts, [hypothesis.score for hypothesis in hypotheses])
    return [Evidence(*pair) for pair in zip(posteriors, acoustic, strict=True)]


@dataclass(frozen=True)
class TokenPart:
    """The part of a token's span that belongs to one word. Its frames, `end` exclusive, may be fractions."""

    start: float
    end: float
    probability: float


@dataclass(frozen=True)
class SpokenWord:
    """A word's text, the spans of its tokens in order, and whether a space is before it."""

    text: str
    spans: tuple[TokenSpan | TokenPart, ...]
    space_before: bool


def by_word(spans: Iterable[TokenSpan], tokens: TokenTable) -> list[SpokenWord]:
    """Return the words with their spans. A token that is a space alone belongs to no word."""
    words: list[list[TokenSpan]] = [[]]
    for span in spans:
        text = tokens.texts[span.token]
        if text.startswith(SPACE):
            words.append([])
        if text != SPACE:
            words[-1].append(span)
    return [unit for word in words if word for unit in _by_unit(word, tokens)]


def _by_unit(spans: Sequence[TokenSpan], tokens: TokenTable) -> list[SpokenWord]:
    """Return the units of what is between two spaces: usually one, which is the word.

    A token with characters of several units is divided among them; each character takes the same share of its frames.
    """
    text = tokens.decode([span.token for span in spans])
    units = split_units(text)
    if len(units) < 2:
        return [SpokenWord(text, tuple(spans), True)]
    texts = [tokens.texts[span.token].strip() for span in spans]
    characters = [
        _Character(span, place, len(text))
        for span, text in zip(spans, texts, strict=True)
        for place in range(len(text))
    ]
    words, begin = [], 0
    for unit in units:
        inside = characters[begin : begin + len(unit)]
        parts = [_part([*of_span]) for _, of_span in groupby(inside, key=lambda character: character.span.start)]
        words.append(SpokenWord(unit, tuple(parts), begin == 0))
        begin += len(unit)
    return words


class _Character(NamedTuple):
    """A character of a token: the token, the character's place in the token's text, and the length of that text."""

    span: TokenSpan
    place: int
    length: int


def _part(characters: Sequence[_Character]) -> TokenSpan | TokenPart:
    """Return the part of a token with these of its characters."""
    span, first, length = characters[0]
    if len(characters) == length:
        return span
    frames = (span.end - span.start) / length
    return TokenPart(span.start + first * frames, span.start + (first + len(characters)) * frames, span.probability)


def acoustic_value(spans: Sequence[TokenSpan | TokenPart]) -> float:
    """Return the mean natural log of the posteriors of a word's tokens."""
    return sum(math.log(max(span.probability, 1e-30)) for span in spans) / len(spans)


def word_extents(
    words: Sequence[Sequence[TokenSpan | TokenPart]], frame_shift_s: float, speech: Extent
) -> list[Extent]:
    """Return when each word was spoken, in seconds from the utterance's start. Extents do not overlap.

    Args:
        words: the spans of each word's tokens; frame i is centred on `i · frame_shift_s`.
        frame_shift_s: time between frames.
        speech: where there is speech.
    """
    if not words:
        return []
    first, last = words[0][0], words[-1][-1]
    clock = _Clock(frame_shift_s, (first.start - 0.5) * frame_shift_s, speech.start_s)
    first_start_s = clock.spoken_s(first.start - 0.5)
    if first_start_s - GROWTH_S <= speech.start_s:
        first_start_s = min(first_start_s, speech.start_s)
    last_end_s = clock.spoken_s(last.end - 0.5)
    if clock.spoken_s(last.start) < speech.end_s:
        last_end_s = min(speech.end_s, last_end_s + GROWTH_S)
    starts_s, ends_s = [first_start_s], list[float]()
    for before, after in pairwise(words):
        end, start = before[-1].end - 1, after[0].start
        middle_s = clock.spoken_s((end + start) / 2)
        ends_s.append(min(middle_s, clock.spoken_s(end) + GROWTH_S))
        starts_s.append(max(middle_s, clock.spoken_s(start) - GROWTH_S))
    ends_s.append(last_end_s)
    return [Extent(start_s, max(start_s, end_s)) for start_s, end_s in zip(starts_s, ends_s, strict=True)]


@dataclass(frozen=True)
class _Clock:
    """The two corrections of the time at which a token is recognised: lateness, and a first token before the speech."""

    frame_shift_s: float
    first_emitted_s: float  # when the first token of the utterance is recognised
    speech_start_s: float

    def spoken_s(self, frame: float) -> float:
        """Return when the sound was spoken that is recognised at a frame."""
        emitted_s, onset_end_s = frame * self.frame_shift_s, self.speech_start_s + ONSET_S
        if self.first_emitted_s - LATENESS_S >= self.speech_start_s or emitted_s >= onset_end_s:
            return max(emitted_s - LATENESS_S, 0.0)
        share = (emitted_s - self.first_emitted_s) / (onset_end_s - self.first_emitted_s)
        return self.speech_start_s + share * (onset_end_s - LATENESS_S - self.speech_start_s)


@dataclass(frozen=True, repr=False)
class Word:
    """One word of a transcript.

    Attributes:
        text: the word, without spaces around it. Where a script has no spaces it is one of the parts that
            `asr.text.units` finds, such as one Chinese character.
        start_s: seconds from the start of the recording to the word's first sound.
        end_s: seconds from the start of the recording to the word's end; not before `start_s`.
        confidence: 0 (a guess) to 1 (certain).
        space_before: whether the text has a space between the word before and this one.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float
    space_before: bool = True

    def to_json(self) -> dict[str, Any]:
        """Return the attributes by name; `space_before` only where it is false."""
        content = asdict(self)
        if self.space_before:
            del content["space_before"]
        return content

    def __repr__(self) -> str:
        """Return word, times and confidence, short."""
        return f"<asr.Word {self.text!r} {self.start_s:.2f}-{self.end_s:.2f} s, confidence {self.confidence:.2f}>"
