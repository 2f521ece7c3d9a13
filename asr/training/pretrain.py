"""Pretraining: audio without transcripts → a network that `asr.train` starts from. What a step and an epoch are.

`loop.py` has what happens around them, as for acoustic training; `asr/model/pretraining.py` has what is learnt.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from asr.bundle.bundle import save_weights
from asr.bundle.files import CARD, CHECKPOINTS, CONFIG, DECODER, PRETRAINED, TOKENS, TRAINING, TRAINING_LOG, WEIGHTS
from asr.config import Config
from asr.corpus.untranscribed import Untranscribed, find_untranscribed
from asr.errors import AsrError, AudioError, ConfigError, TrainingError, UtteranceAudioError
from asr.features.augment import Draw
from asr.features.batch import Batch, collate, frame_count
from asr.features.batching import Moments, StepBatch, evaluation_batches
from asr.features.hidden_spans import draw_pretraining_view
from asr.machine import Progress, silent
from asr.model.computation import Computation, given_threads, threads
from asr.model.pretraining import PretrainingModel
from asr.model.speaker_moments import speaker_moments
from asr.settings_file import load_config, save_config
from asr.training.engine import make_fabric
from asr.training.loop import Requests, TrainingResult, Wishes, find_run, only_run_of_all_in, run_to_end, training_loop
from asr.training.pretraining_data import (
    PretrainingData,
    PretrainingEpoch,
    PretrainingReport,
    PretrainingStart,
    PretrainingStep,
    read_pretraining_data,
)
from asr.training.reports import StepSkipped
from asr.training.run import WITHOUT_INFLUENCE, Run, Trial, choose_computation, noise, start_run, within_corpus
from asr.training.run_state import RunState, learning_rate
from asr.training.step import Accumulated, accumulate, memory_errors_explained
from asr.training.survey import feature_moments
from asr.training.trackers import Tracking, require_tracker

AnyPath: TypeAlias = str | os.PathLike[str]

_OWN = ("epochs", "batch_s", "learning_rate")  # take the place of the settings of training with these names
# Settings of training that pretraining fixes, and those that it has no use for.
_FIXED: dict[str, Any] = {"schedule": "one-cycle", "bptt_frames": None, "hours": None, "freeze_steps": 0}
_UNUSED = (
    *("plateau_patience", "freeze", "encoder_learning_rate", "consistency_weight", "intermediate_weight"),
    *("teacher_weight", "unlabelled_weight", "unlabelled_after", "unlabelled_patience"),
)
_TRAINING = WITHOUT_INFLUENCE["training"]
assert isinstance(_TRAINING, set)
# A run may be resumed with other settings of these.
_WITHOUT_INFLUENCE: dict[str, set[str] | bool] = {
    **{section: keys for section, keys in WITHOUT_INFLUENCE.items() if section != "pretraining"},
    "text": True,
    "training": {*_TRAINING, *_OWN, *_FIXED, *_UNUSED},
}
# What a setting that is named would not do, by section or dotted name, for the message.
WITHOUT_EFFECT = {f"training.{key}": f"asr pretrain takes pretraining.{key}" for key in _OWN} | {
    **{f"training.{key}": "it is for training with transcripts" for key in (*_FIXED, *_UNUSED)},
    "text": "no transcripts are read",
    "decode": "no text is searched for",
}
_DEV_DRAW = Draw(0, 0)  # the same spans of dev are hidden after each epoch of each run, so losses can be compared


def pretrain(
    config: Config | AnyPath,
    data: AnyPath | Iterable[AnyPath],
    out: AnyPath,
    *,
    resume: bool = False,
    on_report: Callable[[PretrainingReport], object] | None = None,
    progress: Progress = silent,
) -> TrainingResult:
    """Train the network of a recogniser, all but its output layer, on audio without transcripts.

    `asr.train(…, init_from=out)` then starts from it. A network that sees the whole utterance learns masked prediction
    (BEST-RQ, arXiv:2202.01855), one with one direction autoregressive prediction (APC, arXiv:1904.03240). The weights
    with the lowest loss on dev are kept.

    SIGTERM or Ctrl-C finishes the step, writes a checkpoint and ends the training; `resume` continues it. With several
    processes (torchrun, Slurm), each calls this; only the first writes files and reports.

    Args:
        config: all settings, or a YAML file with some of them. The section `pretraining` takes the place of `training`
            where both have a setting.
        data: one or several of these: a data folder, whose splits train and dev are taken; a manifest; an audio or
            video file; a folder of such files, or a pattern. Recordings are cut where nobody speaks. Transcripts are
            not read. Without a split dev, a twentieth of the audio is kept apart, at most an hour.
        out: the folder to write; the run's state is in `out/checkpoints`.
        resume: continue the run in `out` if there is one.
        on_report: called with each report: the start, each step, each epoch, the stop.
        progress: shows how far the cutting of recordings is.

    Raises:
        AudioError: no recording can be used, or one of an utterance, of noise or of a room cannot.
        ConfigError: a setting is not acceptable; the run is resumed with other settings or data.
        DeviceError: `training.accelerator` is `cuda` and there is none.
        ManifestError: a manifest is missing or malformed.
        ModelError: no checkpoint can be read, or the weights cannot be written.
        TrainingError: `out` holds a run and `resume` is not set, or something else; another run is at work there; no
            utterance is usable; several steps in a row gave no finite gradient; a file cannot be written; a GPU's
            memory does not suffice.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    paths = [Path(data)] if isinstance(data, str | os.PathLike) else [Path(one) for one in data]
    reports = pretraining_reports(settings, paths, Path(out), resume=resume, progress=progress)
    try:
        return run_to_end(reports, on_report)
    except UtteranceAudioError as error:
        raise AudioError(f"{error}; `asr check DATA --out DIR` writes manifests without such recordings") from None


