"""What a training run reports: its start, each step, each epoch and a stop. `log.py` keeps the reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from asr.bundle.training_log import DevText
from asr.lm.ngram import Perplexity
from asr.model.computation import Computation
from asr.training.dev_score import DevScore
from asr.training.survey import Survey
from asr.training.transfer import Transfer


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
    def curves(self) -> dict[str, float]:
        """The curves of the log that get a point."""

    @property
    def line(self) -> dict[str, Any]:
        """The line of `log.jsonl`."""


@dataclass(frozen=True)
class RunStart:
    """What is about to be trained, on which data and where.

    `damaged_checkpoint` says why the newest checkpoint could not be used; the one before it was then. `transfer` says
    what was taken from the model of `init_from`. `timed_s` has the seconds of a step in each way to compute that was
    timed, by comparison.
    """

    survey: Survey
    parameter_count: int
    receptive_field_s: float
    device: str
    processes: int
    computation: Computation
    resumed_at_epoch: int
    resumed_at_step: int
    damaged_checkpoint: str | None
    transfer: Transfer | None
    timed_s: Sequence[Mapping[Computation, float]] = ()
    dev_rates: Sequence[float] = ()


@dataclass(frozen=True)
class StepReport:
    """One optimiser step.

    Attributes:
        step: its number, from 1.
        epoch: its epoch, from 0.
        progress: the share of the run that was done before the step.
        audio_s: seconds of audio in its batch, over all processes.
        loss: what was minimised, in nats per token. Its parts are `ctc`, `consistency`, `intermediate` and `teacher`,
            see `asr.model.ctc.CtcLoss`; `teacher` is 0 without teachers.
        gradient_norm: before clipping.
        gradient_norms: the same in each part of the network.
        clipped: whether the gradient was scaled down.
        spike: whether the loss was far above the level before it.
        learning_rate: of this step.
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
    teacher: float = 0.0

    @property
    def curves(self) -> dict[str, float]:
        """The losses, norms and the learning rate."""
        names = ("loss", "ctc", "consistency", "intermediate", "gradient_norm", "learning_rate")
        points: dict[str, float] = {f"train/{name}": getattr(self, name) for name in names}
        if self.teacher:
            points["train/teacher"] = self.teacher
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
    """One epoch.

    Attributes:
        epoch: its number, from 0.
        loss: the mean of its steps, in nats per token.
        dev: the score of the averaged weights; None if dev is trained on.
        best: whether the averaged weights are kept; without a dev set each epoch's are.
        gradient_norms: the mean of its steps, by part of the network.
        clipped_share: share of the steps whose gradient was scaled down.
        spikes: number of steps whose loss was far above the level before.
        skipped: number of steps without a finite gradient.
        audio_s: seconds of audio that were trained on.
        train_s: wall time of training.
        dev_s: wall time of the evaluation on dev.
        learning_rate: at the end of the epoch.
        dev_texts: what was recognised in three utterances of dev, the same in each epoch; none without a dev set.
        labelled_share: share of the untranscribed utterances in which the average recognised something that could be
            learnt; None if there were none.
    """

    epoch: int
    loss: float
    dev: DevScore | None
    best: bool
    gradient_norms: dict[str, float]
    clipped_share: float
    spikes: int
    skipped: int
    audio_s: float
    train_s: float
    dev_s: float
    learning_rate: float
    dev_texts: Sequence[DevText] = ()
    labelled_share: float | None = None

    @property
    def curves(self) -> dict[str, float]:
        """Error rates, loss and number of empty utterances, if there is a dev set."""
        return {f"dev/{name}": value for name, value in self._dev_figures.items() if value is not None}

    @property
    def line(self) -> dict[str, Any]:
        """All fields and the dev set's figures; `dev` has the errors in words. `EpochLine` describes it for readers."""
        dev = self.dev
        counts = {
            "dev": None if dev is None else asdict(dev.words),
            "dev_characters": None if dev is None else asdict(dev.characters),
            "dev_by_characters": None if dev is None else dev.by_characters,
        }
        return asdict(self) | counts | {f"dev_{name}": value for name, value in self._dev_figures.items()}

    @property
    def _dev_figures(self) -> dict[str, float | None]:
        dev = self.dev
        if dev is None:
            return dict.fromkeys(("wer", "cer", "loss", "empty"))
        return {"wer": dev.words.rate, "cer": dev.characters.rate, "loss": dev.loss, "empty": dev.empty}


@dataclass(frozen=True)
class RunStopped:
    """The run was stopped by `signal` after step `step`; `checkpoint` is where it continues."""

    signal: str
    step: int
    checkpoint: Path


@dataclass(frozen=True)
class TrackerFailed:
    """The program `tracker` failed and gets no more of this run; the training goes on. `problem` says what it said."""

    tracker: str
    problem: str


Report = RunStart | StepReport | StepSkipped | EpochReport | RunStopped | TrackerFailed


@dataclass(frozen=True)
class LmStart:
    """What is about to be trained.

    `network` is the network in words. There are `sentences` with `units` units, their ends included, of `unit_count`
    different ones; `kind` says whether these are words or tokens. `left_out` sentences hold characters that are no
    tokens, and `left_out_reason` says what is wrong with the first of them. `timed_s` has the seconds of a step in
    each way to compute that was timed. `steps` are those of the whole run. `damaged_checkpoint` is that of
    `RunStart`.
    """

    network: str
    parameter_count: int
    kind: Literal["words", "tokens"]
    unit_count: int
    sentences: int
    units: int
    left_out: int
    left_out_reason: str
    device: str
    computation: Computation
    timed_s: Mapping[Computation, float]
    epochs: int
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
    def curves(self) -> dict[str, float]:
        """The perplexity."""
        return {"dev/perplexity": self.dev.perplexity}

    @property
    def line(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self) | {"dev": self.dev._asdict()}


LmReport = LmStart | LmStep | LmEpoch | RunStopped | TrackerFailed
