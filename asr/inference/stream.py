"""Audio that is still arriving → what has been said so far, and the final words of each utterance at its end.

An utterance ends by the rule that cuts files (`asr.audio.segment.Segmenter`, with `STREAM_RULE`). What has been heard
of the present utterance is the open segment. A partial result is the best path through its log-posteriors. When the
segment has ended, its words are final: they come from the search that files go through, over the whole segment, with
the language model if there is one.

How a segment is heard depends on the model:

* A model that streams (one direction, global normalisation) carries its state from the segment's first sample on. It
  computes nothing while nobody speaks, and nothing twice, unless a segment is cut for its length. Each segment begins
  with a new state, as each utterance did in training. A state that is carried on over pauses costs many words.
* Any other model needs the whole segment. It hears the open segment again from its start after each `AGAIN_S` of new
  audio, and once more when the segment has ended. Chunks of fixed length would be worse: they mix pauses and speakers,
  and are normalised as no utterance was in training.

Results do not depend on how the audio was cut into blocks, to the last digit, because all that is computed goes by
pieces of fixed length: from the start of the stream for resampling and the speech detector, from the start of the
segment for a carried state. Memory is bounded, because a segment has a greatest length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.audio.blocks import Heard, equal_blocks, resampled
from asr.audio.segment import EndRule, Segment, Segmenter
from asr.decoding.greedy import greedy_search
from asr.errors import ModelError
from asr.features.batch import collate
from asr.inference.decoder import Decoder, Search, on_cpu
from asr.model.computation import thread_counts, threads
from asr.reading import counted
from asr.transcript.subtitles import joined
from asr.transcript.transcript import shortened
from asr.transcript.words import Word

PIECE_S = 0.1
AGAIN_S = 0.5


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


def stream_results(
    decoder: Decoder,
    blocks: Iterable[NDArray[np.float32]],
    sample_rate_hz: int,
    search: Search,
    rule: EndRule,
) -> Iterator[Partial]:
    """Yield a partial result whenever it has changed, and a final one at the end of each utterance.

    Args:
        decoder: turns audio into log-posteriors and those into words.
        blocks: mono `(sample,)`, the next samples each.
        sample_rate_hz: of the blocks.
        search: finds the final words. Partial results are greedy.
        rule: where an utterance ends.
    """
    rate_hz = decoder.sample_rate_hz
    segmenter = Segmenter(rate_hz, rule)
    hearing = hearing_of(decoder)
    recording = Heard(blocks)
    pieces = equal_blocks(recording, round(PIECE_S * sample_rate_hz))
    shown = ""
    for piece in chain(resampled(pieces, sample_rate_hz, rate_hz), [None]):
        last = piece is None
        for segment in segmenter.hear(np.zeros(0, np.float32) if piece is None else piece, last=last):
            final = _final(decoder, hearing, segment, search)
            if final.text or shown:
                yield final
            shown = ""
        text = _text(decoder, hearing, segmenter.open, shown)
        if text != shown:
            shown = text
            yield Partial(text, (), False)
    recording.warn_if_quiet("the stream")


def _final(decoder: Decoder, hearing: Hearing, segment: Segment, search: Search) -> Partial:
    log_posteriors = hearing.all_of(segment.waveform)
    lengths = torch.tensor([len(log_posteriors)], device=log_posteriors.device)
    (decoded,) = decoder.understand(log_posteriors[None], lengths, [segment.waveform], search)
    words = decoder.words(decoded, segment.start / decoder.sample_rate_hz)
    return Partial(joined(words), tuple(words), True)


def _text(decoder: Decoder, hearing: Hearing, open: Segment | None, before: str) -> str:
    """Return what has been said in the open segment; `before` if nothing new is known of it."""
    if open is None:
        return ""
    log_posteriors = hearing.more_of(open.waveform)
    if log_posteriors is None:
        return before
    (best,) = greedy_search(*on_cpu(log_posteriors[None], torch.tensor([len(log_posteriors)])))
    return decoder.bundle.tokens.decode(best.tokens)


class Hearing(Protocol):
    """Turns a segment that is still growing into log-posteriors `(frame, token)`, float32, natural log."""

    def more_of(self, waveform: NDArray[np.float32]) -> Tensor | None:
        """Return the log-posteriors of the open segment so far; None if they would be those of the last call.

        Args:
            waveform: `(sample,)`, the segment from its first sample on; never shorter than in the last call.
        """

    def all_of(self, waveform: NDArray[np.float32]) -> Tensor:
        """Return the log-posteriors of a segment that has ended. The next call is about the next segment.

        Args:
            waveform: `(sample,)`, the whole segment; shorter than the open one was if it was cut for its length.
        """


def hearing_of(decoder: Decoder) -> Hearing:
    """Return what hears segments with this model.

    Raises:
        ModelError: the model normalises by all that the speaker says, which is not known while he speaks.
    """
    if decoder.model.cmvn.mode == "speaker" and decoder.speaker is None:
        raise ModelError(
            f"{decoder.bundle.folder or 'the model'}: features.cmvn=speaker needs all that the speaker says, so it "
            "hears a stream only of a speaker whom `asr adapt` has made known; transcribe a file, or train with "
            "features.cmvn=utterance or global"
        )
    return CarriedState(decoder) if decoder.model.streams else HeardAgain(decoder)


class HeardAgain:
    """Hears the open segment again from its start after each `AGAIN_S` of new audio. For any model."""

    def __init__(self, decoder: Decoder) -> None:
        """Begin a segment."""
        self._decoder = decoder
        self._heard = 0  # samples of the segment, at the last time

    def more_of(self, waveform: NDArray[np.float32]) -> Tensor | None:
        """See `Hearing`."""
        if len(waveform) - self._heard < AGAIN_S * self._decoder.sample_rate_hz:
            return None
        self._heard = len(waveform)
        return self._log_posteriors(waveform)

    def all_of(self, waveform: NDArray[np.float32]) -> Tensor:
        """See `Hearing`; they are those of the segment as a file."""
        self._heard = 0
        return self._log_posteriors(waveform)

    def _log_posteriors(self, waveform: NDArray[np.float32]) -> Tensor:
        log_posteriors, _ = self._decoder.log_posteriors(collate([torch.from_numpy(waveform)], [[]], [""]))
        return log_posteriors[0]


class CarriedState:
    """Hears the open segment piece by piece, with a model that carries its state on.

    The pieces are counted from the segment's start. So the log-posteriors are the same numbers whenever `more_of` is
    called, and wherever the segment is in the stream.
    """

    def __init__(self, decoder: Decoder) -> None:
        """Begin a segment.

        Raises:
            ModelError: the model needs whole utterances.
        """
        self._model, self._sound = decoder.model, decoder.sound
        self._device = decoder.device
        self._piece = max(1, round(PIECE_S / self._model.frame_shift_s)) * self._model.frame_samples
        self._begin()

    def _begin(self) -> None:
        self._state = self._model.start()
        self._heard = 0  # samples
        self._log_posteriors = self._model.output.weight.new_zeros(0, self._model.output.out_features)

    def more_of(self, waveform: NDArray[np.float32]) -> Tensor | None:
        """See `Hearing`; of whole pieces only, and without the frames that depend on what follows."""
        before = len(self._log_posteriors)
        while len(waveform) - self._heard >= self._piece:
            self._hear(waveform[self._heard : self._heard + self._piece])
        return self._log_posteriors if len(self._log_posteriors) > before else None

    def all_of(self, waveform: NDArray[np.float32]) -> Tensor:
        """See `Hearing`; they are those of the segment as a file, to 1e-5."""
        if self._heard > len(waveform):  # it was cut for its length, before what has been heard
            self._begin()
        self.more_of(waveform)
        self._hear(waveform[self._heard :], last=True)
        result = self._log_posteriors
        self._begin()
        return result

    def _hear(self, samples: NDArray[np.float32], *, last: bool = False) -> None:
        piece = torch.from_numpy(samples).to(self._device)
        with threads(thread_counts()[0]):  # a piece is too short to share
            new, self._state = self._model.step(piece, self._state, last=last)
        self._heard += len(samples)
        self._log_posteriors = torch.cat([self._log_posteriors, self._sound(new)])
