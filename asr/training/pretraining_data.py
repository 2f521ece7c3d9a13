"""Audio without transcripts → what pretraining reads: utterances to learn from, and dev. And what it reports.

As in training, only metadata are read before the first epoch, a line at a time. Transcripts are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any

from asr.config import Config
from asr.corpus.manifest import Entry, entries, entry_of, load_manifest, read_manifest, shuffle_shards
from asr.corpus.untranscribed import Untranscribed
from asr.errors import TrainingError
from asr.features.augment import Draw
from asr.features.conditions import conditions_checksum
from asr.model.computation import Computation
from asr.training.reports import RunStopped, StepSkipped, TrackerFailed
from asr.training.survey import Count, checksum_with, draw_of

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut

_DEV_SHARE = 1 / 20
_MOST_DEV_S = 3600.0
_LEAST_FRAMES = 4  # output frames: fewer leave nothing to predict from


@dataclass(frozen=True)
class Choice:
    """Which utterances are learnt from, and which are kept apart.

    Attributes:
        least_s: shorter utterances are left out.
        most_s: longer ones are left out.
        dev_below: utterances with a draw below it are kept apart, see `draw_of`; 0: none.
    """

    least_s: float
    most_s: float
    dev_below: int = 0

    def fault(self, entry: Entry) -> str | None:
        """Return why an utterance cannot be used; None if it can."""
        if entry.duration_s > self.most_s:
            return f"too long: {entry.duration_s:g} s, training.max_utterance_s is {self.most_s:g}"
        if entry.duration_s < self.least_s:
            return f"too short: {entry.duration_s:g} s, at least {self.least_s:g} s are needed"
        return None

    def keeps_apart(self, entry: Entry) -> bool:
        """Return whether an utterance is of dev, if it can be used."""
        return draw_of(entry.id) < self.dev_below

    def takes(self, cut: Cut) -> bool:
        """Return whether an utterance is learnt from."""
        entry = entry_of(cut)
        return not self.keeps_apart(entry) and self.fault(entry) is None


@dataclass(frozen=True)
class PretrainingSurvey:
    """What the manifests hold.

    Attributes:
        utterances: how many are learnt from.
        audio_s: their audio.
        skipped: why utterances are left out, by their ids, up to `MOST_NAMED` of them.
        skipped_utterances: how many are left out.
        sample_rates_hz: those that occur, in order.
        checksum: of ids and durations of all lines in their order.
    """

    utterances: int
    audio_s: float
    skipped: dict[str, str]
    skipped_utterances: int
    sample_rates_hz: tuple[int, ...]
    checksum: int


@dataclass(frozen=True)
class PretrainingData:
    """The utterances, as lazily as the manifests allow, those of dev, and what is known of them."""

    cuts: CutSet
    dev: list[Cut]
    choice: Choice
    survey: PretrainingSurvey

    @property
    def usable(self) -> CutSet:
        """The utterances that are learnt from, in the manifests' order."""
        return self.cuts.filter(self.choice.takes)

    def shuffled(self, draw: Draw) -> CutSet:
        """Return them with the shards of a packed corpus in another order each epoch."""
        return shuffle_shards(self.cuts, draw.rng("shards")).filter(self.choice.takes)

    def facts(self, config: Config) -> dict[str, Any]:
        """Return what distinguishes the data from other data, as JSON values: a run is resumed only with the same."""
        return {
            "utterances": self.survey.utterances,
            "audio_s": self.survey.audio_s,
            "dev_utterances": len(self.dev),
            "dev_checksum": reduce(checksum_with, map(_without_text, map(entry_of, self.dev)), 0),
            "checksum": self.survey.checksum,
            "noise_checksum": conditions_checksum(config),
        }


def read_pretraining_data(config: Config, found: Untranscribed) -> PretrainingData:
    """Read the manifests, but no audio. Keep utterances apart for dev if no split is named.

    Those are about a twentieth of the audio, at most an hour, drawn by their ids.

    Raises:
        ManifestError: a manifest is missing or malformed.
        TrainingError: no utterance can be learnt from, or none can be kept apart.
    """
    cuts = read_manifest(*found.manifests)
    choice = Choice(_least_s(config), config.training.max_utterance_s)
    if found.dev is None:
        choice = replace(choice, dev_below=_dev_below(cuts, choice))
        dev = [cut for cut in cuts if choice.keeps_apart(entry_of(cut))]
    else:
        dev = list(load_manifest(found.dev))
    survey = survey_untranscribed(cuts, choice)
    dev = [cut for cut in dev if choice.fault(entry_of(cut)) is None]
    if not dev:
        where = found.dev or " and ".join(map(str, found.manifests))
        raise TrainingError(f"{where}: no utterance can be kept apart to choose the best epoch by")
    return PretrainingData(cuts, dev, choice, survey)


