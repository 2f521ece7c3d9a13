"""What a network does not see of the utterances of a pretraining batch: spans of time with noise in their place.

`asr.model.pretraining` predicts what is hidden. Source of the noise: Chiu et al. 2022, arXiv:2202.01855.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.config import Config
from asr.features.augment import Draw, Perturbation, SpecMasks, covered, frames_at_tempo

HIDING_NOISE = 0.1  # deviation of the noise in place of hidden spans; features have 1


@dataclass(frozen=True)
class HiddenSpans(Perturbation):
    """What a network does not see of a pretraining batch: spans of time, in place of which there is noise.

    Attributes:
        noise: `(batch, frame, mel)`, of each utterance at its tempo.
        most_hidden: the most hidden output frames of an utterance, as the host knows them.
    """

    noise: Tensor
    most_hidden: int

    def hide(self, features: Tensor) -> Tensor:
        """Return played features `(batch, frame, mel)` with noise in the spans."""
        return torch.where(covered(self.masks.times, features.shape[1])[..., None], self.noise, features)

    def only(self, row: int) -> HiddenSpans:
        """Return that of one utterance."""
        mine = cast(HiddenSpans, super().only(row))
        return replace(mine, noise=self.noise[row : row + 1, : self.frames[row]])

    def with_tensors(self, change: Callable[[Tensor], Tensor]) -> HiddenSpans:
        """Return it with changed tensors: moved, or in other memory."""
        moved = cast(HiddenSpans, super().with_tensors(change))
        return replace(moved, noise=change(self.noise))


def draw_pretraining_view(
    ids: Sequence[str], frames: Sequence[int], tempos: Sequence[float], config: Config, draw: Draw
) -> Perturbation:
    """Return what happens to the features of a pretraining batch, for `PretrainingModel`.

    A network that sees the whole utterance gets `HiddenSpans`: spans of equal width that do not overlap, about
    `pretraining.mask_share` of the utterance. They consist of whole output frames, and each utterance has at least one.
    A network with one direction sees all.

    Args:
        ids: of the utterances.
        frames: of each utterance at tempo 1.
        tempos: of each utterance.
        config: feature, model and pretraining settings.
        draw: of the epoch.
    """
    played = tuple(frames_at_tempo(length, tempo) for length, tempo in zip(frames, tempos, strict=True))
    masks = SpecMasks(torch.zeros(len(ids), 0, 2, dtype=torch.int64), torch.zeros(len(ids), 0, 2, dtype=torch.int64), 1)
    plain = Perturbation.at_tempos(tempos, masks, played)
    if not config.model.sees_whole_utterance:
        return plain
    drawn = [_draw_spans(length, config, draw.of(name)) for name, length in zip(ids, played, strict=True)]
    times = np.zeros((len(ids), max(map(len, drawn)), 2), dtype=np.int64)
    noise = np.zeros((len(ids), max(played), config.features.mel_bins), dtype=np.float32)
    for row, (name, length, spans) in enumerate(zip(ids, played, drawn, strict=True)):
        times[row, : len(spans)] = spans
        normal = draw.of(name).rng("hiding noise").standard_normal((length, noise.shape[2]), dtype=np.float32)
        noise[row, :length] = HIDING_NOISE * normal
    hidden = replace(masks, times=torch.from_numpy(times))
    most_hidden = max(int(spans[:, 1].sum()) for spans in drawn) // config.model.subsampling
    return HiddenSpans(plain.tempos, hidden, played, plain.plays, torch.from_numpy(noise), most_hidden)


def _draw_spans(frames: int, config: Config, draw: Draw) -> NDArray[np.int64]:
    """Return `(span, 2)`: starts and widths in log-mel frames, in order; none if no output frame is whole."""
    factor, settings = config.model.subsampling, config.pretraining
    whole = frames // factor
    width = min(max(1, round(settings.mask_ms / (config.features.hop_ms * factor))), max(1, whole // 2))
    count = min(max(1, round(settings.mask_share * whole / width)), whole // width)
    gaps = np.sort(draw.rng("hidden spans").integers(0, whole - count * width + 1, count))
    starts = gaps + width * np.arange(count)
    return factor * np.stack([starts, np.full(count, width)], axis=-1)
