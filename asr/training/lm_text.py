"""The text of a recurrent language model as training reads it: one long stream, cut into parallel ones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.errors import LanguageModelError
from asr.features.augment import utterance_rng
from asr.lm.rnnlm import BOUNDARY


class LmText:
    """Sentences of unit ids, kept as one array."""

    def __init__(self, sentences: Sequence[Sequence[int]]) -> None:
        """Keep the sentences, each with the boundary at its end.

        Raises:
            LanguageModelError: there is none.
        """
        if not sentences:
            raise LanguageModelError("there is no sentence; one a line is expected")
        ends = np.cumsum([len(sentence) + 1 for sentence in sentences])
        units = np.full(ends[-1], BOUNDARY, dtype=np.int32)
        for sentence, end in zip(sentences, ends, strict=True):
            units[end - 1 - len(sentence) : end - 1] = sentence
        self._sentences: list[NDArray[np.int32]] = np.split(units, ends[:-1])
        self.units = len(units)
        self.checksum = zlib.crc32(units.tobytes())

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self._sentences)

    def streams(self, batch: int, window: int, *, seed: int, epoch: int) -> Tensor:
        """Return an epoch's text as parallel streams, `(stream, position)` int64.

        Sentences come in an order of their own each epoch: what one says of the next is chance, so the network learns
        to forget at the boundary, as it must where sentences are scored one by one. Neighbouring columns are a unit
        and its successor; each stream's first column is the unit before its first target. Less than one unit a
        stream is left over at the end.

        Args:
            batch: streams wanted; a text too short to give each a window has fewer.
            window: units read at a time.
            seed: with the epoch, decides the order.
            epoch: counted from 0.
        """
        order = utterance_rng("sentences", seed, epoch, "").permutation(len(self._sentences))
        text = np.concatenate([[BOUNDARY], *(self._sentences[index] for index in order)])
        streams = self.stream_count(batch, window)
        length = self.units // streams
        # Stream k reads units k · length … (k + 1) · length; the last one is read by the next stream as its first.
        rows = np.arange(streams)[:, None] * length + np.arange(length + 1)
        return torch.from_numpy(text[rows].astype(np.int64))

    def stream_count(self, batch: int, window: int) -> int:
        """Return how many streams there are when `batch` are wanted."""
        return max(1, min(batch, self.units // window))

    def steps(self, batch: int, window: int) -> int:
        """Return the number of windows in an epoch, the last of which may be shorter."""
        return -(-(self.units // self.stream_count(batch, window)) // window)
