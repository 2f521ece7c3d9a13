"""Audio that is still arriving → what has been said so far, and the final words of each utterance at its end. No torch.

An utterance ends by the rule that cuts files (`asr.audio.segment.Segmenter`, with `STREAM_RULE`). What has been heard
of the present utterance is the open segment. A partial result is the best path through its log-posteriors. When the
segment has ended, its words are final: they come from the search that files go through, over the whole segment, with
the language model if there is one.

How a segment is heard depends on the model. Any model hears the open segment again from its start after each `AGAIN_S`
of new audio, and once more when the segment has ended (`HeardAgain`). A model that carries its state on computes
nothing twice; see `asr/inference/stream.py`. Chunks of fixed length would be worse for any model: they mix pauses and
speakers, and are normalised as no utterance was in training.

Results do not depend on how the audio was cut into blocks, to the last digit, because all that is computed goes by
pieces of fixed length: from the start of the stream for resampling and the speech detector, from the start of the
segment for a carried state. Memory is bounded, because a segment has a greatest length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from asr.audio.blocks import Heard, equal_blocks
from asr.audio.resample import Resampler, StreamResampler
from asr.audio.segment import Segment, Segmenter
from asr.decoding.greedy import greedy_search
from asr.reading import counted
from asr.text.tokens import TokenTable
from asr.transcript.subtitles import joined
from asr.transcript.transcript import shortened
from asr.transcript.words import Word

PIECE_S = 0.1
AGAIN_S = 0.5

Floats = NDArray[np.float32]


@dataclass(frozen=True, repr=False)
class Partial:
    """What has been understood of an utterance so far, or finally.

    Attributes:
        text: its words so far, which may still change; all of them once it is final.
        words: with times from the start of the stream and confidences; none before it is final.
        is_final: whether the utterance has ended. The next result is about another one.
    """

    text: str
    words: tuple[Word, ...]
    is_final: bool

    def __repr__(self) -> str:
        """Return the beginning of the text, and whether it is final."""
        state = f"final, {counted(len(self.words), 'word')}" if self.is_final else "may change"
        return f"<asr.Partial {shortened(self.text)!r}: {state}>"


class Hearing(Protocol):
    """Turns a segment that is still growing into log-posteriors `(frame, token)`, natural log."""

    def more_of(self, waveform: Floats) -> Floats | None:
        """Return the log-posteriors of the open segment so far; None if they would be those of the last call.

        Args:
            waveform: `(sample,)`, the segment from its first sample on; never shorter than in the last call.
        """

    def all_of(self, waveform: Floats) -> Floats:
        """Return the log-posteriors of a segment that has ended. The next call is about the next segment.

        Args:
            waveform: `(sample,)`, the whole segment; shorter than the open one was if it was cut for its length.
        """


class HeardAgain:
    """Hears the open segment again from its start whenever there is enough new audio. For any model."""

    def __init__(self, log_posteriors: Callable[[Floats], Floats], rate_hz: int, again_s: float = AGAIN_S) -> None:
        """Begin a segment.

        Args:
            log_posteriors: returns those of a waveform `(sample,)`.
            rate_hz: that the model works at.
            again_s: how much new audio is enough.
        """
        self._log_posteriors, self._rate_hz, self._again_s = log_posteriors, rate_hz, again_s
        self._heard = 0  # samples of the segment, at the last time

    def more_of(self, waveform: Floats) -> Floats | None:
        """See `Hearing`."""
        if len(waveform) - self._heard < self._again_s * self._rate_hz:
            return None
        self._heard = len(waveform)
        return self._log_posteriors(waveform)

    def all_of(self, waveform: Floats) -> Floats:
        """See `Hearing`; they are those of the segment as a file."""
        self._heard = 0
        return self._log_posteriors(waveform)


class Listener(NamedTuple):
    """A model that listens to a stream."""

    rate_hz: int  # that the model works at
    hearing: Hearing
    tokens: TokenTable
    words: Callable[
        [Floats, Segment], list[Word]
    ]  # log-posteriors of an ended segment → its words, times in the stream


class Listening:
    """Audio that is given block by block → the final words of each utterance that has ended, and what is said by now.

    `stream_results` asks after each piece of `PIECE_S` what is said by now. Who serves many streams may ask less often:
    final results do not depend on it.
    """

    def __init__(
        self, listener: Listener, sample_rate_hz: int, segmenter: Segmenter, resampler: Resampler | None = None
    ) -> None:
        """Begin a stream.

        Args:
            listener: turns audio into text.
            sample_rate_hz: of the blocks.
            segmenter: finds the utterances at the model's rate, nothing heard yet.
            resampler: from the blocks' rate to the model's, nothing heard yet; by default soxr's.
        """
        self._listener, self._segmenter = listener, segmenter
        self._resample = resampler or StreamResampler(sample_rate_hz, listener.rate_hz)
        self.piece_samples = max(1, round(PIECE_S * sample_rate_hz))
        self._waiting = np.zeros(0, np.float32)  # less than a piece
        self._shown = ""

    def hear(self, block: Floats, *, last: bool = False) -> list[Partial]:
        """Return the final results of the utterances that have ended by now and had not before.

        Args:
            block: mono `(sample,)`, the next samples; there may be none.
            last: whether the stream ends with them.
        """
        waiting = np.concatenate([self._waiting, block])
        whole = len(waiting) // self.piece_samples * self.piece_samples
        pieces = list(waiting[:whole].reshape(-1, self.piece_samples))
        self._waiting = waiting[whole:]
        if last:
            pieces += [self._waiting] if len(self._waiting) else []
        ended = [segment for piece in pieces for segment in self._segments(self._resample(piece))]
        if last:
            ended += self._segments(self._resample(np.zeros(0, np.float32), last=True))
            ended += self._segmenter.hear(np.zeros(0, np.float32), last=True)
        return [final for segment in ended for final in self._final(segment)]

    def so_far(self) -> Partial | None:
        """Return what is said by now in the utterance that has not ended; None if nothing new is known of it."""
        text = self._text(self._segmenter.open)
        if text == self._shown:
            return None
        self._shown = text
        return Partial(text, (), False)

    def _segments(self, samples: Floats) -> list[Segment]:
        return self._segmenter.hear(samples) if len(samples) else []

    def _final(self, segment: Segment) -> list[Partial]:
        words = self._listener.words(self._listener.hearing.all_of(segment.waveform), segment)
        wanted = bool(words or self._shown)
        self._shown = ""
        return [Partial(joined(words), tuple(words), True)] if wanted else []

    def _text(self, open: Segment | None) -> str:
        if open is None:
            return ""
        log_posteriors = self._listener.hearing.more_of(open.waveform)
        if log_posteriors is None:
            return self._shown
        (best,) = greedy_search(log_posteriors[None], np.array([len(log_posteriors)]))
        return self._listener.tokens.decode(best.tokens)


def stream_results(listening: Listening, blocks: Iterable[Floats]) -> Iterator[Partial]:
    """Yield a partial result whenever it has changed, and a final one at the end of each utterance.

    Args:
        listening: a stream that begins.
        blocks: mono `(sample,)`, the next samples each.
    """
    recording = Heard(blocks)
    for piece in equal_blocks(recording, listening.piece_samples):
        yield from listening.hear(piece)
        if partial := listening.so_far():
            yield partial
    yield from listening.hear(np.zeros(0, np.float32), last=True)
    recording.warn_if_quiet("the stream")
