"""The Conformer layer: self-attention and convolution in place of recurrence. The yardstick, not the subject.

A frame sees all others at once (attention), its neighbours (a depthwise convolution) and itself (two feed-forward
halves around them). Nothing is carried from frame to frame, so all frames are computed in parallel.

The weights and parts are those of torchaudio's layer, but not its `forward`: its convolution reads padded frames, and
its group norm takes the moments over them, so there an utterance's result depends on the longest one in its batch.
Here both see an utterance's own frames only; on an utterance alone the two are equal.

There is no positional encoding, as in torchaudio's: the order of the frames is known from the convolutions.

Source: Gulati et al. 2020, arXiv:2005.08100.
"""

from __future__ import annotations

import torch
import torchaudio.models.conformer
from torch import Tensor, nn

from asr.errors import ConfigError
from asr.model.logmel import valid_frames
from asr.model.rnn import Layout

HEADS = 4
KERNEL_FRAMES = 31
# 4, as in the paper: a layer of width n then has about 23 n² weights, near the 24 n² of a bidirectional LSTM layer
# of n units in each direction. So `model.layers` and `model.hidden_size` give either encoder about the same size.
FEED_FORWARD_RATIO = 4


class ConformerLayer(torchaudio.models.conformer.ConformerLayer):  # type: ignore[misc]
    """One layer: half a feed-forward step, attention, convolution, half a feed-forward step, each with a residual."""

    def __init__(self, width: int, *, dropout: float) -> None:
        """`width` is that of input and output.

        Raises:
            ConfigError: the attention heads cannot share `width` evenly.
        """
        if width % HEADS:
            raise ConfigError(f"model.hidden_size: a conformer needs a multiple of {HEADS} (its heads), not {width}")
        super().__init__(width, FEED_FORWARD_RATIO * width, HEADS, KERNEL_FRAMES, dropout, use_group_norm=True)

    def forward(self, x: Tensor, lengths: Tensor, layout: Layout | None = None) -> Tensor:
        """Return `(batch, frame, width)`, zero beyond each length.

        Args:
            x: `(batch, frame, width)`.
            lengths: `(batch,)` frames.
            layout: not used; a `RecurrentLayer` takes it, and both are called alike.
        """
        valid = valid_frames(lengths, x.shape[1])
        # In bfloat16 attention rounds sums over all frames of the batch's longest utterance: an utterance's
        # log-posteriors would depend on its neighbours by up to 0.1.
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            x = x + 0.5 * self.ffn1(x)
            x = x + self._attend(x, valid)
            x = x + self._convolve(x, valid)
            x = x + 0.5 * self.ffn2(x)
            result: Tensor = self.final_layer_norm(x) * valid[..., None]
        return result

    def _attend(self, x: Tensor, valid: Tensor) -> Tensor:
        y = self.self_attn_layer_norm(x).transpose(0, 1)
        y, _ = self.self_attn(y, y, y, key_padding_mask=~valid, need_weights=False)
        attended: Tensor = self.self_attn_dropout(y).transpose(0, 1)
        return attended

    def _convolve(self, x: Tensor, valid: Tensor) -> Tensor:
        expand, gate, depthwise, norm, activation, contract, dropout = self.conv_module.sequential
        y = gate(expand(self.conv_module.layer_norm(x).transpose(1, 2)))
        y = depthwise(y * valid[:, None])
        y = activation(normalise_utterances(y, valid, norm))
        convolved: Tensor = dropout(contract(y)).transpose(1, 2)
        return convolved


def normalise_utterances(x: Tensor, valid: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Apply a group norm of one group to `(batch, channel, frame)`, each utterance by the moments of its own frames.

    Args:
        x: `(batch, channel, frame)`.
        valid: `(batch, frame)`, true within each utterance.
        norm: its weights, `(channel,)`, and its epsilon.

    Source: Wu & He 2018, arXiv:1803.08494.
    """
    valid = valid[:, None]
    count = valid.sum(2, keepdim=True) * x.shape[1]
    x = x.float().where(valid, 0.0)  # moments need float32's digits, also where the network runs in bfloat16
    centred = (x - x.sum((1, 2), keepdim=True) / count).where(valid, 0.0)
    variance = centred.square().sum((1, 2), keepdim=True) / count
    return centred * (variance + norm.eps).rsqrt() * norm.weight[:, None] + norm.bias[:, None]
