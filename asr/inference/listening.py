"""Samples that are still arriving → log-posteriors, as soon as they can be told.

A model with one direction and global normalisation carries its state from block to block: nothing is computed twice,
and the log-posteriors are those of the whole recording.

A bidirectional model needs to know what follows. It hears overlapping chunks, each with its surroundings, and of each
chunk's log-posteriors only those of its core are kept; the cores follow each other without gap:

    recording  ──────────────────────────────────────────────────────→
    chunk 7    [ left context                  | core | right ]
    chunk 8          [ left context                   | core | right ]

What is lost is what lies beyond the context: `benchmarks/streaming.py` measures how many words that costs.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.model.acoustic import AcousticModel

# Chosen on the AN4 and quickstart dev sets; a core comes CORE_S + RIGHT_S after its beginning at the latest.
CORE_S = 1.0
LEFT_S = 8.0
RIGHT_S = 1.0


class Listener(Protocol):
    """Hears one recording, block by block."""

    @property
    def delay_s(self) -> float:
        """Seconds after which at the latest a frame's log-posteriors come, counted from the frame's centre."""

    def __call__(self, samples: NDArray[np.float32], *, last: bool = False) -> Tensor:
        """Return the log-posteriors that can be told by now and were not before.

        Args:
            samples: `(sample,)` at the model's rate, the next ones; there may be none.
            last: whether the recording ends with them.

        Returns:
            `(frame, token)` float32 on the CPU, natural log.
        """


def listener(model: AcousticModel) -> Listener:
    """Return the beginning of a recording, for the kind of model at hand."""
    return CarriedState(model) if model.streams else OverlappingChunks(model)


class CarriedState:
    """A recording heard by a model that carries its state on."""

    def __init__(self, model: AcousticModel) -> None:
        """Begin a recording.

        Raises:
            ModelError: the model needs whole utterances.
        """
        self._model = model
        self._state = model.start()
        self.delay_s = model.lookahead_s

    def __call__(self, samples: NDArray[np.float32], *, last: bool = False) -> Tensor:
        """See `Listener`."""
        tensor = torch.from_numpy(samples).to(self._model.cmvn.mean.device)
        log_posteriors, self._state = self._model.step(tensor, self._state, last=last)
        return log_posteriors.cpu()


class OverlappingChunks:
    """A recording heard in overlapping chunks, by any model."""

    def __init__(
        self, model: AcousticModel, *, core_s: float = CORE_S, left_s: float = LEFT_S, right_s: float = RIGHT_S
    ) -> None:
        """Begin a recording; lengths are rounded to output frames."""
        self._model = model
        self._core, self._left, self._right = (
            max(1, round(seconds / model.frame_shift_s)) for seconds in (core_s, left_s, right_s)
        )
        self.delay_s = (self._core + self._right) * model.frame_shift_s
        self._frame_samples = model.subsampling.factor * model.logmel.hop_samples
        self._samples = np.zeros(0, np.float32)  # from the left context of the next core on
        self._context = 0  # frames of left context

    def __call__(self, samples: NDArray[np.float32], *, last: bool = False) -> Tensor:
        """See `Listener`."""
        self._samples = np.concatenate([self._samples, samples])
        cores = [torch.zeros(0, self._model.output.out_features)]
        while len(self._samples) >= (size := (self._context + self._core + self._right) * self._frame_samples):
            cores.append(self._heard(self._samples[:size])[self._context : self._context + self._core])
            passed = self._context + self._core
            self._context = min(passed, self._left)
            self._samples = self._samples[(passed - self._context) * self._frame_samples :]
        if last:
            cores.append(self._heard(self._samples)[self._context :])
        return torch.cat(cores)

    @torch.inference_mode()
    def _heard(self, samples: NDArray[np.float32]) -> Tensor:
        waveforms = torch.from_numpy(samples)[None].to(self._model.cmvn.mean.device)
        log_posteriors, _ = self._model(waveforms, torch.tensor([len(samples)], device=waveforms.device))
        result: Tensor = log_posteriors[0].cpu()
        return result
