"""A model folder that listens to a stream; how streams become text is in `asr/decoding/streaming.py`.

A model that streams (one direction, global normalisation) carries its state from a segment's first sample on. It
computes nothing while nobody speaks, and nothing twice, unless a segment is cut for its length. Each segment begins
with a new state, as each utterance did in training. A state that is carried on over pauses costs many words. Any other
model hears the open segment again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from asr.audio.segment import EndRule, Segment, Segmenter
from asr.decoding import streaming
from asr.decoding.streaming import AGAIN_S, PIECE_S, HeardAgain, Hearing, Listener, Listening, Partial
from asr.errors import ModelError
from asr.features.batch import collate
from asr.inference.decoder import Decoder, Search
from asr.model.computation import thread_counts, threads
from asr.transcript.words import Word

Floats = NDArray[np.float32]


def stream_results(
    decoder: Decoder, blocks: Iterable[Floats], sample_rate_hz: int, search: Search, rule: EndRule
) -> Iterator[Partial]:
    """Yield a partial result whenever it has changed, and a final one at the end of each utterance.

    Args:
        blocks: mono `(sample,)`, the next samples each.
        decoder, sample_rate_hz, search, rule: as for `listen`.
    """
    return streaming.stream_results(listen(decoder, sample_rate_hz, search, rule), blocks)


def listen(decoder: Decoder, sample_rate_hz: int, search: Search, rule: EndRule, again_s: float = AGAIN_S) -> Listening:
    """Begin a stream, whose blocks are given one by one.

    Args:
        decoder: turns audio into log-posteriors and those into words.
        sample_rate_hz: of the blocks.
        search: finds the final words. Partial results are greedy.
        rule: where an utterance ends.
        again_s: a model that hears the open utterance again does so after this much new audio.
    """
    rate_hz = decoder.sample_rate_hz

    def words(log_posteriors: Floats, segment: Segment) -> list[Word]:
        lengths = torch.tensor([len(log_posteriors)])
        heard = torch.from_numpy(log_posteriors)[None]
        (decoded,) = decoder.understand(heard, lengths, [segment.waveform], search)
        return decoder.words(decoded, segment.start / rate_hz)

    listener = Listener(rate_hz, hearing_of(decoder, again_s), decoder.bundle.tokens, words)
    return Listening(listener, sample_rate_hz, Segmenter(rate_hz, rule))


def hearing_of(decoder: Decoder, again_s: float = AGAIN_S) -> Hearing:
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
    if decoder.model.streams:
        return CarriedState(decoder)

    def log_posteriors(waveform: Floats) -> Floats:
        found, _ = decoder.log_posteriors(collate([torch.from_numpy(waveform)], [[]], [""]))
        return found[0].cpu().numpy()

    return HeardAgain(log_posteriors, decoder.sample_rate_hz, again_s)


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
        self._decoder, self._model = decoder, decoder.model
        self._piece = max(1, round(PIECE_S / self._model.frame_shift_s)) * self._model.frame_samples
        self._begin()

    def _begin(self) -> None:
        self._state = self._model.start()
        self._heard = 0  # samples
        self._log_posteriors = np.zeros((0, self._model.output.out_features), np.float32)

    def more_of(self, waveform: Floats) -> Floats | None:
        """See `Hearing`; of whole pieces only, and without the frames that depend on what follows."""
        before = len(self._log_posteriors)
        while len(waveform) - self._heard >= self._piece:
            self._hear(waveform[self._heard : self._heard + self._piece])
        return self._log_posteriors if len(self._log_posteriors) > before else None

    def all_of(self, waveform: Floats) -> Floats:
        """See `Hearing`; they are those of the segment as a file, to 1e-5."""
        if self._heard > len(waveform):  # it was cut for its length, before what has been heard
            self._begin()
        self.more_of(waveform)
        self._hear(waveform[self._heard :], last=True)
        result = self._log_posteriors
        self._begin()
        return result

    def _hear(self, samples: Floats, *, last: bool = False) -> None:
        piece = torch.from_numpy(samples).to(self._decoder.device)
        with threads(thread_counts()[0]):  # a piece is too short to share
            new, self._state = self._model.step(piece, self._state, last=last)
        self._heard += len(samples)
        self._decoder.require_numbers(new)
        self._log_posteriors = np.concatenate([self._log_posteriors, new.detach().cpu().numpy()])