def pretraining_reports(
    config: Config, data: Sequence[Path], out: Path, *, resume: bool = False, progress: Progress = silent
) -> Generator[PretrainingReport, None, TrainingResult]:
    """Do what `pretrain` does, one report at a time; it raises the same errors. Only the first process yields them."""
    if not (out / CHECKPOINTS).exists():
        _refuse_foreign_files(out)
    own = pretraining_config(config)
    require_tracker(config.training.tracker)
    with Requests(own.training.checkpoint_every_s) as requests:
        fabric = make_fabric(own.training)
        with only_run_of_all_in(out, fabric):
            checkpoint, damage = find_run(out, resume=resume)
            found = _find(fabric, data, out, keep=checkpoint is not None, progress=progress)
            read = read_pretraining_data(own, found)
            with threads(given_threads() or 1):  # the last digits of the first weights depend on their number
                run = _start(fabric, own, read, out / CHECKPOINTS, checkpoint)
            moments = speaker_moments(read.usable, own, own.augment.speeds), speaker_moments(read.dev, own)
            training = Pretraining(run, own, config, read, out, *moments)
            mean_s = read.survey.audio_s / read.survey.utterances
            trial = _trial(within_corpus(own, read.survey.audio_s), mean_s, fabric.world_size)
            timed = choose_computation(run, own, trial)
            state = run.state
            assert state.precision is not None
            assert state.threads is not None
            start = PretrainingStart(
                survey=read.survey,
                dev_utterances=len(read.dev),
                left_out=found.left_out,
                kind="masked" if config.model.sees_whole_utterance else "autoregressive",
                parameter_count=run.model.network.parameter_count,
                device=str(fabric.device),
                processes=fabric.world_size,
                computation=Computation(state.precision, state.threads),
                timed_s=tuple(comparison.times_s for comparison in timed if comparison.times_s),
                resumed_at_epoch=state.epoch,
                resumed_at_step=state.step,
                damaged_checkpoint=damage,
            )
            with threads(start.computation.threads):
                return (yield from training_loop(training, start, requests))


def pretraining_config(config: Config) -> Config:
    """Return settings whose section `training` has those of pretraining.

    Raises:
        ConfigError: the network has a pretrained encoder in front.
    """
    if config.features.encoder:
        raise ConfigError(
            f"features.encoder={config.features.encoder}: it is pretrained already, and asr pretrain is for log-mel; "
            "set features.encoder= to nothing, or train with transcripts"
        )
    own = _FIXED | {name: getattr(config.pretraining, name) for name in _OWN}
    return config.model_copy(update={"training": config.training.model_copy(update=own)})


def _refuse_foreign_files(out: Path) -> None:
    """Keep a new run from replacing files that are not its own."""
    if (out / PRETRAINED).exists():
        raise TrainingError(f"{out}: holds a pretrained network; choose another --out")
    for name in (CARD, CONFIG, DECODER, TOKENS, TRAINING, TRAINING_LOG, WEIGHTS):
        if (out / name).exists():
            raise TrainingError(f"{out / name}: exists and is not of a pretraining run; choose another --out")