def _least_s(config: Config) -> float:
    """Return the shortest utterance in seconds that leaves something to predict, at its fastest."""
    ahead = config.pretraining.ahead_frames + config.model.lookahead_frames
    frames = _LEAST_FRAMES + (0 if config.model.sees_whole_utterance else ahead)
    fastest = max(config.augment.speeds) * max(config.augment.tempos)
    return round(fastest * frames * config.model.subsampling * config.features.hop_ms / 1000, 3)


def _dev_below(cuts: Iterable[Cut], choice: Choice) -> int:
    """Return below which draw the utterances of dev are: at least one, if two can be used."""
    drawn = sorted((draw_of(entry.id), entry.duration_s) for entry in entries(cuts) if choice.fault(entry) is None)
    wanted_s = min(_MOST_DEV_S, _DEV_SHARE * sum(duration_s for _, duration_s in drawn))
    total_s = 0.0
    for draw, duration_s in drawn:
        if total_s >= wanted_s > 0:
            return draw
        total_s += duration_s
    return drawn[-1][0] if drawn else 0


def survey_untranscribed(cuts: Iterable[Cut], choice: Choice) -> PretrainingSurvey:
    """Return what manifests hold to learn from.

    Raises:
        TrainingError: they hold nothing that can be used.
    """
    count = Count()
    for entry in entries(cuts):
        count.checksum = checksum_with(count.checksum, _without_text(entry))
        fault = choice.fault(entry)
        if fault is not None:
            count.leave_out(entry, fault)
        elif not choice.keeps_apart(entry):
            count.take(entry)
    if not count.utterances:
        raise TrainingError(f"no utterance to learn from ({count.first_reasons or 'a single one is not enough'})")
    return PretrainingSurvey(
        count.utterances,
        count.audio_s,
        count.skipped,
        count.skipped_utterances,
        tuple(sorted(count.rates_hz - {0})),
        count.checksum,
    )


def _without_text(entry: Entry) -> Entry:
    return entry._replace(text="")


@dataclass(frozen=True)
class PretrainingStart:
    """What is about to be learnt, from which data and where.

    `kind` is `masked` or `autoregressive` prediction. `left_out` gives the reason for each recording that could not be
    used. `parameter_count` is that of the network without the layer that predicts. The other fields are those of
    `RunStart`.
    """

    survey: PretrainingSurvey
    dev_utterances: int
    left_out: Mapping[str, str]
    kind: str
    parameter_count: int
    device: str
    processes: int
    computation: Computation
    timed_s: Sequence[Mapping[Computation, float]]
    resumed_at_epoch: int
    resumed_at_step: int
    damaged_checkpoint: str | None


@dataclass(frozen=True)
class PretrainingStep:
    """One optimiser step; the fields are those of `StepReport`.

    `loss` is in nats per hidden frame, or the mean absolute error of normalised log-mel; `accuracy` is the share of
    codes that are the most probable ones, None in autoregressive prediction.
    """

    step: int
    epoch: int
    progress: float
    audio_s: float
    loss: float
    accuracy: float | None
    gradient_norm: float
    clipped: bool
    learning_rate: float

    @property
    def curves(self) -> dict[str, float]:
        """The loss, the accuracy, the norm and the learning rate."""
        names = ("loss", "accuracy", "gradient_norm", "learning_rate")
        return {f"train/{name}": getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True)
class PretrainingEpoch:
    """One epoch. `dev_loss` and `dev_accuracy` are those of the averaged weights; see `EpochReport` for the rest."""

    epoch: int
    loss: float
    dev_loss: float
    dev_accuracy: float | None
    best: bool
    gradient_norms: dict[str, float]
    clipped_share: float
    skipped: int
    audio_s: float
    train_s: float
    dev_s: float

    @property
    def curves(self) -> dict[str, float]:
        """Loss and accuracy on dev."""
        figures = {"loss": self.dev_loss, "accuracy": self.dev_accuracy}
        return {f"dev/{name}": value for name, value in figures.items() if value is not None}

    @property
    def line(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


PretrainingReport = PretrainingStart | PretrainingStep | StepSkipped | PretrainingEpoch | RunStopped | TrackerFailed
