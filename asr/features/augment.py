"""Perturbations of training utterances: speed, tempo and SpecAugment masks.

What happens to a batch's features is drawn before they are known, beside the audio (`Perturbation`). So a GPU that
computes them need not wait for the host, nor the host for the GPU.

Every random number is a function of seed, epoch and utterance id (`Draw`). It never depends on workers, on the other
utterances of a batch or on what ran before, so a resumed run sees exactly the audio it would have seen.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.audio.resample import resample
from asr.config import AugmentSettings, Config


@dataclass(frozen=True)
class Draw:
    """What random numbers depend on: the run's seed, the epoch (from 0), and what they are drawn for.

    `name` is an utterance id, or the number of a pool of utterances; it is empty for draws about the whole epoch.
    """

    seed: int
    epoch: int
    name: str = ""

    def of(self, name: str) -> Draw:
        """Return the draw of one utterance in the same epoch."""
        return replace(self, name=name)

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the random generator for one purpose; each call starts it anew."""
        key = hashlib.blake2b(f"{purpose}|{self.seed}|{self.epoch}|{self.name}".encode(), digest_size=16).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(key, "little")))


def perturb_speed(waveform: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    """Return `(sample,)` played `speed` times as fast, by band-limited resampling; pitch moves along.

    Source: Ko et al. 2015, Audio augmentation for speech recognition.
    """
    ratio = Fraction(speed).limit_denominator(100)
    return resample(waveform, ratio.numerator, ratio.denominator)


def draw_pace(settings: AugmentSettings, fastest: float, draw: Draw) -> tuple[float, float]:
    """Return a speed and a tempo that leave the utterance enough frames for its transcript.

    Args:
        settings: the factors.
        fastest: how many times as fast the utterance may be played, speed and tempo together. If all factors are
            above that, the slowest ones are taken.
        draw: of the utterance.
    """

    def choose(purpose: str, factors: Sequence[float], most: float) -> float:
        fitting = [factor for factor in factors if factor <= most] or [min(factors)]
        return fitting[0] if len(fitting) == 1 else float(draw.rng(purpose).choice(fitting))

    speed = choose("speed", settings.speeds, fastest / min(settings.tempos))
    return speed, choose("tempo", settings.tempos, fastest / speed)


_LAST_DIGIT = 1e-9  # a quotient may be a last digit above a whole number


def frames_at_tempo(frames: int, tempo: float) -> int:
    """Return the frames of an utterance of `frames` frames that is played `tempo` times as fast: `⌈frames / tempo⌉`."""
    return math.ceil(frames / tempo - _LAST_DIGIT)


def perturb_tempo(features: Tensor, lengths: Tensor, tempos: Tensor, most_frames: int) -> tuple[Tensor, Tensor]:
    """Return features played `tempos` times as fast, interpolated between frames; the pitch stays.

    Args:
        features: `(batch, frame, mel)`, normalised: frames beyond the lengths are 0.
        lengths: `(batch,)` frames.
        tempos: `(batch,)` float64, on the device of the features.
        most_frames: the most frames of an utterance afterwards, see `frames_at_tempo`.

    Returns:
        `(batch, most_frames, mel)` and `(batch,)` frames.
    """
    factors = tempos[:, None]
    faster = (lengths / tempos - _LAST_DIGIT).ceil().long()
    frame = torch.arange(most_frames, device=features.device)
    position, last = frame * factors, lengths[:, None] - 1
    before = position.long().minimum(last)
    after = (before + 1).minimum(last)
    row = torch.arange(len(tempos), device=features.device)[:, None]
    share = (position - before).to(features.dtype)[..., None]
    between = features[row, before].lerp(features[row, after], share)
    return between.where((frame < faster[:, None])[..., None], 0.0), faster


@dataclass(frozen=True)
class SpecMasks:
    """Bands to blank, as (start, width) pairs: `times` in frames, `bands` in bins, each `(view·batch, mask, 2)`.

    Rows run view by view: the first `batch` rows are the first view of all utterances. There are `bins` bins, and
    the values of a frame, if there are others, are shared out among them; None: as many as a frame has values.
    """

    times: Tensor
    bands: Tensor
    views: int
    bins: int | None = None


def draw_masks(
    ids: Sequence[str],
    frame_lengths: Sequence[int],
    mel_bins: int,
    settings: AugmentSettings,
    *,
    hop_ms: float,
    views: int,
    draw: Draw,
) -> SpecMasks:
    """Draw SpecAugment masks for `views` independent views of each utterance; `draw` is that of the epoch.

    Source: Park et al. 2019, arXiv:1904.08779.
    """
    times = np.zeros((views, len(ids), settings.time_masks, 2), dtype=np.int64)
    bands = np.zeros((views, len(ids), settings.frequency_masks, 2), dtype=np.int64)
    widest_band = min(settings.frequency_mask_bins, mel_bins)
    for index, (utterance_id, frames) in enumerate(zip(ids, frame_lengths, strict=True)):
        rng = draw.of(utterance_id).rng("masks")
        widest = int(min(settings.time_mask_ms / hop_ms, settings.time_mask_share * frames))
        times[:, index] = _spans(rng, frames, widest, (views, settings.time_masks))
        bands[:, index] = _spans(rng, mel_bins, widest_band, (views, settings.frequency_masks))
    return SpecMasks(
        torch.from_numpy(times.reshape(views * len(ids), settings.time_masks, 2)),
        torch.from_numpy(bands.reshape(views * len(ids), settings.frequency_masks, 2)),
        views,
        mel_bins,
    )


def _spans(rng: np.random.Generator, size: int, widest: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    widths = rng.integers(0, widest + 1, shape)
    starts = rng.integers(0, size - widths + 1)
    return np.stack([starts, widths], axis=-1)


def apply_masks(features: Tensor, lengths: Tensor, masks: SpecMasks) -> tuple[Tensor, Tensor]:
    """Return all views of normalised features, stacked along the batch, with the masked bands at 0 (their mean).

    Args:
        features: `(batch, frame, mel)`.
        lengths: `(batch,)` frames.
        masks: as drawn for the same batch.

    Returns:
        `(view·batch, frame, mel)` and `(view·batch,)`.
    """
    device = features.device
    hidden_times = covered(masks.times.to(device), features.shape[1])
    values = features.shape[2]
    bins = values if masks.bins is None else masks.bins
    bin_of_value = torch.arange(values, device=device) * bins // values
    hidden_bands = covered(masks.bands.to(device), bins)[:, bin_of_value]
    hidden = hidden_times[:, :, None] | hidden_bands[:, None, :]
    return features.repeat(masks.views, 1, 1).masked_fill(hidden, 0.0), lengths.repeat(masks.views)


def covered(spans: Tensor, size: int) -> Tensor:
    """Return `(row, size)` bool of `(row, span, 2)` starts and widths: whether a place is in one of the spans."""
    position = torch.arange(size, device=spans.device)
    start, width = spans[..., 0, None], spans[..., 1, None]
    return ((position >= start) & (position < start + width)).any(dim=1)


@dataclass(frozen=True)
class Perturbation:
    """What happens to the features of a training batch: tempos, then masks. Its tensors move with the batch.

    Attributes:
        tempos: `(batch,)` float64, speeds at which the features are played.
        masks: of the features at these tempos.
        frames: each utterance's frames at its tempo, as the host knows them.
        plays: whether a tempo is another than 1.
    """

    tempos: Tensor
    masks: SpecMasks
    frames: tuple[int, ...]
    plays: bool

    @staticmethod
    def at_tempos(tempos: Sequence[float], masks: SpecMasks, played: tuple[int, ...]) -> Perturbation:
        """Return that of utterances played at these tempos, which then have so many frames."""
        plays = any(tempo != 1.0 for tempo in tempos)
        return Perturbation(torch.tensor(tempos, dtype=torch.float64), masks, played, plays)

    @property
    def view_frames(self) -> list[int]:
        """The frames of all rows that `apply` returns."""
        return list(self.frames) * self.masks.views

    def play(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(batch, frame, mel)` and `(batch,)` frames of the same, at the tempos and without masks."""
        if not self.plays:
            return features, lengths
        return perturb_tempo(features, lengths, self.tempos, max(self.frames))

    def apply(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return `(view·batch, frame, mel)` and `(view·batch,)` frames of `(batch, frame, mel)` and `(batch,)`."""
        return apply_masks(*self.play(features, lengths), self.masks)

    def only(self, row: int) -> Perturbation:
        """Return that of one utterance."""
        return self.of([row])

    def of(self, rows: Sequence[int]) -> Perturbation:
        """Return that of some utterances."""
        place = torch.tensor(rows)
        views = torch.cat([place + view * len(self.frames) for view in range(self.masks.views)])
        of_views = views.to(self.masks.times.device)
        return replace(
            self,
            tempos=self.tempos[place.to(self.tempos.device)],
            masks=replace(self.masks, times=self.masks.times[of_views], bands=self.masks.bands[of_views]),
            frames=tuple(self.frames[row] for row in rows),
        )

    def with_tensors(self, change: Callable[[Tensor], Tensor]) -> Perturbation:
        """Return it with changed tensors: moved, or in other memory."""
        masks = replace(self.masks, times=change(self.masks.times), bands=change(self.masks.bands))
        return replace(self, tempos=change(self.tempos), masks=masks)


def draw_perturbation(
    ids: Sequence[str], frames: Sequence[int], tempos: Sequence[float], config: Config, draw: Draw
) -> Perturbation:
    """Return what happens to the features of a batch: the tempos given, and masks, drawn for as many views as trained.

    Args:
        ids: of the utterances.
        frames: of each utterance at tempo 1.
        tempos: of each utterance.
        config: feature, augmentation and training settings.
        draw: of the epoch.
    """
    played = tuple(frames_at_tempo(length, tempo) for length, tempo in zip(frames, tempos, strict=True))
    masks = draw_masks(
        ids,
        played,
        config.features.mel_bins,
        config.augment,
        hop_ms=config.features.frame_ms,
        views=2 if config.training.consistency_weight > 0 else 1,
        draw=draw,
    )
    return Perturbation.at_tempos(tempos, masks, played)
