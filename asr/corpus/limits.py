"""TODO asr/corpus/limits.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asr.config import Config, TextSettings
from asr.text.tokens import TokenTable, fewest_tokens, min_frames

MIN_UTTERANCE_S = 0.1


@dataclass(frozen=True)
class Limits:
    """What an utterance must fulfil."""

    max_s: float
    frame_shift_s: float  # audio time of an output frame
    pace: float = 1.0  # how many times as fast training plays each utterance at least
    min_s: float = MIN_UTTERANCE_S


def training_limits(config: Config) -> Limits:
    """Return what training with these settings asks of an utterance."""
    return Limits(
        max_s=config.training.max_utterance_s,
        frame_shift_s=config.model.subsampling * config.features.hop_ms / 1000,
        # Where a faster one does not fit, a slower one is drawn; but at its own an utterance must fit in any case.
        pace=max(1.0, min(config.augment.speeds) * min(config.augment.tempos)),
    )


def frames_and_need(duration_s: float, tokens: Sequence[object], frame_shift_s: float) -> tuple[int, int]:
    """Return an utterance's output frames and the fewest that CTC needs for its transcript's tokens.

    With fewer than it needs, no path spells the transcript: the loss is infinite and its gradient not a number.
    """
    return int(duration_s / frame_shift_s), min_frames(tokens)


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