def _find(fabric: Fabric, data: Sequence[Path], out: Path, *, keep: bool, progress: Progress) -> Untranscribed:
    """Find the utterances; the first process cuts recordings for all, and all fail if it cannot."""
    found, refusal = None, None
    if fabric.is_global_zero:
        try:
            found = find_untranscribed(data, out, keep=keep, progress=progress)
        except AsrError as error:
            refusal = error
    refused = fabric.all_reduce(torch.tensor(float(refusal is not None), device=fabric.device), reduce_op="sum")
    if refused:
        raise refusal or TrainingError(f"{out}: the first process cannot begin; its message says why")
    return found or find_untranscribed(data, out, keep=True)


def _start(
    fabric: Fabric, config: Config, data: PretrainingData, checkpoints: Path, checkpoint: Path | None
) -> Run[PretrainingModel]:
    torch.manual_seed(config.training.seed)
    model = PretrainingModel(config)
    if checkpoint is None and config.features.cmvn == "global":  # a checkpoint has the moments
        model.network.cmvn.set_moments(*feature_moments(model.network, evaluation_batches(data.usable, config)))
    return start_run(
        fabric, config, None, data.facts(config), model, checkpoints, checkpoint, without=_WITHOUT_INFLUENCE
    )


def _trial(config: Config, mean_s: float, processes: int) -> Trial[PretrainingModel]:
    """Return the work of a step, on noise."""

    def trial(model: PretrainingModel, share: float) -> Callable[[], Tensor]:
        waveforms = noise(config, mean_s, share, processes)
        ids = [f"noise {row}" for row in range(len(waveforms))]
        frames = [frame_count(waveforms.shape[1], config.features)] * len(ids)
        view = draw_pretraining_view(ids, frames, [1.0] * len(ids), config, _DEV_DRAW)
        batch = collate(list(waveforms), [[]] * len(ids), ids, view).to(model.head.weight.device)
        return lambda: losses(model, batch, 1.0)[0]

    return trial


def losses(model: nn.Module, batch: Batch, frames: float) -> tuple[Tensor, Tensor]:
    """Return what is minimised for a batch, and its sums `(3,)` of losses, hits and predicted frames.

    Args:
        model: a `PretrainingModel`, or as the engine wraps it.
        batch: on the model's device, with a view.
        frames: by which the sum of losses is divided.
    """
    sums = model(batch.waveforms, batch.lengths, batch.perturbation, batch.moments).sum(0)
    return sums[0] / frames, sums


