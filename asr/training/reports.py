"""What a training run tells of itself, from the start to the last epoch."""

from __future__ import annotations

from dataclasses import dataclass

from asr.scoring.errors_count import ErrorCounts
from asr.training.survey import Survey


@dataclass(frozen=True)
class RunStart:
    """What is about to be trained, on what and where."""

    survey: Survey
    parameter_count: int
    receptive_field_s: float
    device: str
    precision: str
    resumed_at_epoch: int


@dataclass(frozen=True)
class StepReport:
    """One optimiser step. Losses are nats per token; `progress` is the share of the run that is done."""

    step: int
    epoch: int
    progress: float
    loss: float
    ctc: float
    consistency: float
    gradient_norm: float
    learning_rate: float


@dataclass(frozen=True)
class EpochReport:
    """One epoch; `loss` is the mean over its steps, `train_s` the wall time of training it, `dev_s` of evaluating."""

    epoch: int
    loss: float
    dev: ErrorCounts
    best: bool
    audio_s: float
    train_s: float
    dev_s: float
