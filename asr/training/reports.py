"""What a training run tells of itself, from the start to the last epoch.

What the training of a recurrent language model tells of itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from asr.lm.ngram import Perplexity
from asr.scoring.error_counts import ErrorCounts
from asr.training.survey import Survey
from asr.training.transfer import Transfer


@dataclass(frozen=True)
class RunStart:
    """What is about to be trained, on what and where."""

    survey: Survey
    parameter_count: int
    receptive_field_s: float
    device: str
    processes: int
    precision: str
    resumed_at_epoch: int
    resumed_at_step: int
    damaged_checkpoint: str | None  # why the newest checkpoint could not be used and the one before it was
    transfer: Transfer | None  # what came from the model of `--init-from`


@dataclass(frozen=True)
class StepReport:
    """One optimiser step. Losses are nats per token; `progress` is the share of the run that is done.

    `gradient_norms` names the parts of the network; `gradient_norm` is that of all of them, before clipping.
    """

    step: int
    epoch: int
    progress: float
    loss: float
    ctc: float
    consistency: float
    intermediate: float
    gradient_norm: float
    gradient_norms: dict[str, float]
    clipped: bool
    spike: bool
    learning_rate: float


@dataclass(frozen=True)
class StepSkipped:
    """A step whose loss or gradient was not finite: the weights stayed as they were.

    `bad_ids` names the utterances that give no finite loss or gradient by themselves; it may be empty.
    """

    step: int
    epoch: int
    loss: float
    gradient_norm: float
    ids: list[str]
    bad_ids: list[str]


@dataclass(frozen=True)
class EpochReport:
    """One epoch; means are over its steps, `train_s` is the wall time of training it, `dev_s` of evaluating.

    `dev` is None where dev is trained on, and each epoch is then the `best`. `clipped_share` is the share of steps
    whose gradient was scaled down, `spikes` the number of steps whose loss rose far above the level before, `skipped`
    that of steps without a finite gradient.
    """

    epoch: int
    loss: float
    dev: ErrorCounts | None
    best: bool
    gradient_norms: dict[str, float]
    clipped_share: float
    spikes: int
    skipped: int
    audio_s: float
    train_s: float
    dev_s: float


@dataclass(frozen=True)
class RunStopped:
    """The run was asked to stop by `signal`; `checkpoint` holds all of it."""

    signal: str
    step: int
    checkpoint: Path


Report = RunStart | StepReport | StepSkipped | EpochReport | RunStopped


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
