"""Acoustic training: manifests → a model folder. What a step and an epoch are; `loop.py` has what happens around them.

A step takes a batch of utterances: gradient, clipping, optimiser, average of the weights. An epoch ends with the score
of the average on dev, by which the best weights are chosen: `dev_score.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from lightning_fabric import Fabric

from asr.bundle.bundle import ModelBundle
from asr.bundle.files import (
    CARD,
    CHECKPOINTS,
    CONFIG,
    DECODER,
    FAILED_STEPS,
    TOKENS,
    TRAINING,
    TRAINING_LOG,
    WEIGHTS,
)
from asr.bundle.stored_features import with_stored_features
from asr.config import Config
from asr.errors import AudioError, ConfigError, TrainingError, UtteranceAudioError
from asr.features.augment import Draw
from asr.features.batching import Moments, StepBatch, evaluation_batches
from asr.model.acoustic import AcousticModel
from asr.model.computation import Comparison, Computation, given_threads, threads
from asr.model.speaker_moments import speaker_moments
from asr.settings_file import load_config
from asr.training.dev_score import Evaluation, score_dev
from asr.training.engine import make_fabric
from asr.training.examples import example_audio, example_cuts, recognise_examples
from asr.training.loop import (
    Requests,
    TrainingResult,
    Wishes,
    find_run,
    only_run_of_all_in,
    run_to_end,
    training_loop,
)
from asr.training.pseudo_labels import PseudoLabelling, UntranscribedData, read_untranscribed, untranscribed_facts
from asr.training.reports import EpochReport, Report, RunStart, StepReport, StepSkipped
from asr.training.run import Run, acoustic_trial, choose_computation, first_model, start_run, within_corpus
from asr.training.run_state import RunState, learning_rate
from asr.training.step import (
    StepGradient,
    Teachers,
    bad_utterances,
    compute_gradient,
    memory_errors_explained,
    write_failed_step,
)
from asr.training.survey import TrainingData, feature_moments, read_training_data, training_facts
from asr.training.trackers import Tracking, require_tracker
from asr.training.transfer import Transfer, transfer_weights

if TYPE_CHECKING:
    from lhotse.cut import Cut

AnyPath: TypeAlias = str | os.PathLike[str]

SPIKE = 2.0  # a loss this many times the level before it


def train(
    config: Config | AnyPath,
    data: AnyPath,
    out: AnyPath,
    *,
    resume: bool = False,
    init_from: AnyPath | None = None,
    unlabelled: AnyPath | Iterable[AnyPath] | None = None,
    with_dev: bool = False,
    on_report: Callable[[Report], object] | None = None,
) -> TrainingResult:
    """Train an acoustic model; the weights that do best on dev are kept.

    They are chosen by WER, or in scripts without spaces by CER. Where that says nothing, CER or loss decide:
    `asr/training/dev_score.py` has the rule.

    SIGTERM or Ctrl-C finishes the step, writes a checkpoint and ends the training; `resume` continues it. With several
    processes (torchrun, Slurm), each calls this; only the first writes files and reports.

    Args:
        config: all settings, or a YAML file with some of them.
        data: the folder with the splits `train` and `dev`.
        out: the model folder to write; the run's state is in `out/checkpoints`.
        resume: continue the run in `out` if there is one.
        init_from: a model folder (fine-tuning), or one that `asr.pretrain` wrote. Its weights are taken where they fit,
            unless the run is resumed.
        unlabelled: audio without transcripts, which the averaged weights transcribe during the run
            (`asr.training.pseudo_labels`): data folders, manifests, recordings, or folders of these. The run ends when
            dev stops to gain.
        with_dev: train on dev as well. Nothing is chosen then, and the last weights are kept.
        on_report: called with each report (`asr.training.reports`): the start, each step, each epoch, the stop.

    Raises:
        AudioError: a recording of an utterance, of noise or of a room cannot be used.
        ConfigError: a setting is not acceptable; the run is resumed with other settings or data; the schedule needs a
            dev set and `with_dev` takes it.
        DeviceError: `training.accelerator` is `cuda` and there is none.
        ManifestError: a split is missing or malformed.
        ModelError: no checkpoint can be read, `init_from` cannot be used, or the model cannot be written.
        TokenError: sub-word pieces cannot be learnt from the transcripts.
        TrainingError: `out` holds a run and `resume` is not set, or a finished model; another run is at work there; no
            utterance is usable; several steps in a row gave no finite gradient; a file cannot be written; a GPU's
            memory does not suffice.
    """
    settings = config if isinstance(config, Config) else load_config(config)
    source = None if init_from is None else Path(init_from)
    reports = training_reports(
        settings, Path(data), Path(out), resume=resume, init_from=source, unlabelled=unlabelled, with_dev=with_dev
    )
    try:
        return run_to_end(reports, on_report)
    except UtteranceAudioError as error:
        raise AudioError(f"{error}; `asr check {data} --out DIR` writes manifests without such recordings") from None


def training_reports(
    config: Config,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    init_from: Path | None = None,
    unlabelled: AnyPath | Iterable[AnyPath] | None = None,
    with_dev: bool = False,
    teachers: Teachers | None = None,
) -> Generator[Report, None, TrainingResult]:
    """Do what `train` does, one report at a time; it raises the same errors. Only the first process yields reports.

    With `teachers` the network learns their posteriors too; a ModelError says why they cannot teach it.
    """
    if (out / WEIGHTS).exists() and not (out / CHECKPOINTS).exists():
        raise TrainingError(
            f"{out}: holds a finished model; choose another --out (asr train --init-from {out} starts from it)"
        )
    if not (out / CHECKPOINTS).exists():
        _refuse_foreign_files(out)
    if with_dev and config.training.schedule == "plateau":
        raise ConfigError("training.schedule=plateau goes by the dev WER, and --with-dev leaves none; take one-cycle")
    require_tracker(config.training.tracker)
    config, stored = with_stored_features(config, data)
    if stored is not None and unlabelled:
        raise ConfigError(f"{data}: audio without transcripts has no stored features; train on the other data")
    with Requests(config.training.checkpoint_every_s) as requests:
        fabric = make_fabric(config.training)
        with only_run_of_all_in(out, fabric):
            checkpoint, damage = find_run(out, resume=resume)
            cuts = read_training_data(config, data, with_dev=with_dev, stored=stored)
            other = unlabelled and read_untranscribed(fabric, config, unlabelled, out, keep=checkpoint is not None)
            with threads(given_threads() or 1):  # the last digits of the first weights depend on their number
                training, transfer = _start(fabric, config, cuts, other or None, out, checkpoint, init_from, teachers)
            mean_s = cuts.survey.audio_s / cuts.survey.utterances
            trial = acoustic_trial(within_corpus(config, cuts.survey.audio_s), mean_s, fabric.world_size)
            timed = choose_computation(training.run, config, trial)
            start = _start_report(training, damage, transfer, timed)
            with threads(start.computation.threads):
                return (yield from training_loop(training, start, requests))


def _refuse_foreign_files(out: Path) -> None:
    """Keep a new run from replacing files that no run wrote, such as the README of a project."""
    for name in (CARD, CONFIG, DECODER, TOKENS, TRAINING, TRAINING_LOG):
        if (out / name).exists():
            reason = "exists and is not of a training run, so it is not replaced"
            raise TrainingError(f"{out / name}: {reason}; choose another --out")


def _start(
    fabric: Fabric,
    config: Config,
    data: TrainingData,
    other: UntranscribedData | None,
    out: Path,
    checkpoint: Path | None,
    init_from: Path | None,
    teachers: Teachers | None,
) -> tuple[AcousticTraining, Transfer | None]:
    """Make the model, or load it from the checkpoint; return also what came from the model `init_from`."""
    torch.manual_seed(config.training.seed)
    model = first_model(config, len(data.survey.tokens), data.stored)
    transfer = None
    if checkpoint is None:  # it has the moments and the weights
        if config.features.cmvn == "global":
            model.cmvn.set_moments(*feature_moments(model, evaluation_batches(data.usable, config)))
        if init_from:
            transfer = transfer_weights(init_from, model, data.survey.tokens, config.features)
    if teachers:
        teachers.require_fit(config, data.survey.tokens)
    facts = data.facts(config) | untranscribed_facts(other) | {"teachers": teachers.checksums if teachers else []}
    if model.encoder_identity is not None:
        facts |= {"encoder_checksum": model.encoder_identity.checksum, "stored_features": data.stored is not None}
    run = start_run(fabric, config, data.survey.tokens, facts, model, out / CHECKPOINTS, checkpoint)
    if transfer:
        run.state.init_from, run.state.knows_tokens = str(transfer.source), transfer.shared_tokens > 0
    speeds = config.augment.speeds
    moments = speaker_moments(data.usable, config, speeds), speaker_moments(data.dev, config)
    pseudo = PseudoLabelling(other, config, speaker_moments(other.usable, config, speeds)) if other else None
    placed = teachers.to(fabric.device) if teachers else None
    examples = example_cuts(data.dev, config.text)
    return AcousticTraining(run, config, data, out, *moments, placed, pseudo, examples), transfer


def _start_report(
    training: AcousticTraining,
    damage: str | None,
    transfer: Transfer | None,
    timed: list[Comparison[Computation]],
) -> RunStart:
    run, state = training.run, training.state
    assert state.precision is not None
    assert state.threads is not None
    return RunStart(
        survey=training.data.survey,
        parameter_count=run.model.parameter_count,
        receptive_field_s=run.model.receptive_field_s,
        device=str(run.fabric.device),
        processes=run.fabric.world_size,
        computation=Computation(state.precision, state.threads),
        timed_s=tuple(comparison.times_s for comparison in timed if comparison.times_s),
        resumed_at_epoch=state.epoch,
        resumed_at_step=state.step,
        damaged_checkpoint=damage,
        transfer=transfer,
        dev_rates=tuple(state.dev_scores),
    )


@dataclass(frozen=True)
class AcousticTraining:
    """The `Training` of an acoustic model."""

    run: Run[AcousticModel]
    config: Config
    data: TrainingData
    out: Path
    moments: Moments | None = None  # of the training set's speakers, with features.cmvn=speaker
    dev_moments: Moments | None = None
    teachers: Teachers | None = None
    pseudo: PseudoLabelling | None = None  # with untranscribed utterances
    examples: Sequence[Cut] = ()  # of dev, whose texts are shown

    @property
    def epochs(self) -> int:
        """Epochs of the whole run; it is over earlier if untranscribed utterances do not help any more."""
        return self.state.epoch if self.pseudo and self.pseudo.has_stalled(self.state) else self.config.training.epochs

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
        """What trackers get once: all settings and the sound of three utterances of dev."""
        return Tracking.of(self.config, partial(example_audio, self.examples, self.config))

    def save(self) -> None:
        """Write a checkpoint; every process calls this."""
        self.run.save()

    def batches(self, skip: int) -> Iterator[StepBatch]:
        """Return this process's share of the current epoch's batches, without the `skip` first ones."""
        self.run.model.train()
        epoch, load = self.state.epoch, self.run.loader(self.config.training.loading_processes)
        cuts, tokens = self.data.shuffled(Draw(self.config.training.seed, epoch)), self.data.survey.tokens
        moments, stored = self.moments, self.data.load_stored
        batches = load(cuts, tokens, self.config, epoch=epoch, skip=skip, moments=moments, stored=stored)
        if self.pseudo:
            batches = self.pseudo.beside(batches, self.state, load)
        return self.run.ahead(batches)

    def take_step(self, batch: StepBatch, asked: Wishes) -> tuple[StepReport | StepSkipped, StepGradient]:
        """Take one step of the optimiser; with the gradients the processes exchange what they are asked to do.

        Raises:
            TrainingError: several steps in a row had no finite gradient, or a GPU's memory does not suffice.
        """
        run, state, settings = self.run, self.state, self.config.training
        progress = (state.epoch + state.utterances / self.data.survey.utterances) / settings.epochs
        run.begin_step(settings.seed)
        step = batch
        with memory_errors_explained(batch, self.config.features.sample_rate_hz):
            if self.pseudo and batch.untranscribed:
                step = self.pseudo.label(run.fabric, run.average.model, batch, state)
            gradient = compute_gradient(
                run.fabric,
                run.wrapped,
                step,
                self.config,
                teachers=self.teachers,
                frozen=settings.freeze if state.step < settings.freeze_steps else (),
                stop=asked.stop,
                save=asked.save,
            )
        report: StepReport | StepSkipped
        report = self._step(gradient, batch, progress) if gradient.finite else self._skip(gradient, step)
        state.utterances += len(batch.ids)
        state.sums.audio_s += batch.audio_s
        return report, gradient

    def _step(self, gradient: StepGradient, batch: StepBatch, progress: float) -> StepReport:
        """Clip the gradient, let the optimiser make the step, average the weights, and count."""
        run, state, settings = self.run, self.state, self.config.training
        rate = learning_rate(settings, progress, state.improved)
        clipped = run.update_weights(gradient.norm, rate, settings.clip_norm)
        spike = 0 < SPIKE * state.loss_level < gradient.loss
        state.loss_level = 0.98 * state.loss_level + 0.02 * gradient.loss if state.loss_level else gradient.loss
        state.count_step(gradient.loss, gradient.norms, clipped=clipped)
        state.sums.spikes += spike
        return StepReport(
            step=state.step + 1,
            epoch=state.epoch,
            progress=progress,
            audio_s=batch.audio_s,
            loss=gradient.loss,
            ctc=gradient.ctc,
            consistency=gradient.consistency,
            intermediate=gradient.intermediate,
            gradient_norm=gradient.norm,
            gradient_norms=gradient.norms,
            clipped=clipped,
            spike=spike,
            learning_rate=rate,
            teacher=gradient.teacher,
        )

    def _skip(self, gradient: StepGradient, batch: StepBatch) -> StepSkipped:
        """Leave the weights as they are. If this happens again and again, write the batch to disk and fail."""
        run, state = self.run, self.state
        bad = bad_utterances(run.fabric, run.model, batch, self.config)
        if state.count_bad_step():
            path = write_failed_step(
                self.out / FAILED_STEPS,
                state.step + 1,
                batch,
                gradient,
                bad,
                epoch=state.epoch,
                process=run.fabric.global_rank,
            )
            raise TrainingError(
                f"{state.bad_steps} steps in a row gave no finite gradient (loss {gradient.loss}, norm "
                f"{gradient.norm}); bad utterances: {', '.join(bad) or 'none by itself'}; the last batch and its "
                f"figures are in {path}"
            )
        return StepSkipped(state.step + 1, state.epoch, gradient.loss, gradient.norm, batch.ids, bad)

    def end_epoch(self) -> EpochReport:
        """Measure the averaged weights on dev and keep them if they are the best so far.

        Without a dev set they are always kept.
        """
        began, state, sums = time.perf_counter(), self.state, self.state.sums
        model, tokens = self.run.average.model, self.data.survey.tokens
        evaluation = Evaluation(tokens, self.config, self.run.fabric, self.dev_moments, self.data.load_stored)
        dev = score_dev(model, self.data.dev, evaluation) if self.data.dev else None
        rate = learning_rate(self.config.training, (state.epoch + 1) / self.config.training.epochs, state.improved)
        texts = recognise_examples(model, self.examples, evaluation) if self.first else ()
        best = state.take_dev_score(dev)
        if best and self.first:
            taught_by = self.teachers.names if self.teachers else ()
            training_facts(self.data, dev, state, taught_by).save(self.out)
            ModelBundle(self.config, tokens, model).save(self.out)
        return EpochReport(
            epoch=state.epoch,
            loss=sums.mean(sums.loss),
            dev=dev,
            best=best,
            gradient_norms={part: sums.mean(norm) for part, norm in sums.gradient_norms.items()},
            clipped_share=sums.mean(sums.clipped),
            spikes=sums.spikes,
            skipped=sums.skipped,
            audio_s=sums.audio_s,
            train_s=sums.train_s,
            dev_s=time.perf_counter() - began,
            learning_rate=rate,
            dev_texts=texts,
            labelled_share=1 - sums.without_label / sums.untranscribed if sums.untranscribed else None,
        )
