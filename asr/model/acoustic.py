"""The acoustic model: waveform → log-mel → subsampling → recurrent layers → log-posteriors of tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from asr.config import Config
from asr.errors import ShapeError
from asr.features.logmel import Cmvn, LogMel
from asr.model.rnn import RecurrentLayer, reversal_index
from asr.model.subsampling import Subsampling

# Maps normalised features `(batch, frame, mel)` and lengths to perturbed ones; the batch may grow (several views).
Augment = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class AcousticModel(nn.Module):
    """Waveforms in, log-posteriors of the CTC tokens out; features and normalisation are layers of it."""

    def __init__(self, config: Config, token_count: int) -> None:
        """Build the network; `token_count` includes the blank."""
        super().__init__()
        settings = config.model
        width = settings.hidden_size * (2 if settings.bidirectional else 1)
        self.logmel = LogMel(config.features)
        self.cmvn = Cmvn(config.features.mel_bins, config.features.cmvn)
        self.subsampling = Subsampling(
            config.features.mel_bins, settings.subsampling, settings.subsampling_channels, width
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(
            RecurrentLayer(settings.rnn, width, bidirectional=settings.bidirectional, dropout=settings.dropout)
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, token_count)
        self.sample_rate_hz = config.features.sample_rate_hz
        self.frame_shift_s = settings.subsampling * self.logmel.hop_samples / self.sample_rate_hz

    def forward(self, waveforms: Tensor, lengths: Tensor, augment: Augment | None = None) -> tuple[Tensor, Tensor]:
        """Return log-posteriors and their lengths.

        Args:
            waveforms: `(batch, sample)` float32 in [-1, 1] at `sample_rate_hz`, padded at the end.
            lengths: `(batch,)` int64 samples.
            augment: perturbs the normalised features (training only).

        Returns:
            `(batch, frame, token)` float32, natural log, and `(batch,)` int64 frames. Frame `i` is centred on second
            `i · frame_shift_s`.

        Raises:
            ShapeError: lengths do not fit the waveforms.
        """
        if waveforms.ndim != 2 or lengths.shape != waveforms.shape[:1]:
            raise ShapeError(f"waveforms {tuple(waveforms.shape)} and lengths {tuple(lengths.shape)} do not fit")
        with torch.autocast(waveforms.device.type, enabled=False):  # spectra need float32's range
            features, frames = self.features(waveforms, lengths)
        if augment is not None:
            features, frames = augment(features, frames)
        return self.encode(features, frames)

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised log-mel features `(batch, frame, mel)` and `(batch,)` frames."""
        features, frames = self.logmel(waveforms, lengths)
        return self.cmvn(features, frames), frames

    def encode(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-posteriors `(batch, frame, token)` of normalised features, and `(batch,)` frames."""
        x, lengths = self.subsampling(features, lengths)
        x = self.dropout(x)
        reversal = reversal_index(lengths, x.shape[1])
        for layer in self.layers:
            x = layer(x, lengths, reversal)
        return self.output(self.norm(x)).float().log_softmax(-1), lengths

    def frame_count(self, lengths: Tensor) -> Tensor:
        """Return the output frames of waveforms of `lengths` samples."""
        return self.subsampling.frame_count(self.logmel.frame_count(lengths))

    @property
    def parameter_count(self) -> int:
        """Trained numbers in the model."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def receptive_field_s(self) -> float:
        """Seconds of audio behind one output frame before the recurrent layers carry the rest."""
        frames, logmel = self.subsampling.receptive_frames, self.logmel
        return ((frames - 1) * logmel.hop_samples + logmel.fft_samples) / self.sample_rate_hz
