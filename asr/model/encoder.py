"""A pretrained encoder in front: waveforms → the hidden states of its layers → features for the recurrent layers.

wav2vec 2.0, HuBERT, WavLM, XLS-R and MMS have one form: convolutions turn 400 samples (25 ms) every 320 samples (20 ms)
into a frame, and Transformer layers let each frame see all others. torchaudio has the parts. What is done here is the
order in which they are called, so that an utterance's hidden states do not depend on its neighbours in a batch:

* The group norm behind the first convolution of base models takes its mean and variance over time. Here they are those
  of the utterance's own frames.
* The waveform is normalised over the utterance's own samples, if the encoder was trained so.
* Frames beyond an utterance's end are 0 before the convolution that encodes positions, and no frame attends to them.

200 zeros, half of what a frame sees, are put before and behind a normalised waveform. So frame `i` is centred on sample
`320 · i`, as a log-mel frame is on a multiple of its hop, and the shortest recording has a frame.

Sources: Baevski et al. 2020, arXiv:2006.11477 (wav2vec 2.0); Hsu et al. 2021, arXiv:2106.07447 (HuBERT); Chen et al.
2022, arXiv:2110.13900 (WavLM); Yang et al. 2021, arXiv:2105.01051 (SUPERB, the mix of layers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from asr.errors import ModelError
from asr.machine import torchaudio_functional
from asr.model.logmel import valid_frames
from asr.records import Record, Text

WINDOW_SAMPLES = 400  # what a frame sees before the Transformer: 25 ms
_HOP_SAMPLES = 320  # from one frame to the next: 20 ms, `FeatureSettings.frame_ms`
NORMALISED_VARIANCE = 1e-7  # is added to the variance of a waveform, as transformers does

Size = Field(ge=1, le=1 << 16)
Share = Field(0.1, ge=0, lt=1)


class EncoderForm(Record):
    """The form of an encoder, in the words of transformers' `config.json`; `do_normalize` is of another file there."""

    model_type: Literal["wav2vec2", "hubert", "wavlm"]
    hidden_size: int = Size
    num_hidden_layers: int = Field(ge=1, le=200)
    num_attention_heads: int = Size
    intermediate_size: int = Size
    conv_dim: tuple[int, ...]
    conv_kernel: tuple[int, ...]
    conv_stride: tuple[int, ...]
    conv_bias: bool = False
    feat_extract_norm: Literal["group", "layer"] = "group"
    feat_extract_activation: Literal["gelu"] = "gelu"
    hidden_act: Literal["gelu"] = "gelu"
    num_conv_pos_embeddings: int = Field(128, ge=1, le=4096)
    num_conv_pos_embedding_groups: int = Field(16, ge=1, le=4096)
    do_stable_layer_norm: bool = False
    layer_norm_eps: float = 1e-5
    feat_proj_layer_norm: Literal[True] = True
    conv_pos_batch_norm: Literal[False] = False
    adapter_attn_dim: None = None
    num_buckets: int = Field(320, ge=4, le=1 << 16)
    max_bucket_distance: int = Field(800, ge=4, le=1 << 20)
    hidden_dropout: float = Share
    attention_dropout: float = Share
    activation_dropout: float = Share
    layerdrop: float = Share
    do_normalize: bool = True

    @model_validator(mode="after")
    def _is_consistent(self) -> EncoderForm:
        """Refuse sizes that do not fit each other, and frames of other times than the settings count with."""
        sizes = {len(self.conv_dim), len(self.conv_kernel), len(self.conv_stride)}
        if len(sizes) != 1 or not all(1 <= size <= 1 << 16 for size in (*self.conv_dim, *self.conv_kernel)):
            raise ValueError("conv_dim, conv_kernel and conv_stride are no list of convolutions")
        window, hop = 1, 1
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            window, hop = window + (kernel - 1) * hop, hop * stride
        if (window, hop) != (WINDOW_SAMPLES, _HOP_SAMPLES):
            raise ValueError(
                f"a frame sees {window} samples, {hop} after the last one; only encoders with {WINDOW_SAMPLES} and "
                f"{_HOP_SAMPLES} can be used"
            )
        if self.layer_norm_eps != 1e-5:
            raise ValueError(f"layer_norm_eps is {self.layer_norm_eps:g}; only encoders with 1e-05 can be used")
        if self.hidden_size % self.num_attention_heads or self.hidden_size % self.num_conv_pos_embedding_groups:
            raise ValueError("hidden_size is no multiple of num_attention_heads and num_conv_pos_embedding_groups")
        return self

    @property
    def states(self) -> int:
        """Hidden states of a frame: the input of the first layer, and the output of each."""
        return self.num_hidden_layers + 1

    def __str__(self) -> str:
        """Return the form in words, e.g. `wavlm, 12 layers × 768`."""
        return f"{self.model_type}, {self.num_hidden_layers} layers × {self.hidden_size}"


