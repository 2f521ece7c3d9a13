"""What a network learns from audio without transcripts: to predict what it does not hear.

* A network that sees the whole utterance gets noise in place of some spans. For each hidden output frame it predicts
  the codes of the log-mel frames that were there. The codes come from a quantiser that is drawn at random and never
  trained: masked prediction (BEST-RQ; Chiu et al. 2022, arXiv:2202.01855).
* A network with one direction hears everything. At each output frame it predicts the log-mel frames of a later one,
  which it has not heard: autoregressive prediction (APC; Chung et al. 2019, arXiv:1904.03240).

Frames beyond an utterance's end are never predicted. The layers that predict are thrown away afterwards: `Trunk` is
what a recogniser starts from.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.config import Config
from asr.features.augment import Perturbation
from asr.features.hidden_spans import HiddenSpans
from asr.model.acoustic import AcousticModel, encoder_width

CODE_SIZE = 16  # numbers of a projected frame and of a codebook's vector, as in BEST-RQ


class Trunk(AcousticModel):
    """The network of a recogniser without its output layer: `encode` returns `(batch, frame, width)`, normalised."""

    def __init__(self, config: Config) -> None:
        """Build the network."""
        super().__init__(config, 1)
        del self.output

    def _classified(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x)).float()


class RandomProjectionQuantiser(nn.Module):
    """Frames → codes: the frame is projected at random, and the code is the number of the nearest random vector.

    Both the projection and the vector are on the unit sphere when they are compared. Nothing of it is trained.

    Source: Chiu et al. 2022, arXiv:2202.01855.
    """

    projections: Tensor
    codebooks: Tensor

    def __init__(self, values: int, codebooks: int, codebook_size: int, seed: int) -> None:
        """Draw projections of `values` numbers, and codebooks, by `seed`; the buffers are part of the weights."""
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        bound = math.sqrt(6 / (values + CODE_SIZE))  # Xavier's
        with torch.device("cpu"):
            projections = bound * (2 * torch.rand(codebooks, values, CODE_SIZE, generator=draw) - 1)
            vectors = torch.randn(codebooks, codebook_size, CODE_SIZE, generator=draw)
        self.register_buffer("projections", projections)
        self.register_buffer("codebooks", F.normalize(vectors, dim=-1))

    def forward(self, frames: Tensor) -> Tensor:
        """Return the codes `(…, codebook)` int64 of frames `(…, value)`."""
        projected = torch.einsum("...v,kvd->...kd", frames, self.projections)
        # Of unit vectors, the nearest has the largest inner product; the length of the projection does not matter.
        return torch.einsum("...kd,ksd->...ks", projected, self.codebooks).argmax(-1)


class PretrainingModel(nn.Module):
    """A network with a layer that predicts, and what it is compared with."""

    def __init__(self, config: Config) -> None:
        """Build the network; the quantiser's numbers depend on `training.seed` alone."""
        super().__init__()
        settings = config.pretraining
        self.network = Trunk(config)
        self.factor = config.model.subsampling
        self.codebooks = settings.codebooks
        self.ahead = settings.ahead_frames + config.model.lookahead_frames
        values, width = self.factor * config.features.mel_bins, encoder_width(config.model)
        self.quantiser: RandomProjectionQuantiser | None = None
        if config.model.sees_whole_utterance:
            size = settings.codebook_size
            self.quantiser = RandomProjectionQuantiser(values, settings.codebooks, size, config.training.seed)
            self.head = nn.Linear(width, settings.codebooks * size)
        else:
            self.head = nn.Linear(width, values)

    def forward(self, waveforms: Tensor, lengths: Tensor, view: Perturbation, moments: Tensor | None = None) -> Tensor:
        """Return sums over the predicted frames of each utterance, `(batch, 3)`: losses, hits, number of frames.

        A loss is the cross entropy in nats, the mean over codebooks, and a hit the share of codebooks whose code has
        the highest probability. In autoregressive prediction a loss is the mean absolute error of normalised log-mel,
        and there are no hits.

        Args:
            waveforms: `(batch, sample)` float32 in [-1, 1], padded at the end.
            lengths: `(batch,)` int64 samples.
            view: what happens to the features, from `draw_pretraining_view`.
            moments: of the speakers, see `Cmvn.forward`.
        """
        with torch.autocast(waveforms.device.type, enabled=False), torch.no_grad():
            features, frames = view.play(*self.network.features(waveforms, lengths, moments))
        if self.quantiser is None:
            return self._autoregressive(features, frames, view)
        return self._masked(self.quantiser, features, frames, cast(HiddenSpans, view))

    def _masked(
        self, quantiser: RandomProjectionQuantiser, features: Tensor, frames: Tensor, view: HiddenSpans
    ) -> Tensor:
        outputs, _ = self.network.encode(view.hide(features), frames, known_frames=view.frames)
        places, counts = _hidden_frames(view.masks.times // self.factor, outputs.shape[1], view.most_hidden)
        hidden = outputs.gather(1, places[..., None].expand(-1, -1, outputs.shape[2]))
        logits = self.head(hidden).float().view(*places.shape, self.codebooks, -1)
        there = stacked(features, self.factor)
        with torch.autocast(features.device.type, enabled=False), torch.no_grad():
            codes = quantiser(there.gather(1, places[..., None].expand(-1, -1, there.shape[2])))
        losses = F.cross_entropy(logits.flatten(0, 2), codes.flatten(), reduction="none").view_as(codes).mean(-1)
        hits = (logits.argmax(-1) == codes).float().mean(-1)
        return torch.stack([(losses * counts).sum(1), (hits * counts).sum(1), counts.sum(1)], dim=1)

    def _autoregressive(self, features: Tensor, frames: Tensor, view: Perturbation) -> Tensor:
        outputs, _ = self.network.encode(features, frames, known_frames=view.frames)
        predicted, ahead = self.head(outputs).float()[:, : -self.ahead], self.ahead
        errors = (predicted - stacked(features, self.factor)[:, ahead:]).abs().mean(-1)
        # The last log-mel frame of the one that is predicted is within the utterance.
        last = (torch.arange(errors.shape[1], device=frames.device) + ahead + 1) * self.factor
        counts = (last <= frames[:, None]).float()
        losses = (errors * counts).sum(1)
        return torch.stack([losses, torch.zeros_like(losses), counts.sum(1)], dim=1)


def stacked(features: Tensor, factor: int) -> Tensor:
    """Return the log-mel frames of each output frame side by side: `(batch, ⌈frame / factor⌉, factor · mel)`.

    Output frame `i` has the log-mel frames from `factor · i` on; what is missing at the end is 0.
    """
    padded = F.pad(features, (0, 0, 0, -features.shape[1] % factor))
    return padded.reshape(len(padded), -1, factor * features.shape[2])


def _hidden_frames(spans: Tensor, frames: int, most: int) -> tuple[Tensor, Tensor]:
    """Return the hidden output frames of each utterance, `(batch, most)`, and 1 for each of them, 0 for padding.

    Args:
        spans: `(batch, span, 2)`, starts and widths in output frames.
        frames: output frames of the batch.
        most: the most hidden frames of an utterance.
    """
    position = torch.arange(frames, device=spans.device)
    start, width = spans[..., 0, None], spans[..., 1, None]
    hidden = ((position >= start) & (position < start + width)).any(1)
    places = (~hidden).byte().argsort(dim=1, stable=True)[:, :most]  # hidden frames first, in their order
    return places, hidden.gather(1, places).float()
