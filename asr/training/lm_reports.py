"""What the training of a recurrent language model tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

from asr.lm.ngram import Perplexity
from asr.training.reports import RunStopped


@dataclass(frozen=True)
class LmStart:
    """What is about to be trained; `units` counts sentence ends, `steps` are those of the whole run."""

    parameter_count: int
    unit_count: int
    sentences: int
    units: int
    device: str
    steps: int
    resumed_at_step: int
    damaged_checkpoint: str | None


@dataclass(frozen=True)
class LmStep:
    """One window of each stream; the loss is nats per unit, the norm that before clipping.

    A step whose gradient is not finite is skipped: the weights stay as they were.
    """

    step: int
    epoch: int
    loss: float
    gradient_norm: float
    learning_rate: float
    skipped: bool


@dataclass(frozen=True)
class LmEpoch:
    """One epoch; `loss` is the mean of its steps, dropout included. See `EpochReport`."""

    epoch: int
    loss: float
    dev: Perplexity
    best: bool
    clipped_share: float
    skipped: int
    train_s: float
    dev_s: float


LmReport = LmStart | LmStep | LmEpoch | RunStopped
