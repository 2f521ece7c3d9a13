"""A first pass over the training manifest: its tokens, its size, and the utterances that cannot be trained on.

Only metadata are read, a line at a time, and what is kept does not grow with the number of lines; where sub-word pieces
are to be learnt, it grows with the number of different words.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from asr.config import Config, TextSettings
from asr.data.check import Limits, frames_and_need, training_limits
from asr.data.manifest import entries, entry_of
from asr.data.pieces import train_pieces
from asr.data.text import normalise
from asr.data.tokens import TokenTable, fewest_tokens, min_frames
from asr.errors import TrainingError

if TYPE_CHECKING:
    from lhotse.cut import Cut

MOST_NAMED = 1000


@dataclass(frozen=True)
class Rule:
    """Which utterances can be trained on."""

    text: TextSettings
    limits: Limits
    pieces: TokenTable | None = None  # once they are known, if tokens are sub-word pieces

    def fault(self, duration_s: float, transcript: str) -> str | None:
        """Return why an utterance with this normalised transcript cannot be trained on; None if it can.

        Its transcript must not be empty, its length must be within `limits.min_s` and `limits.max_s`, and it must have
        as many output frames as CTC needs for its transcript (tokens plus one blank between equal neighbours): the loss
        would be infinite and its gradient not a number. Before the pieces are known, what some pieces might spell in
        time is let through.
        """
        if not transcript:
            return "its transcript is empty"
        if duration_s > self.limits.max_s:
            return f"{duration_s:.1f} s is over training.max_utterance_s"
        if duration_s < self.limits.min_s:
            return f"{duration_s:.3f} s is under {self.limits.min_s:g} s"
        frames, needed = frames_and_need(
            duration_s / self.limits.pace, fewest_tokens(transcript, self.text), self.limits.frame_shift_s
        )
        # Pieces spell the text with a space before it, at most as many as its characters.
        if self.pieces and needed <= frames < min_frames(f" {transcript}"):
            needed = min_frames(self.pieces.encode(transcript))
        if frames < needed:
            return f"{frames} output frames are too few for its transcript, which needs {needed}"
        return None


@dataclass(frozen=True)
class Survey:
    """What a training manifest holds once unusable utterances are left out."""

    tokens: TokenTable
    utterances: int
    audio_s: float
    skipped: dict[str, str]  # utterance id → reason, of the first MOST_NAMED
    skipped_utterances: int
    rule: Rule
    checksum: int  # of all lines in their order


def is_usable(survey: Survey, cut: Cut) -> bool:
    """Return whether the survey kept the utterance."""
    entry = entry_of(cut)
    return survey.rule.fault(entry.duration_s, normalise(entry.text, survey.rule.text)) is None


def survey_training_cuts(cuts: Iterable[Cut], config: Config) -> Survey:
    """Read a manifest, without its audio: once, or twice if tokens are sub-word pieces, which are learnt between.

    Raises:
        TrainingError: nothing usable is left.
        ConfigError, TokenError: see `train_pieces`.
    """
    rule = Rule(config.text, training_limits(config))
    if config.text.tokens == "characters":
        characters = _Characters()
        count = _count(cuts, rule, characters.learn)
        tokens = TokenTable.from_texts(characters.seen)
    else:
        words: Counter[str] = Counter()
        _count(cuts, rule, lambda transcript: words.update(transcript.split()))
        tokens = train_pieces(words, config.text)
        rule = replace(rule, pieces=tokens)
        count = _count(cuts, rule, lambda _: None)
    return Survey(
        tokens, count.utterances, count.audio_s, count.skipped, count.skipped_utterances, rule, count.checksum
    )


class _Characters:
    """The characters of many texts. Most texts have no new one, and of ASCII that is soon seen."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._ascii = b""

    def learn(self, text: str) -> None:
        if text.encode(errors="surrogatepass").translate(None, self._ascii):
            known = len(self.seen)
            self.seen.update(text)
            if len(self.seen) > known:
                self._ascii = "".join(filter(str.isascii, self.seen)).encode()


@dataclass
class _Count:
    utterances: int = 0
    audio_s: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    skipped_utterances: int = 0
    checksum: int = 0


def _count(cuts: Iterable[Cut], rule: Rule, learn: Callable[[str], object]) -> _Count:
    """Count what the rule keeps and give each transcript kept to `learn`."""
    count = _Count()
    for utterance_id, duration_s, text in entries(cuts):
        line = f"{utterance_id}\t{duration_s}\t{text}\n".encode(errors="surrogatepass")
        count.checksum = zlib.crc32(line, count.checksum)
        transcript = normalise(text, rule.text)
        fault = rule.fault(duration_s, transcript)
        if fault is None:
            learn(transcript)
            count.utterances += 1
            count.audio_s += duration_s
        else:
            count.skipped_utterances += 1
            if len(count.skipped) < MOST_NAMED:
                count.skipped[utterance_id] = fault
    if not count.utterances:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(count.skipped.items())[:3])
        raise TrainingError(f"no usable training utterance ({reasons or 'the manifest is empty'}); try `asr check`")
    return count
