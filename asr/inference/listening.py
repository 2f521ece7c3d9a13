"""Samples that are still arriving → in which frames somebody speaks, and the log-posteriors of what was said.

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

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.inference.speech_detector import WINDOW_S, SpeechDetector, is_speech
from asr.model.acoustic import AcousticModel


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