class EncoderIdentity(Record):
    """Which encoder a model was trained with; `name` is where it was found then."""

    name: Text
    form: EncoderForm
    checksum: Text

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.name} ({self.form}, checksum {self.checksum})"


class Encoder(nn.Module):
    """Waveforms → the hidden states of all layers. The names of its tensors are those of transformers."""

    def __init__(self, form: EncoderForm) -> None:
        """Build the network with random weights."""
        super().__init__()
        torchaudio_functional()  # its error says what to do if torchaudio does not load
        from torchaudio.models import wav2vec2_model, wavlm_model

        self.form = form
        build = cast(Callable[..., Any], wavlm_model if form.model_type == "wavlm" else wav2vec2_model)
        network = build(**_torchaudio_settings(form), aux_num_out=None)
        self.feature_extractor = network.feature_extractor
        self.feature_projection = network.encoder.feature_projection
        self.encoder = network.encoder.transformer
        # torchaudio's computes its weight anew in each pass, from a direction and a length.
        size, kernel = form.hidden_size, form.num_conv_pos_embeddings
        self.encoder.pos_conv_embed.conv = nn.Conv1d(
            size, size, kernel, padding=kernel // 2, groups=form.num_conv_pos_embedding_groups
        )

    def forward(self, waveforms: Tensor, lengths: Tensor, trained: Sequence[nn.Module] = ()) -> tuple[Tensor, Tensor]:
        """Return the hidden states of waveforms.

        Args:
            waveforms: `(batch, sample)` float32 in [-1, 1] at 16 kHz, padded at the end.
            lengths: `(batch,)` samples.
            trained: layers in place of the last ones of this encoder. Gradients flow through them only.

        Returns:
            `(batch, frame, state, width)`, and `(batch,)` frames, `samples // 320 + 1`.
        """
        beside = (WINDOW_SAMPLES // 2, WINDOW_SAMPLES // 2)
        samples = F.pad(self._normalised(waveforms.float(), lengths), beside)
        states, frames = self.hidden_states(samples, lengths + sum(beside), trained)
        return torch.stack(states, 2), frames

    def hidden_states(
        self, samples: Tensor, lengths: Tensor, trained: Sequence[nn.Module] = ()
    ) -> tuple[list[Tensor], Tensor]:
        """Return the hidden states that transformers' model has, if it sees each utterance alone.

        Args:
            samples: `(batch, sample)`, normalised if the encoder was trained so; 0 beyond the lengths.
            lengths: `(batch,)` samples, at least 400.
            trained: see `forward`.

        Returns:
            `form.states` tensors `(batch, frame, width)`, and `(batch,)` frames.
        """
        with torch.no_grad(), torch.autocast(samples.device.type, enabled=False):
            x, frames = self._convolved(samples, lengths)
            valid = valid_frames(frames, x.shape[1])
            x = torch.where(valid[..., None], self.feature_projection(x), 0.0)
            x = x + self.encoder.pos_conv_embed(x)
            if not self.form.do_stable_layer_norm:
                x = self.encoder.layer_norm(x)
            own = self.encoder.layers[: self.form.num_hidden_layers - len(trained)]
            states, bias = self._through(own, [x], valid, None)
        states, _ = self._through(trained, states, valid, bias)
        if self.form.do_stable_layer_norm:
            states[-1] = self.encoder.layer_norm(states[-1])
        return states, frames

    def _normalised(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Return waveforms of mean 0 and variance 1, if the encoder was trained so; 0 beyond the lengths."""
        valid = valid_frames(lengths, waveforms.shape[1])
        if not self.form.do_normalize:
            return torch.where(valid, waveforms, 0.0)
        # float64: the order of a float32 sum depends on the padding, and its last digits would reach the result.
        count = lengths[:, None].clamp_min(1)
        samples = torch.where(valid, waveforms, 0.0).double()
        centred = torch.where(valid, samples - samples.sum(1, keepdim=True) / count, 0.0)
        variance = centred.square().sum(1, keepdim=True) / count
        return (centred / (variance + NORMALISED_VARIANCE).sqrt()).float()

    def _convolved(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`(batch, sample)`, `(batch,)` → `(batch, frame, channel)`, `(batch,)`."""
        x = samples[:, None]
        for block in self.feature_extractor.conv_layers:
            x = block.conv(x)
            lengths = (lengths - block.kernel_size) // block.stride + 1
            if isinstance(block.layer_norm, nn.GroupNorm):
                x = _norm_over_time(x, lengths, block.layer_norm)
            elif block.layer_norm is not None:
                x = block.layer_norm(x)
            x = F.gelu(x)
        return x.transpose(1, 2), lengths

    def _through(
        self, layers: Sequence[nn.Module], states: list[Tensor], valid: Tensor, bias: Tensor | None
    ) -> tuple[list[Tensor], Tensor | None]:
        """Return the states with those of further layers, and WavLM's bias of positions, which its first layer makes.

        Args:
            layers: the layers.
            states: those so far, `(batch, frame, width)` each.
            valid: `(batch, frame)`.
            bias: of the layers before.
        """
        in_wavlm = self.form.model_type == "wavlm"
        mask = None if in_wavlm else valid[:, None, None, :].expand(-1, 1, valid.shape[1], -1)
        padding = torch.zeros_like(valid, dtype=states[-1].dtype).masked_fill(~valid, -math.inf) if in_wavlm else None
        x, states = states[-1], list(states)
        # WavLM's first layer numbers the frames: on the processor, if nothing else is said, and a GPU would wait.
        with torch.device(x.device) if in_wavlm else nullcontext():
            for layer in layers:
                if layer.training and torch.is_grad_enabled():
                    x, bias = _trained_pass(layer, x, mask, bias, padding, drop=self.form.layerdrop)
                else:
                    x, bias = layer(x, mask, bias, padding)
                states.append(x)
        return states, bias


def _trained_pass(
    layer: nn.Module,
    x: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    padding: Tensor | None,
    *,
    drop: float,
) -> tuple[Tensor, Tensor | None]:
    """Return a layer's output in training; an utterance skips the layer with the probability `drop`.

    What the layer computes within is not kept for the gradient but computed again. That takes a third more time, and
    far less memory. A skipped layer is computed all the same, so that each process of a run has gradients for the same
    weights.

    Source: Fan et al. 2019, arXiv:1909.11556 (layer drop); Chen et al. 2016, arXiv:1604.06174 (computing again).
    """
    y, bias = checkpoint(layer, x, mask, bias, padding, use_reentrant=False)
    kept = torch.rand(len(x), 1, 1, device=x.device) >= drop
    return torch.where(kept, y, x), bias


def _norm_over_time(x: Tensor, lengths: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Normalise each channel over the frames of the utterance alone: `(batch, channel, frame)`, which is overwritten.

    The sums are matrix products, which take no memory beside what they sum: this is the largest tensor of the encoder.
    """
    valid = valid_frames(lengths, x.shape[2]).to(x.dtype)[:, :, None]
    count = lengths[:, None, None]
    x = (x - torch.bmm(x, valid) / count).mul_(valid.transpose(1, 2))
    variance = torch.linalg.vector_norm(x, dim=2, keepdim=True).square() / count
    scale = norm.weight[:, None] / (variance + norm.eps).sqrt()
    return x.mul_(scale).add_(norm.bias[:, None])


class FrozenEncoder:
    """An encoder beside a network: its weights are in no checkpoint, no average and no model folder.

    Copies of the network share it.
    """

    def __init__(self, encoder: Encoder) -> None:
        """Keep an encoder, in evaluation mode and without gradients."""
        self._encoder = encoder.eval().requires_grad_(False)

    def on(self, device: torch.device) -> Encoder:
        """Return the encoder, moved to a device if it is elsewhere."""
        return self._encoder.to(device)

    def __deepcopy__(self, memo: object) -> FrozenEncoder:
        return self


def transformer_layers(form: EncoderForm, count: int) -> nn.ModuleList:
    """Return layers of the kind of an encoder's last `count` ones, with random weights.

    Raises:
        ModelError: the encoder has fewer.
    """
    if count > form.num_hidden_layers:
        raise ModelError(
            f"features.unfreeze_layers={count}: the encoder has {form.num_hidden_layers} layers; take at most as many"
        )
    if not count:
        return nn.ModuleList()
    # In WavLM the first layer has more weights than the others.
    fewer = form.model_copy(update={"num_hidden_layers": min(count + 1, form.num_hidden_layers)})
    layers: nn.ModuleList = Encoder(fewer).encoder.layers[fewer.num_hidden_layers - count :]
    return layers


class LayerMix(nn.Module):
    """Hidden states of all layers, normalised → features: a projection of their sum, with weights that add up to 1.

    Weights and projection are learnt. The projection is narrower than a hidden state, so that all that follows takes no
    longer than with log-mel.
    """

    def __init__(self, form: EncoderForm, bins: int) -> None:
        """Start with equal weights; a frame of the features has `bins` values."""
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(form.states))
        self.projection = nn.Linear(form.hidden_size, bins)

    def forward(self, states: Tensor) -> Tensor:
        """`(batch, frame, state, width)` → `(batch, frame, bin)`."""
        mixed: Tensor = self.projection(self.logits.softmax(0) @ states)
        return mixed


def normalised_states(states: Tensor) -> Tensor:
    """Return hidden states `(…, width)` with mean 0 and variance 1 over the width.

    Those of some layers are far larger than those of others, and would have all the weight in their mix.
    """
    return F.layer_norm(states, states.shape[-1:])


def _torchaudio_settings(form: EncoderForm) -> dict[str, Any]:
    """Return the form in the words of torchaudio."""
    of_wavlm = {"encoder_num_buckets": form.num_buckets, "encoder_max_distance": form.max_bucket_distance}
    return {
        "extractor_mode": f"{form.feat_extract_norm}_norm",
        "extractor_conv_layer_config": list(zip(form.conv_dim, form.conv_kernel, form.conv_stride, strict=True)),
        "extractor_conv_bias": form.conv_bias,
        "encoder_embed_dim": form.hidden_size,
        "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": form.num_conv_pos_embeddings,
        "encoder_pos_conv_groups": form.num_conv_pos_embedding_groups,
        "encoder_num_layers": form.num_hidden_layers,
        "encoder_num_heads": form.num_attention_heads,
        **(of_wavlm if form.model_type == "wavlm" else {}),
        "encoder_attention_dropout": form.attention_dropout,
        "encoder_ff_interm_features": form.intermediate_size,
        "encoder_ff_interm_dropout": form.activation_dropout,
        "encoder_dropout": form.hidden_dropout,
        "encoder_layer_norm_first": form.do_stable_layer_norm,
        "encoder_layer_drop": 0.0,
    }
