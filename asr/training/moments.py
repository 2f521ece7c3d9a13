"""Mean and deviation of the training set's features, for models that normalise globally."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from asr.features.batching import Batch
from asr.model.acoustic import AcousticModel


@torch.inference_mode()
def feature_moments(
    model: AcousticModel, batches: Iterator[Batch], *, at_most_s: float = 3600
) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each mel band, `(mel,)` float32, over at most `at_most_s` seconds of audio."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        features, lengths = model.logmel(batch.waveforms, batch.lengths)
        frames = torch.cat([utterance[:n] for utterance, n in zip(features, lengths.tolist(), strict=True)]).double()
        count += len(frames)
        total, squares = total + frames.sum(0), squares + frames.square().sum(0)
        if count * model.logmel.hop_samples / model.sample_rate_hz > at_most_s:
            break
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp_min(0).sqrt().float()
