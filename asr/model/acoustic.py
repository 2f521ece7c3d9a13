"""The acoustic model: waveform → log-mel → subsampling → recurrent (or Conformer) layers → log-posteriors of tokens.

With the default settings, ten seconds of audio go through it like this:

    waveforms          (1, 160000)     samples at 16 kHz
    log-mel            (1, 1001, 80)   a frame every 10 ms
    subsampling        (1, 251, 512)   a frame every 40 ms
    recurrent layers   (1, 251, 512)   256 units in each direction
    log-posteriors     (1, 251, 29)    with 29 tokens: blank, space, apostrophe and a to z

A pretrained encoder may take the place of log-mel (`encoder.py`): a mix of its hidden states is projected, and
normalised over the utterance, as log-mel is.

A network with one direction also reads a recording block by block. Each part of it waits for a little of what follows:
the spectrum for a full window of samples, the subsampling for log-mel frames, the look-ahead for output frames. The
state keeps what has arrived but cannot be used yet, so its size does not grow. The hidden states sum up everything
before:

    samples ─→ log-mel ─→ subsampling ─→ recurrent layers ─→ look-ahead ─→ log-posteriors
       └ waiting  └ waiting                  └ hidden states     └ waiting
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asr.config import Config, ModelSettings
from asr.errors import ModelError, ShapeError
from asr.model.bptt import in_windows
from asr.model.conformer import ConformerLayer
from asr.model.encoder import Encoder, EncoderIdentity, FrozenEncoder, LayerMix, normalised_states, transformer_layers
from asr.model.logmel import Cmvn, LogMel, LogMelState
from asr.model.rnn import Dropout, LookAhead, RecurrentLayer, State, layout_of
from asr.model.subsampling import Subsampling, output_frames

# Maps normalised features `(batch, frame, mel)` and lengths to perturbed ones; the batch may grow (several views).
Augment = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class StreamState:
    """What `AcousticModel.step` carries from one block of a recording to the next. The batch is 1 everywhere.

    Attributes:
        logmel: samples that wait for the spectrum's window to fill, and the level so far.
        features: `(1, frame, mel)`, wait for the subsampling's window to fill.
        layers: one hidden state per layer; empty before the first output frame.
        outputs: `(1, frame, width)` of the last layer, wait for the frames that the look-ahead needs.
    """

    logmel: LogMelState
    features: Tensor
    layers: tuple[State, ...]
    outputs: Tensor


class AcousticModel(nn.Module):
    """Waveforms → log-posteriors of the CTC tokens. Features and normalisation are layers of the network."""

    def __init__(self, config: Config, token_count: int, encoder: EncoderIdentity | None = None) -> None:
        """Build the network.

        Args:
            config: feature and model settings.
            token_count: number of tokens, the blank included.
            encoder: which encoder the features are of, if `config.features` names one; `attach` brings the encoder.

        Raises:
            ModelError: the encoder is not said, or none is named, or more of its layers are to be trained than it has.
        """
        super().__init__()
        settings = config.model
        width = encoder_width(settings)
        if bool(config.features.encoder) != (encoder is not None):
            raise ModelError(f"features.encoder={config.features.encoder!r} does not fit the encoder of the model")
        self.logmel = LogMel(config.features)  # with an encoder it counts frames and no more
        self.encoder_identity = encoder
        self.encoder: FrozenEncoder | None = None
        bins = config.features.mel_bins
        if encoder is not None:
            bins = min(encoder.form.hidden_size, width // 2)
            self.mix = LayerMix(encoder.form, bins)
            self.encoder_layers = transformer_layers(encoder.form, config.features.unfreeze_layers)
        self.cmvn = Cmvn(bins, config.features.cmvn)
        self.subsampling = Subsampling(
            bins,
            config.frames_joined,
            settings.subsampling_channels if encoder is None else bins,
            width,
            over_frequency=encoder is None,
        )
        self.dropout = Dropout(settings.dropout)
        self.layers = nn.ModuleList(make_layer(settings, width) for _ in range(settings.layers))
        ahead = settings.lookahead_frames
        self.lookahead = LookAhead(width, ahead, dropout=settings.dropout) if ahead else None
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, token_count)
        self._sees_whole_utterance = settings.sees_whole_utterance
        self._both_directions = settings.encoder == "recurrent" and settings.bidirectional
        self.sample_rate_hz = config.features.sample_rate_hz
        self.frame_samples = self.subsampling.factor * self.logmel.hop_samples
        self.frame_shift_s = self.frame_samples / self.sample_rate_hz

    def attach(self, encoder: Encoder, *, fresh: bool = False) -> None:
        """Put a pretrained encoder in front.

        Args:
            encoder: of the form that the network was built for. Layers that are trained are taken out of it.
            fresh: whether training begins: the layers that are trained start as the encoder's.

        Raises:
            ModelError: the encoder is of another form.
        """
        if self.encoder_identity is None or encoder.form != self.encoder_identity.form:
            raise ModelError(f"the model needs the encoder {self.encoder_identity}, not one of the form {encoder.form}")
        trained = len(self.encoder_layers)
        if trained:
            layers = encoder.encoder.layers
            if fresh:
                self.encoder_layers.load_state_dict(layers[len(layers) - trained :].state_dict())
            encoder.encoder.layers = layers[: len(layers) - trained]
        self.encoder = FrozenEncoder(encoder)

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        augment: Augment | None = None,
        *,
        moments: Tensor | None = None,
        known_frames: Sequence[int] | None = None,
        bptt_frames: int | None = None,
        intermediate: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return log-posteriors and their lengths.

        Args:
            waveforms: `(batch, sample)` float32 in [-1, 1] at `sample_rate_hz`, padded at the end. Or the hidden states
                that an encoder has of them, normalised: `(batch, frame, state, width)`.
            lengths: `(batch,)` int64 samples, or frames of the hidden states.
            augment: perturbs the normalised features (training only).
            moments: of the speakers, see `Cmvn.forward`.
            known_frames, bptt_frames, intermediate: see `encode`.

        Returns:
            `(batch, frame, token)` float32, natural log, and `(batch,)` int64 frames. Frame `i` is centred on second
            `i · frame_shift_s`.

        Raises:
            ShapeError: lengths do not fit the waveforms.
        """
        if waveforms.ndim not in (2, 4) or lengths.shape != waveforms.shape[:1]:
            raise ShapeError(f"waveforms {tuple(waveforms.shape)} and lengths {tuple(lengths.shape)} do not fit")
        features, frames = self.features(waveforms, lengths, moments)
        if augment is not None:
            features, frames = augment(features, frames)
        return self.encode(
            features, frames, known_frames=known_frames, bptt_frames=bptt_frames, intermediate=intermediate
        )

    def features(self, waveforms: Tensor, lengths: Tensor, moments: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return normalised features `(batch, frame, mel)` and `(batch,)` frames.

        Args:
            waveforms, lengths, moments: see `forward`.

        Raises:
            ModelError: the model has no encoder in front, and this is audio.
        """
        if self.encoder_identity is None:
            with torch.autocast(waveforms.device.type, enabled=False):  # spectra need float32's range
                features, frames = self.logmel(waveforms, lengths)
                return self.cmvn(features, frames, moments), frames
        states, frames = waveforms, lengths
        if waveforms.ndim == 2:
            if self.encoder is None:
                raise ModelError("the model's encoder is missing: it was trained from stored features; load it anew")
            states, frames = self.encoder.on(waveforms.device)(waveforms, lengths, self.encoder_layers)
            states = normalised_states(states)
        with torch.autocast(waveforms.device.type, enabled=False):
            return self.cmvn(self.mix(states.float()), frames), frames

    def encode(
        self,
        features: Tensor,
        lengths: Tensor,
        *,
        known_frames: Sequence[int] | None = None,
        bptt_frames: int | None = None,
        intermediate: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return log-posteriors `(batch, frame, token)` of normalised features, and `(batch,)` frames.

        Args:
            features: `(batch, frame, mel)`.
            lengths: `(batch,)` frames.
            known_frames: the lengths as numbers, if the host knows them; otherwise a GPU is asked once, which waits for
                it.
            bptt_frames: compute in windows of this many output frames; no gradient flows from one window to the one
                before it (`asr.model.bptt`). Only for recurrent layers with one direction. The log-posteriors are the
                same.
            intermediate: also return the log-posteriors of the middle layer, appended along the batch:
                `(2·batch, frame, token)`. They come from the same output layer (intermediate CTC; Lee & Watanabe 2021,
                arXiv:2102.03216). The lengths stay `(batch,)`.
        """
        frames = self.subsampling.frame_count(features.shape[1])
        if bptt_frames is not None and bptt_frames < frames:
            log_posteriors = in_windows(
                partial(self.encode_window, intermediate=intermediate), features, lengths, frames, bptt_frames
            )
            return log_posteriors, self.subsampling.frame_count(lengths)
        x, lengths = self.subsampling(features, lengths)
        x = self.dropout(x)
        factor = self.subsampling.factor
        known = None if known_frames is None else [output_frames(count, factor) for count in known_frames]
        layout = layout_of(lengths, x.shape[1], known) if self._both_directions else None
        outputs = [x := layer(x, lengths, layout) for layer in self.layers]
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
        beyond = min(stop + self.lookahead_frames, self.subsampling.frame_count(features.shape[1]))
        x, lengths = self.subsampling.window(features, lengths, start, beyond)
        x = self.dropout(x)
        size = stop - start
        outputs, after = self._recurrent(x[:, :size], lengths - start, states)
        if beyond > stop:
            # The look-ahead sees the first frames of the next window, which starts from the state at `stop`.
            ahead, _ = self._recurrent(x[:, size:], lengths - stop, after)
            outputs = [torch.cat(pair, 1) for pair in zip(outputs, ahead, strict=True)]
        return self._log_posteriors(outputs, intermediate)[:, :size], after

    def _recurrent(
        self, x: Tensor, lengths: Tensor, states: Sequence[State] | None
    ) -> tuple[list[Tensor], tuple[State, ...]]:
        """Return each layer's output of consecutive frames, and the states after them; see `RecurrentLayer.window`."""
        outputs: list[Tensor] = []
        after: list[State] = []
        for index, layer in enumerate(self.layers):
            x, state = cast(RecurrentLayer, layer).window(x, lengths, states[index] if states else None)
            outputs.append(x)
            after.append(state)
        return outputs, tuple(after)

    def _log_posteriors(self, outputs: list[Tensor], intermediate: bool) -> Tensor:
        """`(batch, frame, width)` of each layer → log-posteriors of the last, and of the middle one if wanted."""
        x = outputs[-1] if self.lookahead is None else self.lookahead(outputs[-1])
        if intermediate:
            x = torch.cat([x, outputs[(len(outputs) - 1) // 2]])
        return self._classified(x)

    def _classified(self, x: Tensor) -> Tensor:
        log_posteriors: Tensor = self.output(self.norm(x)).float().log_softmax(-1)
        return log_posteriors

    def start(self) -> StreamState:
        """Return the state before the first sample of a recording that arrives in blocks.

        Raises:
            ModelError: the network needs the whole utterance: it has two directions, or normalises by the utterance.
        """
        if not self.streams:
            raise ModelError(
                "this model needs whole utterances; one that reads audio as it arrives is trained with "
                "model.encoder=recurrent model.bidirectional=false features.cmvn=global and without features.encoder, "
                "and is more exact with model.lookahead_frames=8 or so"
            )
        zeros = self.output.weight.new_zeros
        mel_bins = self.logmel.filters.shape[1]
        return StreamState(self.logmel.start(), zeros(1, 0, mel_bins), (), zeros(1, 0, self.output.in_features))

    @torch.inference_mode()
    def step(self, samples: Tensor, state: StreamState, *, last: bool = False) -> tuple[Tensor, StreamState]:
        """Return the log-posteriors that are known by now, and the state for the next call.

        The log-posteriors of all blocks, joined, equal `forward` of the whole recording.

        Args:
            samples: `(sample,)` float32 in [-1, 1], the next ones; may be empty.
            state: from `start` or from the call before.
            last: whether the recording ends here; no call may follow.

        Returns:
            `(frame, token)` float32, natural log. A frame is returned once `lookahead_s` of audio after its centre has
            arrived.
        """
        features, logmel = self.logmel.step(samples[None], state.logmel, last=last)
        features = self.cmvn(features, torch.full((1,), features.shape[1], device=features.device))
        x, waiting_features = self.subsampling.step(features, state.features, last=last)
        layers = state.layers
        if x.shape[1]:
            outputs, layers = self._recurrent(x, torch.full((1,), x.shape[1], device=x.device), layers)
            x = outputs[-1]
        waiting = state.outputs
        if self.lookahead is not None:
            x, waiting = self.lookahead.step(x, waiting, last=last)
        return self._classified(x)[0], StreamState(logmel, waiting_features, layers, waiting)

    @property
    def streams(self) -> bool:
        """Whether the model can read a recording block by block, with `start` and `step`."""
        return not self._sees_whole_utterance and self.cmvn.mode == "global"

    @property
    def lookahead_frames(self) -> int:
        """Output frames to come that an output frame looks at."""
        return 0 if self.lookahead is None else self.lookahead.frames

    @property
    def lookahead_s(self) -> float:
        """Seconds of audio after a frame's centre that the frame depends on, in a network with one direction."""
        log_mel_frames = self.subsampling.factor * (1 + self.lookahead_frames) - 1
        return (log_mel_frames * self.logmel.hop_samples + self.logmel.window_samples // 2) / self.sample_rate_hz

    def frame_count(self, lengths: Tensor) -> Tensor:
        """Return the output frames of waveforms of `lengths` samples, both `(batch,)`."""
        return self.subsampling.frame_count(self.logmel.frame_count(lengths))

    @property
    def parameter_count(self) -> int:
        """Trained numbers in the model."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def receptive_field_s(self) -> float:
        """Seconds of audio behind one output frame before the recurrent layers carry the rest."""
        frames, logmel = self.subsampling.receptive_frames, self.logmel
        return ((frames - 1) * logmel.hop_samples + logmel.window_samples) / self.sample_rate_hz


def encoder_width(settings: ModelSettings) -> int:
    """Return the width of the layers' input and output: all directions of a recurrent layer together."""
    both = settings.encoder == "recurrent" and settings.bidirectional
    return settings.hidden_size * (2 if both else 1)


def make_layer(settings: ModelSettings, width: int) -> nn.Module:
    """Return one layer, called with `(batch, frame, width)`, lengths and their `layout_of`."""
    if settings.encoder == "conformer":
        return ConformerLayer(width, dropout=settings.dropout)
    return RecurrentLayer(settings.rnn, width, bidirectional=settings.bidirectional, dropout=settings.dropout)


def on_cpu(log_posteriors: Tensor, lengths: Tensor) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return `(batch, frame, token)` log-posteriors and `(batch,)` lengths as `asr/decoding/` takes them."""
    return log_posteriors.detach().float().cpu().numpy(), lengths.cpu().numpy()
