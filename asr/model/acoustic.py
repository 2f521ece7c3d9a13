"""The acoustic model: waveform → log-mel → subsampling → recurrent (or Conformer) layers → log-posteriors of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from asr.config import Config, ModelSettings
from asr.errors import ShapeError
from asr.features.logmel import Cmvn, LogMel
from asr.model.bptt import in_windows
from asr.model.conformer import ConformerLayer
from asr.model.rnn import RecurrentLayer, State, reversal_index
from asr.model.subsampling import Subsampling

# Maps normalised features `(batch, frame, mel)` and lengths to perturbed ones; the batch may grow (several views).
Augment = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class AcousticModel(nn.Module):
    """Waveforms in, log-posteriors of the CTC tokens out; features and normalisation are layers of it."""

    def __init__(self, config: Config, token_count: int) -> None:
        """Build the network; `token_count` includes the blank."""
        super().__init__()
        settings = config.model
        width = encoder_width(settings)
        self.logmel = LogMel(config.features)
        self.cmvn = Cmvn(config.features.mel_bins, config.features.cmvn)
        self.subsampling = Subsampling(
            config.features.mel_bins, settings.subsampling, settings.subsampling_channels, width
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(make_layer(settings, width) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, token_count)
        self.sample_rate_hz = config.features.sample_rate_hz
        self.frame_shift_s = settings.subsampling * self.logmel.hop_samples / self.sample_rate_hz

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        augment: Augment | None = None,
        *,
        bptt_frames: int | None = None,
        intermediate: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return log-posteriors and their lengths.

        Args:
            waveforms: `(batch, sample)` float32 in [-1, 1] at `sample_rate_hz`, padded at the end.
            lengths: `(batch,)` int64 samples.
            augment: perturbs the normalised features (training only).
            bptt_frames: see `encode`.
            intermediate: see `encode`.

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
        return self.encode(features, frames, bptt_frames=bptt_frames, intermediate=intermediate)

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised log-mel features `(batch, frame, mel)` and `(batch,)` frames."""
        features, frames = self.logmel(waveforms, lengths)
        return self.cmvn(features, frames), frames

    def encode(
        self, features: Tensor, lengths: Tensor, *, bptt_frames: int | None = None, intermediate: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return log-posteriors `(batch, frame, token)` of normalised features, and `(batch,)` frames.

        Args:
            features: `(batch, frame, mel)`.
            lengths: `(batch,)` frames.
            bptt_frames: go in windows of so many output frames, across which no gradient flows (`asr.model.bptt`); for
                recurrent layers with one direction. The log-posteriors are the same.
            intermediate: append those of the middle layer, through the same output layer, along the batch (intermediate
                CTC; Lee & Watanabe 2021, arXiv:2102.03216): `(2·batch, frame, token)`. The lengths stay `(batch,)`.
        """
        frames = self.subsampling.frame_count(features.shape[1])
        if bptt_frames is not None and bptt_frames < frames:
            log_posteriors = in_windows(
                partial(self.encode_window, intermediate=intermediate), features, lengths, frames, bptt_frames
            )
            return log_posteriors, self.subsampling.frame_count(lengths)
        x, lengths = self.subsampling(features, lengths)
        x = self.dropout(x)
        reversal = reversal_index(lengths, x.shape[1])
        outputs = [x := layer(x, lengths, reversal) for layer in self.layers]
        return self._log_posteriors(outputs, intermediate), lengths

    def encode_window(
        self,
        features: Tensor,
        lengths: Tensor,
        start: int,
        stop: int,
        states: Sequence[State] | None,
        *,
        intermediate: bool = False,
    ) -> tuple[Tensor, Sequence[State]]:
        """Return output frames `start` to `stop` (exclusive) of `encode`, and the layers' states after them.

        Args:
            features: `(batch, frame, mel)`, all of them.
            lengths: `(batch,)` frames.
            start: output frame at which the window begins.
            stop: output frame before which it ends.
            states: of the layers at the window's start; None at frame 0.
            intermediate: see `encode`.

        Returns:
            `(batch, stop - start, token)` and one state a layer.
        """
        x, lengths = self.subsampling.window(features, lengths, start, stop)
        x = self.dropout(x)
        outputs: list[Tensor] = []
        after: list[State] = []
        for index, layer in enumerate(self.layers):
            recurrent = cast(RecurrentLayer, layer)
            x, state = recurrent.window(x, lengths - start, states[index] if states else None)
            outputs.append(x)
            after.append(state)
        return self._log_posteriors(outputs, intermediate), after

    def _log_posteriors(self, outputs: list[Tensor], intermediate: bool) -> Tensor:
        """`(batch, frame, width)` of each layer → log-posteriors of the last, and of the middle one if wanted."""
        x = torch.cat([outputs[-1], outputs[(len(outputs) - 1) // 2]]) if intermediate else outputs[-1]
        log_posteriors: Tensor = self.output(self.norm(x)).float().log_softmax(-1)
        return log_posteriors

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


def encoder_width(settings: ModelSettings) -> int:
    """Return the width of the layers' input and output: all directions of a recurrent layer together."""
    both = settings.encoder == "recurrent" and settings.bidirectional
    return settings.hidden_size * (2 if both else 1)


def make_layer(settings: ModelSettings, width: int) -> nn.Module:
    """Return one layer, called with `(batch, frame, width)`, lengths and their `reversal_index`."""
    if settings.encoder == "conformer":
        return ConformerLayer(width, dropout=settings.dropout)
    return RecurrentLayer(settings.rnn, width, bidirectional=settings.bidirectional, dropout=settings.dropout)
