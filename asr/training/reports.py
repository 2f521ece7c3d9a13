"""What a training run reports: its start, each step, each epoch, and a stop. Also what its log keeps of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from asr.lm.ngram import Perplexity
from asr.scoring.error_counts import ErrorCounts
from asr.training.run import Transfer
from asr.training.survey import Survey


class SomeStep(Protocol):
    """A step of any training."""

    @property
    def step(self) -> int:
        """Its number, from 1."""

    @property
    def curves(self) -> dict[str, float]:
        """The curves of the log that get a point; none if the step was skipped."""


class SomeEpoch(Protocol):
    """An epoch of any training."""

    @property
    def epoch(self) -> int:
        """Its number, from 0."""

    @property
    def dev_score(self) -> float | None:
        """By what the best epoch is chosen, lower is better; None without a dev set."""

    @property
    def curves(self) -> dict[str, float]:
        """The curves of the log that get a point."""

    @property
    def line(self) -> dict[str, Any]:
        """The line of `log.jsonl`."""


@dataclass(frozen=True)
class RunStart:
    """What is about to be trained, on which data and where.

    `damaged_checkpoint` says why the newest checkpoint could not be used; the one before it was then. `transfer` says
    what was taken from the model of `init_from`.
    """

    survey: Survey
    parameter_count: int
    receptive_field_s: float
    device: str
    processes: int
    precision: str
    resumed_at_epoch: int
    resumed_at_step: int
    damaged_checkpoint: str | None
    transfer: Transfer | None


@dataclass(frozen=True)
class StepReport:
    """One optimiser step. Losses are in nats per token.

    `progress` is the share of the run that was done before the step. `audio_s` are the seconds of audio in its batch,
    over all processes. `gradient_norms` has the gradient's norm in each part of the network, and `gradient_norm` that
    of the whole, before clipping.
    """

    step: int
    epoch: int
    progress: float
    audio_s: float
    loss: float
    ctc: float
    consistency: float
    intermediate: float
    gradient_norm: float
    gradient_norms: dict[str, float]
    clipped: bool
    spike: bool
    learning_rate: float

    @property
    def curves(self) -> dict[str, float]:
        """The losses, norms and the learning rate."""
        names = ("loss", "ctc", "consistency", "intermediate", "gradient_norm", "learning_rate")
        points: dict[str, float] = {f"train/{name}": getattr(self, name) for name in names}
        return points | {f"gradient_norm/{part}": norm for part, norm in self.gradient_norms.items()}


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

    @property
    def curves(self) -> dict[str, float]:
        """None."""
        return {}

    @property
    def line(self) -> dict[str, Any]:
        """All fields; numbers as text, because JSON has no NaN."""
        return asdict(self) | {"loss": repr(self.loss), "gradient_norm": repr(self.gradient_norm)}


@dataclass(frozen=True)
class EpochReport:
    """One epoch. Means are over its steps; `train_s` is the wall time of training, `dev_s` that of evaluation.

    `dev` is None if dev is trained on, and each epoch is then the `best`. `clipped_share` is the share of steps whose
    gradient was scaled down. `spikes` counts steps whose loss rose far above the level before, and `skipped` those
    without a finite gradient.
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

    @property
    def dev_score(self) -> float | None:
        """The word error rate on dev."""
        return None if self.dev is None else self.dev.rate

    @property
    def curves(self) -> dict[str, float]:
        """The word error rate, if there is a dev set."""
        return {} if self.dev_score is None else {"dev/wer": self.dev_score}

    @property
    def line(self) -> dict[str, Any]:
        """All fields and the word error rate."""
        return asdict(self) | {"dev_wer": self.dev_score}


@dataclass(frozen=True)
class RunStopped:
    """The run was stopped by `signal` after step `step`; `checkpoint` is where it continues."""

    signal: str
    step: int
    checkpoint: Path


Report = RunStart | StepReport | StepSkipped | EpochReport | RunStopped


@dataclass(frozen=True)
class LmStart:
    """What is about to be trained; `units` includes the sentence ends, `steps` are those of the whole run."""

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
    """One window of each stream. The loss is in nats per unit, the norm is that before clipping.

    A step whose gradient is not finite is skipped: the weights stay as they were.
    """

    step: int
    epoch: int
    loss: float
    gradient_norm: float
    learning_rate: float
    skipped: bool

    @property
    def curves(self) -> dict[str, float]:
        """The loss, the norm and the learning rate."""
        if self.skipped:
            return {}
        return {f"train/{name}": getattr(self, name) for name in ("loss", "gradient_norm", "learning_rate")}


@dataclass(frozen=True)
class LmEpoch:
    """One epoch; `loss` is the mean of its steps, with dropout. The other fields are those of `EpochReport`."""

    epoch: int
    loss: float
    dev: Perplexity
    best: bool
    clipped_share: float
    skipped: int
    train_s: float
    dev_s: float

    @property
    def dev_score(self) -> float:
        """The perplexity on dev."""
        return self.dev.perplexity

    @property
    def curves(self) -> dict[str, float]:
        """The perplexity."""
        return {"dev/perplexity": self.dev.perplexity}

    @property
    def line(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self) | {"dev": self.dev._asdict()}


LmReport = LmStart | LmStep | LmEpoch | RunStopped
