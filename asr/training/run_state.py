"""How far a run has come: steps, epochs, sums, scores; and what the learning rate is there.

As JSON, and back from JSON that anybody may have written.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from asr.config import TrainingSettings
from asr.reading import shown
from asr.records import faults
from asr.training.dev_score import BestEpoch, DevScore, best_epoch

MOST_BAD_STEPS = 5  # without a finite gradient, in a row; more of them have another cause than one odd batch
_LARGEST = sys.float_info.max  # is written in place of an infinite number, which JSON does not have


@dataclass
class EpochSums:
    """Sums over the steps of the current epoch, from which its report is made."""

    steps: int = 0
    loss: float = 0.0
    gradient_norms: dict[str, float] = field(default_factory=dict)
    clipped: int = 0
    spikes: int = 0
    skipped: int = 0
    untranscribed: int = 0
    without_label: int = 0
    audio_s: float = 0.0
    train_s: float = 0.0

    def mean(self, total: float) -> float:
        """Return a sum divided by the number of steps; 0 if there was none."""
        return total / max(1, self.steps)


@dataclass
class RunState:
    """How far a run has come. The next batch is number `batch` of epoch `epoch`, both counted from 0.

    Attributes:
        step: how many steps were taken or skipped so far.
        epoch: how many epochs are finished.
        batch: how many batches of this epoch are done.
        utterances: how many utterances were trained on in this epoch.
        dev_scores: a figure for each finished epoch, lower is better: an error rate, a perplexity or a loss; empty
            without a dev set.
        improved: for each of them, whether that epoch's weights were kept.
        best: what the choice of an acoustic model's epoch goes by.
        loss_level: a moving average of the loss, 0 before the first step.
        bad_steps: how many steps were skipped since the last one that was taken.
        init_from: the model folder that the run took weights from; None: none.
        knows_tokens: whether these weights could recognise.
        untranscribed_place: finished passes over the untranscribed utterances, and batches of the next one.
        precision, threads: how the run computes; None until that is chosen.
        sums: of the current epoch.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    utterances: int = 0
    dev_scores: list[float] = field(default_factory=list)
    improved: list[bool] = field(default_factory=list)
    best: BestEpoch | None = None
    loss_level: float = 0.0
    bad_steps: int = 0
    init_from: str | None = None
    knows_tokens: bool = False
    untranscribed_place: tuple[int, int] = (0, 0)
    precision: Literal["fp32", "bf16"] | None = None
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    sums: EpochSums = field(default_factory=EpochSums)

    def count_step(self, loss: float, gradient_norms: Mapping[str, float], *, clipped: bool) -> None:
        """Count a step that was taken; the norms are by part of the network."""
        self.bad_steps = 0
        self.sums.steps += 1
        self.sums.loss += loss
        self.sums.clipped += clipped
        for part, norm in gradient_norms.items():
            self.sums.gradient_norms[part] = self.sums.gradient_norms.get(part, 0.0) + norm

    def count_bad_step(self) -> bool:
        """Count a step without a finite gradient; return whether there were `MOST_BAD_STEPS` in a row."""
        self.bad_steps += 1
        self.sums.skipped += 1
        return self.bad_steps >= MOST_BAD_STEPS

    def take_dev_score(self, score: DevScore | float | None) -> bool:
        """Keep an epoch's score, or its perplexity; return whether it is as good as the best before it.

        Without a dev set the newest epoch always is.
        """
        if score is None:
            return True
        if isinstance(score, float):
            figure = math.inf if math.isnan(score) else score
            better = figure <= min(self.dev_scores, default=math.inf)
        else:
            self.best = best_epoch(self.best, score)
            figure, better = score.rate, self.best.kept is score
        self.dev_scores.append(figure)
        self.improved.append(better)
        return better

    @property
    def kept_dev_score(self) -> float | None:
        """The figure of the epoch whose weights are kept; None without a dev set or a finished epoch."""
        kept = [score for score, better in zip(self.dev_scores, self.improved, strict=True) if better]
        return kept[-1] if kept else None

    def end_epoch(self) -> None:
        """Turn to the next epoch."""
        self.epoch, self.batch, self.utterances, self.sums = self.epoch + 1, 0, 0, EpochSums()


_STATE = TypeAdapter(RunState)


def state_to_json(state: RunState) -> dict[str, Any]:
    """Return a position as JSON values."""
    values: dict[str, Any] = _with(asdict(state), math.inf, _LARGEST)
    return values


def state_from_json(values: dict[str, Any]) -> RunState:
    """Return the position that `state_to_json` gave.

    Raises:
        ValueError: a value is missing, has another type, is negative or contradicts another one.
    """
    if (wrong := _first_impossible(values)) is not None:
        raise ValueError(f"{shown(wrong)} is no number from 0 on")
    try:
        state = _STATE.validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise ValueError(next(faults(error))) from None
    if len(state.dev_scores) != len(state.improved) or len(state.dev_scores) > state.epoch:
        raise ValueError(f"{len(state.dev_scores)} dev scores of {state.epoch} epochs")
    for score in () if state.best is None else (state.best.kept, state.best.lowest):
        score.require_consistent()
    return _STATE.validate_python(_with(asdict(state), _LARGEST, math.inf))


def _first_impossible(value: Any) -> Any:
    """Return the first number of nested JSON that is negative or too large to count with; None if there is none."""
    if isinstance(value, (dict, list)):
        inner = value.values() if isinstance(value, dict) else value
        return next((found for item in inner if (found := _first_impossible(item)) is not None), None)
    if not isinstance(value, (int, float)):
        return None
    return None if 0 <= value <= (2**53 if isinstance(value, int) else _LARGEST) else value


def _with(value: Any, old: float, new: float) -> Any:
    """Return nested values with one number in place of another."""
    if isinstance(value, dict):
        return {key: _with(item, old, new) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with(item, old, new) for item in value]
    return new if isinstance(value, float) and value == old else value


def learning_rate(settings: TrainingSettings, progress: float, improved: Sequence[bool]) -> float:
    """Return the learning rate at `progress` (0 = start, 1 = end of the run).

    It depends on nothing else, so a resumed run continues exactly.

    one-cycle: a rise over `warmup_share` of the run, then half a cosine down to 0 (Smith & Topin 2017).
    plateau: the same rise, then constant; halved when `plateau_patience` epochs did not get better on dev.

    Args:
        settings: of the training.
        progress: see above.
        improved: of each finished epoch, whether its weights were the best on dev so far.
    """
    warmup = settings.warmup_share
    if progress < warmup:
        return settings.learning_rate * max(progress / warmup, 0.01)
    if settings.schedule == "plateau":
        return settings.learning_rate * 0.5 ** halvings(improved, settings.plateau_patience)
    fall = min((progress - warmup) / (1 - warmup), 1.0)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * fall))


def halvings(improved: Sequence[bool], patience: int) -> int:
    """Return how often `patience` epochs in a row did not get better on dev."""
    waited, count = 0, 0
    for better in improved:
        waited = 0 if better else waited + 1
        if waited == patience:
            count, waited = count + 1, 0
    return count
