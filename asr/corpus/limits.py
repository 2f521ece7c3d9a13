"""Which utterances can be trained on: one rule for `asr check`, for training's first pass and for its batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from asr.config import Config, TextSettings
from asr.corpus.findings import Fault
from asr.text.tokens import TokenTable, fewest_tokens, min_frames

MIN_UTTERANCE_S = 0.1


@dataclass(frozen=True)
class Limits:
    """What an utterance must keep to, so that it can be trained on."""

    text: TextSettings
    max_s: float
    frame_shift_s: float  # audio time of an output frame
    pace: float = 1.0  # training plays each utterance at least this many times as fast
    min_s: float = MIN_UTTERANCE_S
    pieces: TokenTable | None = None  # if tokens are sub-word pieces: their table, once it is learnt
    finest_shift_s: float | None = None  # the same with model.subsampling=2, if that is not the setting

    def fault(self, duration_s: float, transcript: str) -> str | None:
        """Return the first reason why an utterance cannot be trained on; None if it can. See `faults`."""
        return next((fault.reason for fault in self.faults(duration_s, transcript)), None)

    def faults(self, duration_s: float, transcript: str) -> Iterator[Fault]:
        """Yield why an utterance with this normalised transcript cannot be trained on; nothing if it can.

        The transcript must not be empty. The audio must be neither too long nor too short. It must have as many output
        frames as CTC needs for the transcript's tokens. With fewer, no path spells the transcript: the loss is infinite
        and its gradient not a number. Until the pieces are learnt, a text passes if any pieces could spell it in time.
        """
        if not transcript:
            yield Fault("empty-transcript", "its transcript is empty")
        if duration_s > self.max_s:
            reason = f"too long: {duration_s:g} s, training.max_utterance_s is {self.max_s:g}"
            yield Fault("too-long", reason, duration_s)
        if duration_s < self.min_s:
            yield Fault("too-short", f"too short: {duration_s:g} s, at least {self.min_s:g} s are needed", duration_s)
        frames = int(duration_s / self.pace / self.frame_shift_s)
        needed, is_exact = min_frames(fewest_tokens(transcript, self.text)), self.text.tokens in ("characters", "words")
        # Pieces spell the text with a space before it, at most as many as its characters.
        if self.pieces and needed <= frames < min_frames(f" {transcript}"):
            needed, is_exact = min_frames(self.pieces.encode(transcript)), True
        if frames < needed:
            least = "" if is_exact else "at least "
            fault = f"too short for its transcript: {frames} output frames, CTC needs {least}{needed}"
            finest = int(duration_s / self.pace / self.finest_shift_s) if self.finest_shift_s else 0
            fault += f"; model.subsampling=2 gives {finest}" if finest >= needed else ""
            yield Fault("too-many-tokens", fault, needed)

    def fastest_pace(self, duration_s: float, tokens: Sequence[object]) -> float:
        """Return how many times as fast an utterance may be played, so that its frames are enough for its tokens."""
        return duration_s / (self.frame_shift_s * max(1, min_frames(tokens)))


def training_limits(config: Config) -> Limits:
    """Return what training with these settings asks of an utterance."""
    return Limits(
        text=config.text,
        max_s=config.training.max_utterance_s,
        frame_shift_s=config.model.subsampling * config.features.hop_ms / 1000,
        # Training draws a slower pace where a faster one does not fit. At its slowest every utterance must fit.
        pace=max(1.0, min(config.augment.speeds) * min(config.augment.tempos)),
        finest_shift_s=2 * config.features.hop_ms / 1000 if config.model.subsampling > 2 else None,
    )


def low_rate_note(sample_rates_hz: Iterable[int], model_rate_hz: int) -> str | None:
    """Return what to say if all recordings are below a model's sample rate, so that it is raised; None if not."""
    highest_hz = max(sample_rates_hz, default=0)
    if not 0 < highest_hz < model_rate_hz:
        return None
    return (
        f"no recording is above {highest_hz} Hz, and all are raised to features.sample_rate_hz={model_rate_hz}, which "
        f"adds nothing to hear: train with --set features.sample_rate_hz={highest_hz}"
    )
