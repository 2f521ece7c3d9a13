"""What several threads ask of one network → one pass through it: for a server on a GPU.

A GPU computes a batch of many utterances in little more time than one. While a pass is computed, others ask; the next
pass has all that they asked for. So nobody waits for a batch to fill. Each gets what he would get alone, as far as
float32 can say, because padding is masked.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import NamedTuple

from torch import Tensor

from asr.bundle.bundle import ModelBundle
from asr.bundle.speakers import Speaker
from asr.features.batch import SEGMENT_BATCH_S, Batch, collate
from asr.inference.decoder import Decoder
from asr.model.computation import Precision

Found = tuple[Tensor, Tensor]  # what `Decoder.log_posteriors` returns


class _Asked(NamedTuple):
    batch: Batch
    answer: Future[Found]

    @property
    def samples(self) -> int:
        """Of the longest utterance."""
        return self.batch.waveforms.shape[1]

    @property
    def rows(self) -> int:
        """Number of utterances."""
        return len(self.batch.lengths)


class JoiningDecoder(Decoder):
    """A loaded model that computes in one pass what several threads ask for at the same time."""

    def __init__(
        self,
        bundle: ModelBundle,
        device: str = "cpu",
        precision: Precision = "fp32",
        speaker: Speaker | None = None,
    ) -> None:
        """Begin to wait for what is asked; arguments are those of `Decoder`."""
        super().__init__(bundle, device, precision, speaker)
        self._asked: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
        threading.Thread(target=self._compute, daemon=True).start()

    def log_posteriors(self, batch: Batch) -> Found:
        """Return what `Decoder.log_posteriors` returns, on the CPU; any thread may call this.

        Raises: as `Decoder.log_posteriors`.
        """
        answer: Future[Found] = Future()
        self._asked.put(_Asked(batch, answer))
        return answer.result()

    def _compute(self) -> None:
        """Compute what is asked for, without end."""
        while True:
            asked = [self._asked.get()]
            with suppress(queue.Empty):
                while True:
                    asked.append(self._asked.get_nowait())
            for group in _groups(asked, SEGMENT_BATCH_S * self.sample_rate_hz):
                self._answer(group)

    def _answer(self, group: list[_Asked]) -> None:
        """Answer a group after one pass. If that fails, each is computed by itself, so that one spoils no other."""
        try:
            found = self._together(group)
        except Exception as error:
            if len(group) == 1:
                group[0].answer.set_exception(error)
                return
            for one in group:
                self._answer([one])
            return
        for one, result in zip(group, found, strict=True):
            one.answer.set_result(result)

    def _together(self, group: list[_Asked]) -> Iterator[Found]:
        log_posteriors, frames = (result.cpu() for result in super().log_posteriors(_joined(group)))
        ends = [sum(one.rows for one in group[: place + 1]) for place in range(len(group))]
        rows = [slice(end - one.rows, end) for one, end in zip(group, ends, strict=True)]
        return ((log_posteriors[own, : int(frames[own].max())], frames[own]) for own in rows)


def _groups(asked: Iterable[_Asked], most_samples: float) -> Iterator[list[_Asked]]:
    """Yield what can go through the network in one pass: of similar length, at most so many padded samples."""
    group: list[_Asked] = []
    for one in sorted(asked, key=lambda one: (one.batch.moments is None, one.samples)):
        rows = sum(other.rows for other in group) + one.rows
        same_kind = not group or (group[0].batch.moments is None) == (one.batch.moments is None)
        if group and (rows * one.samples > most_samples or not same_kind):
            yield group
            group = []
        group.append(one)
    yield group


def _joined(group: list[_Asked]) -> Batch:
    if len(group) == 1:
        return group[0].batch
    batches = [one.batch for one in group]
    waveforms = [row[:length] for batch in batches for row, length in zip(batch.waveforms, batch.lengths, strict=True)]
    moments = [row for batch in batches if batch.moments is not None for row in batch.moments]
    return collate(waveforms, [[]] * len(waveforms), [""] * len(waveforms), moments=moments or None)
