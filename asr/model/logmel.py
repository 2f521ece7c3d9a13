"""Waveform → log-mel features and their normalisation, as layers of the model.

Both live inside the network, so training, inference and export cannot disagree about them.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.config import FeatureSettings
from asr.machine import torchaudio_functional

# Energies below this are silence: log(1e-6) ≈ -13.8, about -60 dB below quiet speech of a full-scale recording.
LOG_FLOOR = 1e-6


class LogMel(nn.Module):
    """Natural log of mel-band energies.

    Hann window, power spectrum, Slaney-normalised triangular filters on the Slaney mel scale (librosa's defaults).
    Frame `i` is centred on sample `i · hop`; the signal is zero beyond both ends, so that zero padding in a batch
    changes no valid frame.

    Source: Davis & Mermelstein 1980 (mel bands); Slaney 1998, Auditory Toolbox (scale and normalisation).
    """

    window: Tensor
    filters: Tensor

    def __init__(self, settings: FeatureSettings) -> None:
        """Build window and filters for the settings' sample rate."""
        super().__init__()
        rate_hz = settings.sample_rate_hz
        self.hop_samples = round(settings.hop_ms * rate_hz / 1000)
        self.window_samples = round(settings.window_ms * rate_hz / 1000)
        self.fft_samples = 1 << (self.window_samples - 1).bit_length()
        # The window stands in the middle of the transform's samples: those left and right of it count nothing.
        left = (self.fft_samples - self.window_samples) // 2
        self._unused_samples = self.fft_samples - left - self.window_samples
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
        # Derived from the settings, hence not part of the saved weights.
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def frame_count(self, lengths: Tensor) -> Tensor:
        """Return the frames of waveforms of `lengths` samples."""
        return lengths // self.hop_samples + 1

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-mel features and their lengths.

        Args:
            waveforms: `(batch, sample)` float32 in [-1, 1]; samples beyond an utterance's length are ignored.
            lengths: `(batch,)` samples.

        Returns:
            `(batch, frame, mel)` float32 and `(batch,)` frames.
        """
        beyond = torch.arange(waveforms.shape[1], device=waveforms.device) >= lengths[:, None]
        half = self.fft_samples // 2
        padded = F.pad(waveforms.float().masked_fill(beyond, 0.0), (half, half))
        return self._log_mel(padded), self.frame_count(lengths)

    def start(self) -> Tensor:
        """Return what `step` takes before a waveform's first sample: the zeros that precede it, `(1, sample)`."""
        return self.window.new_zeros(1, self.fft_samples // 2)

    def step(self, samples: Tensor, waiting: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        """Continue where the last call ended. The results of all calls, joined, are `forward` of the whole waveform.

        Args:
            samples: `(1, sample)` float32, the next ones.
            waiting: samples that later frames need, from the last call or `start`.
            last: whether the waveform ends with them.

        Returns:
            `(1, frame, mel)`, the frames that are known by now, and the samples that wait.
        """
        samples = torch.cat([waiting, samples], 1)
        # A frame is known once its window is full. What follows the window may be zeros instead of the audio to come.
        padded = F.pad(samples, (0, self.fft_samples // 2 if last else self._unused_samples))
        frames = max((padded.shape[1] - self.fft_samples) // self.hop_samples + 1, 0)
        waiting = samples[:, frames * self.hop_samples :]
        if frames == 0:
            return samples.new_zeros(1, 0, self.filters.shape[1]), waiting
        return self._log_mel(padded), waiting

    def _log_mel(self, samples: Tensor) -> Tensor:
        """`(batch, sample)` → `(batch, frame, mel)`; the first frame's window begins at the first sample."""
        spectrum = torch.stft(
            samples,
            self.fft_samples,
            hop_length=self.hop_samples,
            window=self.window,
            center=False,
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power.transpose(1, 2) @ self.filters
        return mel.clamp_min(LOG_FLOOR).log()


class Cmvn(nn.Module):
    """Cepstral-style mean and variance normalisation of each mel band; frames beyond the length become 0.

    `utterance` takes the moments of the utterance itself, which removes the channel and needs the whole recording;
    `global` takes those of the training set (`set_moments`), which also works while audio is still arriving.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mel_bins: int, mode: Literal["utterance", "global"]) -> None:
        """Start with mean 0 and deviation 1."""
        super().__init__()
        self.mode = mode
        self.register_buffer("mean", torch.zeros(mel_bins))
        self.register_buffer("std", torch.ones(mel_bins))

    def set_moments(self, mean: Tensor, std: Tensor) -> None:
        """Store the training set's moments, each `(mel,)`."""
        self.mean.copy_(mean)
        self.std.copy_(std.clamp_min(1e-3))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Normalise `(batch, frame, mel)`; `lengths` are `(batch,)` frames."""
        valid = valid_frames(lengths, features.shape[1])[..., None]
        if self.mode == "utterance":
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
