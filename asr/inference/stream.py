"""Audio that is still arriving → what has been said so far, and each utterance's final words at its end.

A partial result is the best path through the log-posteriors up to now. Where an utterance ends, a rule decides: a pause
after something was said, or its length. Then the search that files go through, with the language model if there is
one, goes over the utterance's log-posteriors once more, and its words are final. So the last word has a say in what the
first one was, and memory is bounded, since an utterance has a greatest length.

Neither the results nor the ends depend on how the audio was cut into blocks.

Source of the rule: that of Kaldi's online decoding (online2/online-endpoint.h), reduced to its second and last case.


Samples that are still arriving → in which frames somebody speaks, and the log-posteriors of what was said.

A detector of speech tells where utterances begin and end. How one is heard depends on the model.

A model with one direction and global normalisation carries its state from block to block, from the utterance's first
frame on. Nothing is computed twice, and nothing while nobody speaks. The log-posteriors are those of the recording
from that frame on, to 1e-5, however it was cut into blocks. A state carried on over pauses and utterances would cost
many words: in training, each utterance began with a new state and soon after with speech.

A bidirectional model has to know what follows, and normalising by the utterance needs the utterance. Such a model
hears chunks that overlap: each begins where the utterance began, and reaches to what has arrived by then. When the
utterance has ended, its last chunk is the whole of it, heard as a file would be:

    recording  ──────────── speech ─────────────── pause ── speech ───→
    chunks                 [ ·      ]
                           [ ·             ]
                           [ ·                   · ] final [ ·     ]

Chunks of fixed length with fixed contexts, which need no detector, cost far more words: such a chunk mixes pauses and
speakers, or holds a pause alone, and is normalised as no utterance was in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.audio.resample import StreamResampler
from asr.audio.speech_detector import WINDOW_S, SpeechDetector, is_speech
from asr.decoding.greedy import greedy_search
from asr.inference.decoder import Decoder, Search
from asr.model.acoustic import AcousticModel
from asr.transcript.words import Word

LONGEST_UTTERANCE_S = 20.0
END_SILENCE_S = 0.5
MARGIN_S = 0.25  # of the silence around an utterance, that belongs to it
PIECE_S = 0.5  # of a longer block, so that what is kept does not depend on the blocks


@dataclass(frozen=True)
class Partial:
    """What has been understood of an utterance.

    Attributes:
        text: its words so far, which may still change; all of them once it is final.
        words: with times from the start of the stream and confidences; none before it is final.
        is_final: whether the utterance has ended. The next result is about another one.
    """

    text: str
    words: tuple[Word, ...]
    is_final: bool


def stream_results(
    decoder: Decoder,
    blocks: Iterable[NDArray[np.float32]],
    sample_rate_hz: int,
    listen: Listener,
    search: Search,
    *,
    end_silence_s: float = END_SILENCE_S,
    longest_s: float = LONGEST_UTTERANCE_S,
) -> Iterator[Partial]:
    """Yield a partial result whenever it has changed, and a final one at the end of each utterance.

    Args:
        decoder: searches, and knows what tokens mean.
        blocks: mono `(sample,)`, the next ones each.
        sample_rate_hz: of the blocks.
        listen: turns samples into log-posteriors; nothing was heard by it yet.
        search: of the final results; partial ones are greedy.
        end_silence_s: an utterance ends once so long nothing was said.
        longest_s: or when it gets longer than this, at the longest pause in its second half.
    """
    utterance = _Utterance(decoder, listen, end_silence_s, longest_s)
    resample = StreamResampler(sample_rate_hz, decoder.sample_rate_hz)
    shown = ""
    for block in _pieces(blocks, max(1, int(PIECE_S * sample_rate_hz))):
        last = block is None
        samples = resample(np.zeros(0, np.float32) if block is None else block, last=last)
        utterance.hear(samples, last=last)
        while (frames := utterance.end_point(last=last)) is not None:
            final = utterance.finish(frames, search)
            if final.text or shown:
                yield final
            shown = ""
        if utterance.text != shown:
            shown = utterance.text
            yield Partial(shown, (), False)


def _pieces(blocks: Iterable[NDArray[np.float32]], samples: int) -> Iterator[NDArray[np.float32] | None]:
    """Yield blocks, those that hold more samples piece by piece, and None at the end."""
    for block in blocks:
        yield from (block[start : start + samples] for start in range(0, len(block), samples))
    yield None


class _Utterance:
    """What was heard since the last utterance ended."""

    def __init__(self, decoder: Decoder, listen: Listener, end_silence_s: float, longest_s: float) -> None:
        model = decoder.model
        self._decoder, self._listen = decoder, listen
        self._shift_s = model.frame_shift_s
        self._frame_samples = model.frame_samples
        self._silence, self._longest, margin = (
            max(2, round(seconds / self._shift_s)) for seconds in (end_silence_s, longest_s, MARGIN_S)
        )
        self._margin = min(margin, self._longest // 2 - 1)  # so that the first half of the longest holds something
        self._start = 0  # frames of the recording before this utterance
        self._waveform = np.zeros(0, np.float32)
        self._spoken = torch.zeros(0, dtype=torch.bool)
        self._understood = 0  # frames of the recording, when the text was last looked at
        self.text = ""

    def hear(self, samples: NDArray[np.float32], *, last: bool) -> None:
        """Take in the next samples `(sample,)`."""
        self._waveform = np.concatenate([self._waveform, samples])
        self._spoken = torch.cat([self._spoken, self._listen.hear(samples, last=last)])
        self._skip_silence()
        heard = self._start + len(self._spoken)
        if heard - self._understood >= self._listen.renewal_s / self._shift_s:
            self._understood = heard
            self._understand()

    def end_point(self, *, last: bool) -> int | None:
        """Return the frame before which the utterance ends; None if it goes on, or if nothing was said."""
        if not self._spoken.any():
            return None
        end = end_point(self._spoken, self._silence, self._longest)
        return len(self._spoken) if end is None and last else end

    def finish(self, frames: int, search: Search) -> Partial:
        """End the utterance before a frame; the next one begins there."""
        said = int(self._spoken[:frames].nonzero().max()) + 1
        size = min(said + self._margin, frames)
        log_posteriors = self._listen.log_posteriors(self._waveform, size)
        device = self._decoder.device
        batch, lengths = log_posteriors[None].to(device), torch.tensor([len(log_posteriors)], device=device)
        heard = [self._waveform[: size * self._frame_samples]]
        (decoded,) = self._decoder.understand(batch, lengths, heard, search)
        words = self._decoder.words(decoded, self._start * self._shift_s)
        self._forget(frames)
        self._skip_silence()
        self._understand()
        return Partial(" ".join(word.text for word in words), tuple(words), True)

    def _understand(self) -> None:
        self.text = ""
        if self._spoken.any():
            log_posteriors = self._listen.log_posteriors(self._waveform, len(self._spoken))
            (best,) = greedy_search(log_posteriors[None], torch.tensor([len(log_posteriors)]))
            self.text = self._decoder.bundle.tokens.decode(best.tokens)

    def _skip_silence(self) -> None:
        """Forget what is quiet before the utterance: it belongs to none, and may last for hours."""
        silence = int(self._spoken.int().argmax()) if self._spoken.any() else len(self._spoken)
        self._forget(max(silence - self._margin, 0))

    def _forget(self, frames: int) -> None:
        self._start += frames
        self._waveform = self._waveform[frames * self._frame_samples :]
        self._spoken = self._spoken[frames:]
        self._listen.forget(frames)


def end_point(spoken: Tensor, silence_frames: int, longest_frames: int) -> int | None:
    """Return how many frames of what was heard an utterance takes; None if it goes on.

    Args:
        spoken: `(frame,)`, whether something is said in it; somewhere it is.
        silence_frames: it ends after so many frames in which nothing is said, once something was.
        longest_frames: it takes no more than these; otherwise it ends in the middle of the longest run of frames
            in which nothing is said within the second half of them.
    """
    places: list[int] = [*spoken.nonzero()[:, 0].tolist(), len(spoken)]
    for place, following in pairwise(places):
        end = place + 1 + silence_frames
        if end > longest_frames:
            break
        if following >= end:
            return end
    if len(spoken) < longest_frames:
        return None
    half = longest_frames // 2
    quiet = [half - 1, *(place for place in places if half <= place < longest_frames), longest_frames]
    length, before = max((after - before, -before) for before, after in pairwise(quiet))
    return -before + (length + 1) // 2


class Listener(Protocol):
    """Hears one recording. Output frames are counted from the first one that was not forgotten.

    Attributes:
        renewal_s: how much audio must arrive until it is worth while to look at the log-posteriors again.
    """

    renewal_s: float

    def hear(self, samples: NDArray[np.float32], *, last: bool) -> Tensor:
        """Take in the next samples `(sample,)`, at the model's rate; `last` if the recording ends with them.

        Returns:
            `(frame,)` bool, of the frames of which it can be told by now and could not before: is something said?
        """

    def log_posteriors(self, waveform: NDArray[np.float32], frames: int) -> Tensor:
        """Return those of the first frames, `(frame, token)` float32 on the CPU, natural log.

        Args:
            waveform: `(sample,)`, the recording from the first frame that was not forgotten, as far as it was heard.
            frames: how many; at most those of which `hear` told.
        """

    def forget(self, frames: int) -> None:
        """Forget the first so many frames."""


def listener(model: AcousticModel) -> Listener:
    """Return the beginning of a recording, for the kind of model at hand."""
    return CarriedState(model) if model.streams else OverlappingChunks(model)


class _Detecting:
    """Hears a recording with the detector of speech."""

    def __init__(self, model: AcousticModel, ahead_samples: int) -> None:
        """Begin a recording; a frame is told of once so many samples after its centre have arrived."""
        self._model = model
        self._ahead = ahead_samples
        self._detect = SpeechDetector(model.sample_rate_hz)
        self._in_speech = self._ended = False
        # Of the recording: samples, windows of the detector, and frames told of.
        self._samples = self._windows = self._frames = 0
        self._untold: list[bool] = []

    def hear(self, samples: NDArray[np.float32], *, last: bool) -> Tensor:
        """See `Listener`."""
        self._samples += len(samples)
        self._ended = last
        for probability in self._detect(samples, last=last).tolist():
            self._in_speech = is_speech(probability, self._in_speech)
            self._windows += 1
            while (self._frames + len(self._untold)) * self._model.frame_shift_s < self._windows * WINDOW_S:
                self._untold.append(self._in_speech)
        known = (self._samples - self._ahead) // self._model.frame_samples + 1
        if last:
            self._untold.append(self._in_speech)
            known = int(self._model.frame_count(torch.tensor([self._samples])))
        new = max(known - self._frames, 0)
        told, self._untold = self._untold[:new], self._untold[new:]
        self._frames += len(told)
        return torch.tensor(told, dtype=torch.bool)


class CarriedState(_Detecting):
    """A recording heard by a model that carries its state on from the first frame that was not forgotten."""

    renewal_s = 0.0

    def __init__(self, model: AcousticModel) -> None:
        """Begin a recording; a frame is told of once its log-posteriors can be.

        Raises:
            ModelError: the model needs whole utterances.
        """
        super().__init__(model, round(model.lookahead_s * model.sample_rate_hz))
        self._begin()

    def _begin(self) -> None:
        self._state = self._model.start()
        self._heard = 0  # samples
        self._log_posteriors = self._model.output.weight.new_zeros(0, self._model.output.out_features, device="cpu")

    def log_posteriors(self, waveform: NDArray[np.float32], frames: int) -> Tensor:
        """See `Listener`. They are those of the recording from the first frame on, all that arrived of it."""
        if len(self._log_posteriors) < frames:
            samples = torch.from_numpy(waveform[self._heard :]).to(self._model.cmvn.mean.device)
            new, self._state = self._model.step(samples, self._state, last=self._ended)
            self._heard = len(waveform)
            self._log_posteriors = torch.cat([self._log_posteriors, new.cpu()])
        return self._log_posteriors[:frames]

    def forget(self, frames: int) -> None:
        """See `Listener`: the next utterance begins with a new state."""
        if frames:
            self._begin()


class OverlappingChunks(_Detecting):
    """A recording heard in overlapping chunks, by any model."""

    renewal_s = 0.5

    def __init__(self, model: AcousticModel) -> None:
        """Begin a recording."""
        super().__init__(model, 0)

    @torch.inference_mode()
    def log_posteriors(self, waveform: NDArray[np.float32], frames: int) -> Tensor:
        """See `Listener`."""
        chunk = torch.from_numpy(waveform[: frames * self._model.frame_samples])[None].to(self._model.cmvn.mean.device)
        log_posteriors, _ = self._model(chunk, torch.tensor([chunk.shape[1]], device=chunk.device))
        result: Tensor = log_posteriors[0, :frames].cpu()
        return result

    def forget(self, frames: int) -> None:
        """See `Listener`: nothing is kept here but what is needed."""