@dataclass(frozen=True)
class Pretraining:
    """The `Training` of a network without transcripts.

    The section `training` of `config` has the settings of pretraining; `given` are all settings as the user gave them.
    """

    run: Run[PretrainingModel]
    config: Config
    given: Config
    data: PretrainingData
    out: Path
    moments: Moments | None = None  # of the training set's speakers, with features.cmvn=speaker
    dev_moments: Moments | None = None

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""
        return self.config.training.epochs

    @property
    def state(self) -> RunState:
        """How far the run has come."""
        return self.run.state

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.run.first

    @property
    def tracking(self) -> Tracking:
        """What trackers get once: all settings."""
        return Tracking.of(self.given)

    def save(self) -> None:
        """Write a checkpoint; every process calls this."""
        self.run.save()

    def batches(self, skip: int) -> Iterator[StepBatch]:
        """Return this process's share of the current epoch's batches, without the `skip` first ones."""
        self.run.model.train()
        epoch, load = self.state.epoch, self.run.loader(self.config.training.loading_processes)
        cuts, view = self.data.shuffled(Draw(self.config.training.seed, epoch)), draw_pretraining_view
        batches = load(cuts, None, self.config, epoch=epoch, skip=skip, perturb=view, moments=self.moments)
        return self.run.ahead(batches)

    def take_step(self, batch: StepBatch, asked: Wishes) -> tuple[PretrainingStep | StepSkipped, Accumulated]:
        """Take one step of the optimiser; with the gradients the processes exchange what they are asked to do.

        Raises:
            TrainingError: several steps in a row had no finite gradient, or a GPU's memory does not suffice.
        """
        run, state, settings = self.run, self.state, self.config.training
        progress = (state.epoch + state.utterances / self.data.survey.utterances) / settings.epochs
        run.begin_step(settings.seed)
        frames = self._expected_frames(batch)
        with memory_errors_explained(batch, self.config.features.sample_rate_hz):
            found = accumulate(
                run.fabric,
                run.wrapped,
                batch,
                lambda piece: losses(run.wrapped, piece, frames),
                stop=asked.stop,
                save=asked.save,
            )
        state.utterances += len(batch.ids)
        state.sums.audio_s += batch.audio_s
        total, hits, predicted = found.figures
        loss = total / max(1.0, predicted)
        if not abs(total) < float("inf") or not found.norm < float("inf"):  # not NaN either
            return self._skip(batch, loss, found.norm), found
        rate = learning_rate(settings, progress, state.improved)
        clipped = run.update_weights(found.norm, rate, settings.clip_norm)
        state.count_step(loss, found.norms, clipped=clipped)
        accuracy = hits / max(1.0, predicted) if run.model.quantiser else None
        step = PretrainingStep(
            state.step + 1, state.epoch, progress, batch.audio_s, loss, accuracy, found.norm, clipped, rate
        )
        return step, found

    def _expected_frames(self, batch: StepBatch) -> float:
        """Return about how many frames a step predicts: every process must know the number, of audio it never reads."""
        share = self.config.pretraining.mask_share if self.run.model.quantiser else 1.0
        return max(1.0, share * batch.audio_s / self.run.model.network.frame_shift_s)

    def _skip(self, batch: StepBatch, loss: float, norm: float) -> StepSkipped:
        """Leave the weights as they are; fail if this happens again and again."""
        state = self.state
        if state.count_bad_step():
            raise TrainingError(
                f"{state.bad_steps} steps in a row gave no finite gradient (loss {loss}, norm {norm}); the last one "
                f"was of {', '.join(batch.ids)}; choose a lower pretraining.learning_rate"
            )
        return StepSkipped(state.step + 1, state.epoch, loss, norm, batch.ids, [])

    def end_epoch(self) -> PretrainingEpoch:
        """Measure the averaged weights on dev and keep them if they are the best so far."""
        began, state, sums = time.perf_counter(), self.state, self.state.sums
        model = self.run.average.model
        loss, accuracy = score_pretraining(model, self.data.dev, self.config, self.run.fabric, self.dev_moments)
        best = state.take_dev_score(loss)
        if best and self.first:
            tensors = {name: tensor.cpu().contiguous() for name, tensor in model.network.state_dict().items()}
            save_weights(tensors, self.out / PRETRAINED)
            save_config(self.given, self.out / CONFIG, without=("text", "decode", "rnnlm"))
        return PretrainingEpoch(
            epoch=state.epoch,
            loss=sums.mean(sums.loss),
            dev_loss=loss,
            dev_accuracy=accuracy,
            best=best,
            gradient_norms={part: sums.mean(norm) for part, norm in sums.gradient_norms.items()},
            clipped_share=sums.mean(sums.clipped),
            skipped=sums.skipped,
            audio_s=sums.audio_s,
            train_s=sums.train_s,
            dev_s=time.perf_counter() - began,
        )


@torch.inference_mode()
def score_pretraining(
    model: PretrainingModel, cuts: Sequence[Any], config: Config, fabric: Fabric, moments: Moments | None = None
) -> tuple[float, float | None]:
    """Return the mean loss of dev's predicted frames, and the share of hits, None if there are no codes.

    Processes share the work, and all get the result.
    """
    places = {cut.id: place for place, cut in enumerate(cuts)}
    figures = torch.zeros(len(cuts), 3, dtype=torch.float64)
    for batch in evaluation_batches(cuts[fabric.global_rank :: fabric.world_size], config, moments):
        frames = [frame_count(samples, config.features) for samples in batch.lengths.tolist()]
        view = draw_pretraining_view(batch.ids, frames, [1.0] * len(frames), config, _DEV_DRAW)
        there = replace(batch, perturbation=view).to(fabric.device)
        with fabric.autocast():
            sums = model(there.waveforms, there.lengths, there.perturbation, there.moments)
        figures[[places[name] for name in batch.ids]] = sums.double().cpu()
    summed = fabric.all_reduce(figures.to(fabric.device), reduce_op="sum")
    loss, hits, predicted = summed.sum(0).tolist()  # type: ignore[union-attr]
    return loss / max(1.0, predicted), hits / max(1.0, predicted) if model.quantiser else None
