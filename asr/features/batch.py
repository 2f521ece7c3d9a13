"""Waveforms → a padded batch for the network; the segments of a recording → groups that share a batch.

This is all that transcribing needs; `batching.py` makes batches of a corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from asr.audio.segment import Segment
from asr.config import FeatureSettings

if TYPE_CHECKING:
    from asr.features.augment import Perturbation

Item = TypeVar("Item")
Count = TypeVar("Count", int, Tensor)

# Padded seconds of segments that go through the network together, and seconds of segments that wait to be sorted.
SEGMENT_BATCH_S = 60.0
SEGMENT_POOL_S = 240.0


@dataclass(frozen=True)
class Batch:
    """Padded utterances. Waveforms are float32 at the model's rate, tokens exclude the blank; padding is 0.

    Features that are computed already take the place of waveforms as `(batch, frame, state, width)`, and their frames
    that of samples; see `AcousticModel.forward`.

    `token_lengths` stays on the CPU, where the criterion needs it.
    """

    waveforms: Tensor  # (batch, sample)
    lengths: Tensor  # (batch,) samples
    tokens: Tensor  # (batch, token)
    token_lengths: Tensor  # (batch,)
    ids: list[str]
    perturbation: Perturbation | None = None  # of the features; training batches have one
    moments: Tensor | None = None  # (batch, 2, mel) mean and deviation of each speaker; with features.cmvn=speaker
    weight: float = 1.0  # by which its losses count

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        if self.waveforms.device == device:
            return self
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """Return the batch in page-locked memory; needs CUDA."""
        return self._with_tensors(Tensor.pin_memory)

    def only(self, row: int) -> Batch:
        """Return the batch of one utterance, without padding."""
        samples, tokens = int(self.lengths[row]), int(self.token_lengths[row])
        return Batch(
            self.waveforms[row : row + 1, :samples],
            self.lengths[row : row + 1],
            self.tokens[row : row + 1, :tokens],
            self.token_lengths[row : row + 1],
            [self.ids[row]],
            self.perturbation and self.perturbation.only(row),
            None if self.moments is None else self.moments[row : row + 1],
        )

    def labelled(self, rows: Sequence[int], tokens: Sequence[Sequence[int]]) -> Batch:
        """Return some of the utterances, with these tokens as their transcripts; tensors stay on their device."""
        place = torch.tensor(rows)
        there = place.to(self.waveforms.device)
        label = [torch.tensor(sequence, dtype=torch.int64) for sequence in tokens]
        return replace(
            self,
            waveforms=self.waveforms[there],
            lengths=self.lengths[there],
            tokens=torch.nn.utils.rnn.pad_sequence(label, batch_first=True).to(there.device),
            token_lengths=torch.tensor([len(sequence) for sequence in tokens]),
            ids=[self.ids[row] for row in rows],
            perturbation=self.perturbation and self.perturbation.of(rows),
            moments=None if self.moments is None else self.moments[there],
        )

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            waveforms=change(self.waveforms),
            lengths=change(self.lengths),
            tokens=change(self.tokens),
            perturbation=self.perturbation and self.perturbation.with_tensors(change),
            moments=None if self.moments is None else change(self.moments),
        )


def collate(
    waveforms: Sequence[Tensor],
    tokens: Sequence[Sequence[int]],
    ids: Sequence[str],
    perturbation: Perturbation | None = None,
    moments: Sequence[Tensor] | None = None,
) -> Batch:
    """Return 1-D waveforms and token lists, padded, as a batch; `moments` are those of each speaker, `(2, mel)`."""
    return Batch(
        waveforms=torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True),
        lengths=torch.tensor([len(waveform) for waveform in waveforms]),
        tokens=torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(sequence, dtype=torch.int64) for sequence in tokens], batch_first=True
        ),
        token_lengths=torch.tensor([len(sequence) for sequence in tokens]),
        ids=list(ids),
        perturbation=perturbation,
        moments=None if moments is None else torch.stack(list(moments)),
    )


def collate_segments(segments: Sequence[Segment], moments: Tensor | None = None) -> Batch:
    """Return segments of a recording, padded, as a batch; `moments` are those of its speaker, `(2, mel)`."""
    count = len(segments)
    waveforms = [torch.from_numpy(segment.waveform) for segment in segments]
    return collate(waveforms, [[]] * count, [""] * count, moments=None if moments is None else [moments] * count)


def hop_samples(settings: FeatureSettings) -> int:
    """Return the samples from one frame's centre to the next."""
    return round(settings.frame_ms * settings.sample_rate_hz / 1000)


def frame_count(samples: Count, settings: FeatureSettings) -> Count:
    """Return the frames of the features of waveforms of `samples` samples: log-mel, or those of an encoder."""
    return samples // hop_samples(settings) + 1


def group_by_padded_size(items: Iterable[Item], size: Callable[[Item], float], limit: float) -> Iterator[list[Item]]:
    """Yield groups of neighbours whose number times the size of the longest is at most `limit`, or single items."""
    group: list[Item] = []
    longest = 0.0
    for item in items:
        longest = max(longest, size(item))
        if group and longest * (len(group) + 1) > limit:
            yield group
            group, longest = [], size(item)
        group.append(item)
    if group:
        yield group


def segment_batches(segments: Iterable[Segment], rate_hz: int) -> Iterator[list[Segment]]:
    """Yield the segments of a recording in groups of similar length; the groups are nearly in order.

    A group has at most `SEGMENT_BATCH_S` padded seconds. At most `SEGMENT_POOL_S` and one segment are in memory.
    """
    pool: list[Segment] = []
    for segment in segments:
        pool.append(segment)
        if sum(map(_samples, pool)) >= SEGMENT_POOL_S * rate_hz:
            yield from _by_length(pool, rate_hz)
            pool = []
    yield from _by_length(pool, rate_hz)


def _by_length(pool: list[Segment], rate_hz: int) -> Iterator[list[Segment]]:
    return group_by_padded_size(sorted(pool, key=_samples), _samples, SEGMENT_BATCH_S * rate_hz)


def _samples(segment: Segment) -> int:
    return len(segment.waveform)
