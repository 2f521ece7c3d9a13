"""Samples that are still arriving → in which frames somebody speaks, and the log-posteriors of what was said.

A model with one direction and global normalisation carries its state from block to block. Nothing is computed twice,
the log-posteriors are those of the whole recording, and they also tell where nothing is said.

A bidirectional model has to know what follows, and normalising by the utterance needs the utterance. Such a model
hears chunks that overlap: each begins where the utterance began, and reaches to what has arrived by then. Where
utterances begin and end must be known before, so a detector of speech tells; when one has ended, its last chunk is the
whole of it, heard as a file would be:

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

from asr.data.tokens import BLANK, TokenTable
from asr.inference.speech_detector import WINDOW_S, SpeechDetector, is_speech
from asr.model.acoustic import AcousticModel


class Listener(Protocol):
    """Hears one recording. Output frames are counted from the first one that was not forgotten.

    Attributes:
        end_silence_s: after how much silence an utterance has ended, by default.
        margin_s: how much of the silence around an utterance belongs to it.
        renewal_s: how much audio must arrive until it is worth while to look at the log-posteriors again.
    """

    end_silence_s: float
    margin_s: float
    renewal_s: float

    def hear(self, samples: NDArray[np.float32], *, last: bool) -> Tensor:
        """Take in the next samples `(sample,)`, at the model's rate; `last` if the recording ends with them.

        Returns:
            `(frame,)` bool, of the frames of which it can be told by now and could not before: is something said?
        """

    def log_posteriors(self, waveform: NDArray[np.float32], frames: int) -> Tensor:
        """Return those of the first frames, `(frame, token)` float32 on the CPU, natural log.

        Args:
            waveform: `(sample,)`, the recording from the first frame that was not forgotten.
            frames: how many; at most those of which `hear` told.
        """

    def forget(self, frames: int) -> None:
        """Forget the first so many frames."""


def listener(model: AcousticModel, tokens: TokenTable) -> Listener:
    """Return the beginning of a recording, for the kind of model at hand."""
    return CarriedState(model, tokens) if model.streams else OverlappingChunks(model)


class CarriedState:
    """A recording heard by a model that carries its state on. Something is said where a token is recognised."""

    end_silence_s = 0.8  # tokens come for a frame each, and those of a long word far apart
    margin_s = 0.8
    renewal_s = 0.0

    def __init__(self, model: AcousticModel, tokens: TokenTable) -> None:
        """Begin a recording.

        Raises:
            ModelError: the model needs whole utterances.
        """
        self._model = model
        self._state = model.start()
        self._silent = torch.tensor([index == BLANK or text == " " for index, text in enumerate(tokens.texts)])
        self._frames = torch.zeros(0, len(tokens))

    def hear(self, samples: NDArray[np.float32], *, last: bool) -> Tensor:
        """See `Listener`."""
        tensor = torch.from_numpy(samples).to(self._model.cmvn.mean.device)
        log_posteriors, self._state = self._model.step(tensor, self._state, last=last)
        self._frames = torch.cat([self._frames, log_posteriors.cpu()])
        return ~self._silent[log_posteriors.argmax(-1).cpu()]

    def log_posteriors(self, waveform: NDArray[np.float32], frames: int) -> Tensor:
        """See `Listener`."""
        return self._frames[:frames]

    def forget(self, frames: int) -> None:
        """See `Listener`."""
        self._frames = self._frames[frames:]


class OverlappingChunks:
    """A recording heard in overlapping chunks, by any model. Something is said where the detector finds speech."""

    end_silence_s = 0.5
    margin_s = 0.25
    renewal_s = 0.5

    def __init__(self, model: AcousticModel) -> None:
        """Begin a recording."""
        self._model = model
        self._detect = SpeechDetector(model.sample_rate_hz)
        self._in_speech = False
        # Of the recording: samples, windows of the detector, and frames told of.
        self._samples = self._windows = self._frames = 0

    def hear(self, samples: NDArray[np.float32], *, last: bool) -> Tensor:
        """See `Listener`."""
        self._samples += len(samples)
        told: list[bool] = []
        for probability in self._detect(samples, last=last).tolist():
            self._in_speech = is_speech(probability, self._in_speech)
            self._windows += 1
            while (self._frames + len(told)) * self._model.frame_shift_s < self._windows * WINDOW_S:
                told.append(self._in_speech)
        if last:
            left = int(self._model.frame_count(torch.tensor([self._samples]))) - self._frames
            told = [*told, self._in_speech][:left]
        self._frames += len(told)
        return torch.tensor(told, dtype=torch.bool)

    @torch.inference_mode()
    def log_posteriors(self, waveform: NDArray[np.float32], frames: int) -> Tensor:
        """See `Listener`."""
        chunk = torch.from_numpy(waveform[: frames * self._model.frame_samples])[None].to(self._model.cmvn.mean.device)
        log_posteriors, _ = self._model(chunk, torch.tensor([chunk.shape[1]], device=chunk.device))
        result: Tensor = log_posteriors[0, :frames].cpu()
        return result

    def forget(self, frames: int) -> None:
        """See `Listener`: nothing is kept here but what is needed."""
