"""Waveform → log-mel features and their normalisation, as layers of the model.

Both live inside the network, so training, inference and export cannot disagree about them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.config import FeatureSettings
from asr.features.batch import frame_count, hop_samples
from asr.machine import torchaudio_functional

# All levels are mean mel-band energies. Speech of -30 dBFS has a level of about 0.01, the noise of 16 bits about 4e-10.
QUIETEST = 1e-8  # anything below counts as this, so that silence stays silence: speech of one 16-bit step, -90 dBFS
# A band's energy, divided by the level, counts as at least this. It is 35 dB below the level. There, speech 50 dB too
# quiet meets the noise of 16 bits: with 5e-5 it made a tenth more errors. With 5e-3 all speech did.
FLOOR = 3e-4
# The running level is that of the loudest `_LOUDEST_S` so far. A single click does not count much in it. It falls, so
# that a loud noise does not make all that follows quiet; in a pause between words it hardly does.
_LOUDEST_S = 0.2
_FALL_DB_PER_S = 3.0
_RANGE_DB = 110.0  # from `QUIETEST` to a level that no audio has


@dataclass(frozen=True)
class LogMelState:
    """What `LogMel.step` carries from one block of a waveform to the next.

    Attributes:
        samples: `(1, sample)`, those that later frames need; none before the first sample.
        energies: `(1, frame)`, mean energies of the last frames, over which the level is smoothed.
        level: `(1, 1)`, the running level of the last frame.
    """

    samples: Tensor
    energies: Tensor
    level: Tensor


class LogMel(nn.Module):
    """Natural log of mel-band energies, relative to the level of what is heard.

    Hann window, power spectrum, Slaney-normalised triangular filters on the Slaney mel scale (librosa's defaults).
    Frame `i` is centred on sample `i · hop`. Beyond both ends the signal stays as its first or last sample.

    Neither an offset nor the level of the waveform matters. Each frame's mean, weighted by the window, is subtracted
    in the spectrum. Energies are divided by the level: with `features.cmvn=utterance` and `speaker` the mean over the
    utterance's frames, with `global` a running level, which needs nothing that follows (see `running_level`).

    Source: Davis & Mermelstein 1980 (mel bands); Slaney 1998, Auditory Toolbox (scale and normalisation).
    """

    window: Tensor
    filters: Tensor
    offset: Tensor

    def __init__(self, settings: FeatureSettings) -> None:
        """Build window and filters for the settings' sample rate."""
        super().__init__()
        self._settings = settings
        rate_hz = settings.sample_rate_hz
        self.runs = settings.cmvn == "global"
        self.hop_samples = hop_samples(settings)
        self.window_samples = round(settings.window_ms * rate_hz / 1000)
        self.fft_samples = 1 << (self.window_samples - 1).bit_length()
        self.loudest_frames = max(1, round(_LOUDEST_S * rate_hz / self.hop_samples))
        self.fall_db = _FALL_DB_PER_S * self.hop_samples / rate_hz
        # The window stands in the middle of the transform's samples: those left and right of it count nothing.
        left = (self.fft_samples - self.window_samples) // 2
        self._unused_samples = self.fft_samples - left - self.window_samples
        # Derived from the settings, hence not part of the saved weights, and computed also where the network is built
        # without memory.
        with torch.device("cpu"):
            window = torch.zeros(self.fft_samples)
            window[left : left + self.window_samples] = torch.hann_window(self.window_samples)
            filters = torchaudio_functional().melscale_fbanks(
                self.fft_samples // 2 + 1,
                f_min=0.0,
                f_max=rate_hz / 2,
                n_mels=settings.mel_bins,
                sample_rate=rate_hz,
                norm="slaney",
                mel_scale="slaney",
            )
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        # The spectrum of an offset whose own bin 0 is 1.
        offset = torch.fft.rfft(window.double()) / window.double().sum()
        self.register_buffer("offset", torch.view_as_real(offset).float(), persistent=False)

    def frame_count(self, lengths: Tensor) -> Tensor:
        """Return the frames of waveforms of `lengths` samples."""
        return frame_count(lengths, self._settings)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-mel features and their lengths.

        Args:
            waveforms: `(batch, sample)` float32; samples beyond an utterance's length are ignored.
            lengths: `(batch,)` samples.

        Returns:
            `(batch, frame, mel)` float32 and `(batch,)` frames.
        """
        frames = self.frame_count(lengths)
        waveforms = waveforms.float()
        if waveforms.shape[1] == 0:
            waveforms = F.pad(waveforms, (0, 1))
        last = waveforms.gather(1, (lengths[:, None] - 1).clamp_min(0))
        beyond = torch.arange(waveforms.shape[1], device=waveforms.device) >= lengths[:, None]
        half = self.fft_samples // 2
        mel = self._mel(F.pad(torch.where(beyond, last, waveforms), (half, half), mode="replicate"))
        energies = mel.mean(2)
        if self.runs:
            return self._relative(mel, running_level(self._smoothed(energies), self.fall_db)), frames
        # float64: the order of a float32 sum depends on the padding, and its last digits would reach the result.
        valid = valid_frames(frames, energies.shape[1])
        level = energies.double().where(valid, 0.0).sum(1, keepdim=True) / frames[:, None]
        return self._relative(mel, level.float().clamp_min(QUIETEST)), frames

    def start(self) -> LogMelState:
        """Return what `step` takes before a waveform's first sample."""
        none = self.window.new_zeros(1, 0)
        return LogMelState(none, none, self.window.new_zeros(1, 1))

    def step(self, samples: Tensor, state: LogMelState, *, last: bool) -> tuple[Tensor, LogMelState]:
        """Continue where the last call ended. The results of all calls, joined, are `forward` of the whole waveform.

        Only for a running level, because the mean of an utterance is not known before its end.

        Args:
            samples: `(1, sample)` float32, the next ones.
            state: from the last call or `start`.
            last: whether the waveform ends with them.

        Returns:
            `(1, frame, mel)`, the frames that are known by now, and the state for the next call.
        """
        half = self.fft_samples // 2
        nothing = samples.new_zeros(1, 0, self.filters.shape[1])
        if samples.shape[1] + state.samples.shape[1] == 0:
            if not last:
                return nothing, state
            samples = samples.new_zeros(1, 1)
        before = state.samples if state.samples.shape[1] else samples[:, :1].expand(-1, half)
        samples = torch.cat([before, samples], 1)
        # A frame is known once its window is full. What follows the window may be anything.
        after = half if last else self._unused_samples
        padded = torch.cat([samples, samples[:, -1:].expand(-1, after)], 1)
        frames = max((padded.shape[1] - self.fft_samples) // self.hop_samples + 1, 0)
        waiting = samples[:, frames * self.hop_samples :]
        if frames == 0:
            return nothing, LogMelState(waiting, state.energies, state.level)
        mel = self._mel(padded)
        energies = torch.cat([state.energies, mel.mean(2)], 1)
        level = running_level(self._smoothed(energies)[:, -frames:], self.fall_db, state.level)
        kept = energies[:, max(energies.shape[1] - self.loudest_frames + 1, 0) :]
        return self._relative(mel, level), LogMelState(waiting, kept, level[:, -1:])

    def _mel(self, samples: Tensor) -> Tensor:
        """`(batch, sample)` → `(batch, frame, mel)` energies; the first frame's window begins at the first sample."""
        spectrum = torch.stft(
            samples,
            self.fft_samples,
            hop_length=self.hop_samples,
            window=self.window,
            center=False,
            return_complex=True,
        )
        offset = spectrum[:, :1].real
        real = spectrum.real - offset * self.offset[:, :1]
        imaginary = spectrum.imag - offset * self.offset[:, 1:]
        return (real.square() + imaginary.square()).transpose(1, 2) @ self.filters

    def _smoothed(self, energies: Tensor) -> Tensor:
        """`(batch, frame)` → the mean of each frame and those before it, `loudest_frames` or fewer at the start."""
        before = self.loudest_frames - 1
        sums = F.avg_pool1d(F.pad(energies, (before, 0))[:, None], before + 1, 1)[:, 0] * (before + 1)
        count = torch.arange(1, energies.shape[1] + 1, device=energies.device).clamp_max(before + 1)
        return sums / count

    @staticmethod
    def _relative(mel: Tensor, level: Tensor) -> Tensor:
        return (mel / level[..., None]).clamp_min(FLOOR).log()


def running_level(energies: Tensor, fall_db: float, before: Tensor | None = None) -> Tensor:
    """Return `level[t] = max(energies[t], QUIETEST, level[t - 1] · 10^(-fall_db / 10))`, `(batch, frame)`.

    Args:
        energies: `(batch, frame)`.
        fall_db: by how much the level falls from one frame to the next.
        before: `(batch, 1)`, the level of the frame before the first; None if there is none.
    """
    level = energies.clamp_min(QUIETEST)
    if before is not None:
        first = torch.maximum(level[:, :1], before * 10 ** (-fall_db / 10))
        level = torch.cat([first, level[:, 1:]], 1)
    # Each round doubles the number of frames that a level has seen.
    for shift, factor in falls(fall_db):
        if shift >= level.shape[1]:
            break
        earlier = F.pad(level[:, :-shift], (shift, 0)) * factor
        level = torch.maximum(level, earlier)
    return level


def falls(fall_db: float) -> list[tuple[int, float]]:
    """Return how far the rounds of `running_level` look back, in frames, and the factor by which a level falls there.

    After the last of them a level has fallen below `QUIETEST`.
    """
    shifts = [1]
    while shifts[-1] * fall_db < _RANGE_DB:
        shifts.append(2 * shifts[-1])
    return [(shift, 10 ** (-shift * fall_db / 10)) for shift in shifts]


@torch.no_grad()
def moments_of(logmel: LogMel, waveforms: Iterable[Tensor]) -> Tensor:
    """Return mean and deviation of each mel band over all frames of several waveforms, `(2, mel)` float32.

    Each waveform goes through `logmel` alone, so the result depends on no padding.

    Args:
        logmel: computes the features.
        waveforms: `(sample,)` float32 each; at least one.
    """
    device = logmel.filters.device
    count, total, squares = 0, torch.zeros((), device=device), torch.zeros((), device=device)
    for waveform in waveforms:
        features, _ = logmel(waveform[None].to(device), torch.tensor([len(waveform)], device=device))
        frames = features[0].double()
        count, total, squares = count + len(frames), total + frames.sum(0), squares + frames.square().sum(0)
    mean = total / count
    return torch.stack([mean, (squares / count - mean.square()).clamp_min(0).sqrt()]).float()


class Cmvn(nn.Module):
    """Cepstral-style mean and variance normalisation of each mel band; frames beyond the length become 0.

    `utterance` takes the moments of the utterance itself, which removes the channel and needs the whole recording;
    `speaker` takes given moments of all that the speaker says, which keeps what differs between his utterances;
    `global` takes those of the training set (`set_moments`), which also works while audio is still arriving.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mel_bins: int, mode: Literal["utterance", "speaker", "global"]) -> None:
        """Start with mean 0 and deviation 1."""
        super().__init__()
        self.mode = mode
        self.register_buffer("mean", torch.zeros(mel_bins))
        self.register_buffer("std", torch.ones(mel_bins))

    def set_moments(self, mean: Tensor, std: Tensor) -> None:
        """Store the training set's moments, each `(mel,)`."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(1e-3))

    def forward(self, features: Tensor, lengths: Tensor, moments: Tensor | None = None) -> Tensor:
        """Normalise features.

        Args:
            features: `(batch, frame, mel)`.
            lengths: `(batch,)` frames.
            moments: of each utterance's speaker, `(batch, 2, mel)` as `moments_of` returns them. Only the mode
                `speaker` takes them. Without them, the utterance is all that is known of its speaker.
        """
        valid = valid_frames(lengths, features.shape[1])[..., None]
        if self.mode == "speaker" and moments is not None:
            mean, std = moments[:, :1], moments[:, 1:]
            return ((features - mean) / std.clamp_min(1e-3)).where(valid, 0.0)
        if self.mode != "global":
            # float64: the order of a float32 sum depends on the padding, and its last digits would reach the result.
            count = lengths[:, None, None]
            mean = features.double().where(valid, 0.0).sum(1, keepdim=True) / count
            centred = (features - mean).where(valid, 0.0)
            std = (centred.square().sum(1, keepdim=True) / count).sqrt()
            return (centred / std.clamp_min(1e-3)).float()
        return ((features - self.mean) / self.std).where(valid, 0.0)


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """Return a `(batch, frame)` mask that is true within each utterance's length."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]
