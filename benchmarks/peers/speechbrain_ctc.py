"""The network of `asr.model.acoustic` written in SpeechBrain and trained by SpeechBrain: the peer of `training.py`.

Everything is SpeechBrain's own: reading, dynamic batches and padding, speed perturbation, Fbank, normalisation by
utterance, spectrogram drops, convolutions, LSTMs, CTC and the loop of `Brain.fit`. The numbers are ours: sizes,
strides, dropout, the audio of a batch, the counts and widths of the masks, AdamW, the clipping norm.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import speechbrain as sb
import torch
from lhotse import CutSet
from speechbrain.augment.freq_domain import SpectrogramDrop
from speechbrain.augment.time_domain import SpeedPerturb
from speechbrain.dataio.dataio import read_audio
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.dataio.sampler import DynamicBatchSampler
from speechbrain.lobes.features import Fbank
from speechbrain.nnet.CNN import Conv2d
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.losses import ctc_loss
from speechbrain.nnet.normalization import LayerNorm
from speechbrain.nnet.RNN import LSTM
from speechbrain.processing.features import InputNormalization
from torch import Tensor, nn

from asr.config import Config
from asr.corpus.manifest import cut_text
from asr.text.normalise import normalise
from asr.text.tokens import BLANK, TokenTable

BUCKETS = 10


def train(
    config: Config, cuts: CutSet, tokens: TokenTable, report: Callable[[float], None], *, precision: str, packed: bool
) -> None:
    """Train until `report` raises; it is called after each step with the seconds of audio in the step.

    Args:
        config: sizes and numbers; three-by-three convolutions and a bidirectional LSTM are built.
        cuts: whole mono files.
        tokens: the table of the model's tokens.
        report: see above.
        precision: SpeechBrain's run option, `fp32` (its default) or `bf16`.
        packed: tell the LSTM each utterance's length, without which its backward direction starts in the padding and
            an utterance's result depends on its neighbours.
    """
    items = {
        cut.id: {
            "path": cut.recording.sources[0].source,
            "duration": cut.duration,
            "ids": tokens.encode(normalise(cut_text(cut), config.text)),
        }
        for cut in cuts
    }
    dataset = DynamicItemDataset(items)
    dataset.add_dynamic_item(read_audio, takes="path", provides="signal")
    dataset.add_dynamic_item(torch.LongTensor, takes="ids", provides="tokens")
    dataset.set_output_keys(["id", "signal", "tokens", "duration"])
    # Left to itself, the sampler spreads its buckets over lengths up to a whole batch, far beyond any utterance, and
    # most of its batches come out small. Buckets of equal counts serve it better.
    durations = [item["duration"] for item in items.values()]
    sampler = DynamicBatchSampler(
        dataset,
        max_batch_length=config.training.batch_s,
        bucket_boundaries=np.unique(np.quantile(durations, np.linspace(0, 1, BUCKETS + 1)[1:])).tolist(),
        length_func=lambda item: item["duration"],
        shuffle=True,
        seed=config.training.seed,
    )
    torch.manual_seed(config.training.seed)
    brain = CtcBrain(
        config,
        Network(config, len(tokens), packed=packed),
        report,
        run_opts={"device": "cpu", "precision": precision, "max_grad_norm": config.training.clip_norm},
    )
    brain.fit(count(1), dataset, progressbar=False, train_loader_kwargs={"batch_sampler": sampler})


class Network(nn.Module):
    """Two or three strided convolutions, residual LSTM layers, a softmax; as `AcousticModel`, from features on."""

    def __init__(self, config: Config, token_count: int, *, packed: bool) -> None:
        super().__init__()
        settings = config.model
        assert (settings.encoder, settings.rnn, settings.bidirectional) == ("recurrent", "lstm", True)
        self.packed = packed
        width, channels, bins = 2 * settings.hidden_size, 1, config.features.mel_bins
        self.convolutions = nn.ModuleList()
        factor = settings.subsampling
        while factor > 1:
            self.convolutions.append(Conv2d(settings.subsampling_channels, 3, in_channels=channels, stride=2))
            channels, bins, factor = settings.subsampling_channels, (bins + 1) // 2, factor // 2
        self.projection = Linear(width, input_size=channels * bins)
        self.dropout = nn.Dropout(settings.dropout)
        self.norms = nn.ModuleList(LayerNorm(width) for _ in range(settings.layers + 1))
        self.layers = nn.ModuleList(
            LSTM(settings.hidden_size, input_size=width, bidirectional=True) for _ in range(settings.layers)
        )
        self.output = Linear(token_count, input_size=width)
        self.log_softmax = sb.nnet.activations.Softmax(apply_log=True)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """`(batch, frame, mel)` and relative lengths → log-posteriors `(batch, frame / factor, token)`."""
        x = features.unsqueeze(-1)
        for convolution in self.convolutions:
            x = torch.relu(convolution(x))
        x = self.dropout(self.projection(x.flatten(2)))
        for norm, layer in zip(self.norms, self.layers, strict=False):
            y, _ = layer(norm(x), lengths=lengths if self.packed else None)
            x = x + self.dropout(y)
        return self.log_softmax(self.output(self.norms[-1](x)))


class CtcBrain(sb.Brain):
    """Features, perturbations and CTC around the network, in the form that SpeechBrain's loop asks for."""

    def __init__(
        self, config: Config, network: Network, report: Callable[[float], None], *, run_opts: dict[str, Any]
    ) -> None:
        rate_hz, augment = config.features.sample_rate_hz, config.augment
        super().__init__(
            modules={
                "speed": SpeedPerturb(rate_hz, [round(100 * speed) for speed in augment.speeds]),
                "fbank": Fbank(sample_rate=rate_hz, n_mels=config.features.mel_bins, n_fft=512),
                "normalise": InputNormalization(norm_type="sentence"),
                "time_drop": SpectrogramDrop(
                    0, round(augment.time_mask_share * 250), augment.time_masks, augment.time_masks, dim=1
                ),
                "band_drop": SpectrogramDrop(
                    0, augment.frequency_mask_bins, augment.frequency_masks, augment.frequency_masks, dim=2
                ),
                "network": network,
            },
            opt_class=lambda parameters: torch.optim.AdamW(
                parameters,
                lr=config.training.learning_rate / 10,
                betas=(0.9, 0.98),
                weight_decay=config.training.weight_decay,
            ),
            run_opts=run_opts,
        )
        self.report = report

    def compute_forward(self, batch: Any, stage: sb.Stage) -> Tensor:
        signals, lengths = batch.signal
        features = self.modules.fbank(self.modules.speed(signals))
        features = self.modules.normalise(features, lengths)
        features = self.modules.band_drop(self.modules.time_drop(features))
        return self.modules.network(features, lengths)

    def compute_objectives(self, predictions: Tensor, batch: Any, stage: sb.Stage) -> Tensor:
        targets, target_lengths = batch.tokens
        return ctc_loss(predictions, targets, batch.signal.lengths, target_lengths, blank_index=BLANK)

    def on_fit_batch_end(self, batch: Any, outputs: Any, loss: Tensor, should_step: bool) -> None:
        self.report(sum(float(duration) for duration in batch.duration))
