"""The training loop.

`train` is a generator: it does the work and yields what happened after the start, each step and each epoch. Whoever
iterates decides what to show; stopping the iteration stops the training.


Greedy word errors of a model on a manifest: the figure by which training chooses.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from lightning_fabric import Fabric

from asr.bundle.bundle import ModelBundle
from asr.bundle.card import TrainingFacts
from asr.bundle.files import CHECKPOINTS, WEIGHTS
from asr.config import Config
from asr.corpus.manifest import find_split, load_manifest, read_manifest, shuffle_shards, transcripts
from asr.decoding.greedy import greedy_search
from asr.errors import ConfigError, TrainingError
from asr.features.augment import Draw
from asr.features.batching import StepBatch, evaluation_batches, prefetch, training_batches
from asr.features.conditions import conditions_checksum
from asr.model.acoustic import AcousticModel
from asr.scoring.error_counts import ErrorCounts, count_errors
from asr.text.tokens import TokenTable
from asr.training.checkpoint import LAST, MOST_BAD_STEPS, EpochSums, find_checkpoint
from asr.training.device import make_fabric
from asr.training.log import TrainingLog
from asr.training.loop import StopRequest, only_run_in
from asr.training.reports import EpochReport, Report, RunStart, RunStopped, StepReport, StepSkipped
from asr.training.run import Run, learning_rate, start_run
from asr.training.step import StepGradient, bad_utterances, compute_gradient, memory_errors_explained, write_failed_step
from asr.training.survey import Survey, feature_moments, is_usable, survey_training_cuts
from asr.training.transfer import transfer_weights

if TYPE_CHECKING:
    from lhotse.cut import Cut

SPIKE = 2.0  # a loss this many times the level before it


def train(
    config: Config,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    init_from: Path | None = None,
    with_dev: bool = False,
) -> Iterator[Report]:
    """Train on `data/train.jsonl.gz`, choose by the greedy WER on `data/dev.jsonl.gz`, leave the best model in `out`.

    Where several processes train together, each calls this; the first alone writes files and yields reports.

    Args:
        config: all settings; they are saved with the model.
        data: folder of the manifests.
        out: the model folder; the run's state lies in `out/checkpoints`.
        resume: continue from that state if it is there.
        init_from: a model folder whose weights are taken over where they fit, unless the run is resumed.
        with_dev: train on dev as well; nothing is chosen then, and the last weights are left.

    Raises:
        TrainingError: `out` holds a run and `resume` is not set, or a finished model; another run is at work there; no
            usable data; several steps in a row gave no finite gradient; a checkpoint cannot be written; a GPU's memory
            does not suffice.
        DeviceError: there is no such device.
        ConfigError: a run is resumed with other settings, or the schedule needs a dev set and `with_dev` takes it.
        ModelError: no checkpoint can be read, or `init_from` cannot be used.
    """
    if (out / WEIGHTS).exists() and not (out / CHECKPOINTS).exists():
        raise TrainingError(f"{out}: holds a finished model; choose another --out (--init-from {out} starts from it)")
    if with_dev and config.training.schedule == "plateau":
        raise ConfigError("training.schedule=plateau goes by the dev WER, and --with-dev leaves none; take one-cycle")
    with StopRequest() as stop:
        fabric = make_fabric(config.training)
        with _only_run_in(out, fabric):
            yield from _train(fabric, config, data, out, resume, init_from, with_dev, stop)


@contextmanager
def _only_run_in(out: Path, fabric: Fabric) -> Iterator[None]:
    """Keep other runs out of the folder `out`; the first process does so for all, and all fail if it cannot."""
    with ExitStack() as held:
        refusal = None
        if fabric.is_global_zero:
            try:
                held.enter_context(only_run_in(out))
            except TrainingError as error:
                refusal = error
        refused = fabric.all_reduce(torch.tensor(float(refusal is not None), device=fabric.device), reduce_op="sum")
        if refused:
            raise refusal or TrainingError(f"{out}: the first process cannot train there; its message says why")
        yield


def _train(
    fabric: Fabric,
    config: Config,
    data: Path,
    out: Path,
    resume: bool,
    init_from: Path | None,
    with_dev: bool,
    stop: StopRequest,
) -> Iterator[Report]:
    settings = config.training
    checkpoints = out / CHECKPOINTS
    checkpoint, damage = find_checkpoint(checkpoints)
    if checkpoint and not resume:
        raise TrainingError(f"{out}: holds a training run already; use --resume to continue it, or another --out")
    splits = [find_split(data, split) for split in ("train", "dev")]
    all_cuts = read_manifest(*(splits if with_dev else splits[:1]))
    dev_cuts = [] if with_dev else list(load_manifest(splits[1]))
    survey = survey_training_cuts(all_cuts, config)
    usable = partial(is_usable, survey)

    torch.manual_seed(settings.seed)
    model = AcousticModel(config, len(survey.tokens))
    if config.features.cmvn == "global" and not checkpoint:  # which holds them
        model.cmvn.set_moments(*feature_moments(model, evaluation_batches(all_cuts.filter(usable), config)))
    transfer = None
    if init_from and not checkpoint:
        transfer = transfer_weights(init_from, model, survey.tokens, config.features)
    data_facts = {
        "utterances": survey.utterances,
        "audio_s": survey.audio_s,
        "with_dev": with_dev,
        "dev_utterances": len(dev_cuts),
        "checksum": survey.checksum,
        "noise_checksum": conditions_checksum(config),
    }
    run = start_run(fabric, config, survey.tokens, data_facts, model, checkpoints, checkpoint)
    state = run.state
    log = TrainingLog(out, first_epoch=state.epoch, first_step=state.step) if run.first else None
    if run.first:
        yield RunStart(
            survey=survey,
            parameter_count=model.parameter_count,
            receptive_field_s=model.receptive_field_s,
            device=str(fabric.device),
            processes=fabric.world_size,
            precision=str(fabric._precision.precision),
            resumed_at_epoch=state.epoch,
            resumed_at_step=state.step,
            damaged_checkpoint=damage,
            transfer=transfer,
        )

    on_gpu = fabric.device.type == "cuda"
    saved_at = time.perf_counter()
    for epoch in range(state.epoch, settings.epochs):
        model.train()
        began = time.perf_counter()
        steps = training_batches(
            shuffle_shards(all_cuts, Draw(settings.seed, epoch).rng("shards")).filter(usable),
            survey.tokens,
            config,
            epoch=epoch,
            skip=state.batch,
            process=fabric.global_rank,
            processes=fabric.world_size,
        )
        for batch in prefetch(step.pinned() for step in steps) if on_gpu else steps:
            progress = (epoch + state.utterances / survey.utterances) / settings.epochs
            # Dropout depends on the step, not on the past.
            torch.manual_seed(settings.seed + 7919 * (state.step + 1) + 104729 * fabric.global_rank)
            run.optimizer.zero_grad(set_to_none=True)
            due = time.perf_counter() - saved_at >= settings.checkpoint_every_s
            with memory_errors_explained(batch, config.features.sample_rate_hz):
                gradient = compute_gradient(
                    fabric,
                    run.wrapped,
                    batch,
                    config,
                    epoch=epoch,
                    frozen=settings.freeze if state.step < settings.freeze_steps else (),
                    stop=bool(stop.signal_name),
                    save=due,
                )
            report: StepReport | StepSkipped
            if gradient.finite:
                rate = learning_rate(settings, progress, state.dev_scores)
                report = take_step(run, config, gradient, rate, epoch=epoch, progress=progress)
            else:
                report = skip_step(run, config, gradient, batch, epoch=epoch, failures=out / "failed")
            state.step, state.batch = state.step + 1, state.batch + 1
            state.utterances += len(batch.ids)
            state.sums.audio_s += batch.audio_s
            now = time.perf_counter()
            state.sums.train_s, began = state.sums.train_s + now - began, now
            if log:
                log.step(report)
                yield report
            if gradient.stop or gradient.save:
                run.save()
                saved_at = time.perf_counter()
            if gradient.stop:
                if log:
                    log.close()
                    yield RunStopped(
                        stop.signal_name or "a signal to another process", state.step, run.checkpoints / LAST
                    )
                return

        summary = finish_epoch(run, config, survey, dev_cuts, out)
        if log:  # before the checkpoint: on resuming, a line too many is dropped, and one too few would be lost
            log.epoch(summary)
        run.save()
        saved_at = time.perf_counter()
        if log:
            yield summary
    if log:
        log.close()


def take_step(
    run: Run, config: Config, gradient: StepGradient, rate: float, *, epoch: int, progress: float
) -> StepReport:
    """Clip the gradient, let the optimiser make the step, average the weights, and count."""
    settings, state, sums = config.training, run.state, run.state.sums
    clipped = gradient.norm > settings.clip_norm
    if clipped:
        norm = torch.tensor(gradient.norm, device=run.fabric.device)
        torch.nn.utils.clip_grads_with_norm_(run.model.parameters(), settings.clip_norm, norm)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    run.average.update(run.model, state.step + 1)

    spike = 0 < SPIKE * state.loss_level < gradient.loss
    state.loss_level = 0.98 * state.loss_level + 0.02 * gradient.loss if state.loss_level else gradient.loss
    state.bad_steps = 0
    sums.steps, sums.loss = sums.steps + 1, sums.loss + gradient.loss
    sums.clipped, sums.spikes = sums.clipped + clipped, sums.spikes + spike
    for part, part_norm in gradient.norms.items():
        sums.gradient_norms[part] = sums.gradient_norms.get(part, 0.0) + part_norm
    return StepReport(
        step=state.step + 1,
        epoch=epoch,
        progress=progress,
        loss=gradient.loss,
        ctc=gradient.ctc,
        consistency=gradient.consistency,
        intermediate=gradient.intermediate,
        gradient_norm=gradient.norm,
        gradient_norms=gradient.norms,
        clipped=clipped,
        spike=spike,
        learning_rate=rate,
    )


def finish_epoch(run: Run, config: Config, survey: Survey, dev_cuts: Sequence[Cut], out: Path) -> EpochReport:
    """Measure the averaged weights on dev, keep them if they are the best so far, and go on to the next epoch.

    Without a dev set they are kept in any case.
    """
    began, state = time.perf_counter(), run.state
    dev = greedy_errors(run.average.model, dev_cuts, survey.tokens, config, run.fabric) if dev_cuts else None
    best = dev is None or dev.rate <= min(state.dev_scores, default=float("inf"))
    if best and run.first:
        TrainingFacts(
            train_utterances=survey.utterances,
            train_s=survey.audio_s,
            dev_utterances=len(dev_cuts),
            dev_s=sum(cut.duration for cut in dev_cuts),
            dev_words=dev.reference_length if dev else 0,
            dev_wer=dev.rate if dev else None,
            epochs=state.epoch + 1,
        ).save(out)
        ModelBundle(config, survey.tokens, run.average.model).save(out)
    sums, state.sums = state.sums, EpochSums()
    state.epoch, state.batch, state.utterances = state.epoch + 1, 0, 0
    if dev:
        state.dev_scores.append(dev.rate)
    return EpochReport(
        epoch=state.epoch - 1,
        loss=sums.loss / max(1, sums.steps),
        dev=dev,
        best=best,
        gradient_norms={part: norm / sums.steps for part, norm in sums.gradient_norms.items()},
        clipped_share=sums.clipped / max(1, sums.steps),
        spikes=sums.spikes,
        skipped=sums.skipped,
        audio_s=sums.audio_s,
        train_s=sums.train_s,
        dev_s=time.perf_counter() - began,
    )


def skip_step(
    run: Run, config: Config, gradient: StepGradient, batch: StepBatch, *, epoch: int, failures: Path
) -> StepSkipped:
    """Leave the weights alone; stop the run, with the batch on disk, if this happens again and again.

    Raises:
        TrainingError: it was the last of `MOST_BAD_STEPS` in a row.
    """
    state = run.state
    bad = bad_utterances(run.fabric, run.model, batch, config, epoch=epoch)
    state.bad_steps += 1
    state.sums.skipped += 1
    if state.bad_steps >= MOST_BAD_STEPS:
        path = write_failed_step(
            failures, state.step + 1, batch, gradient, bad, epoch=epoch, process=run.fabric.global_rank
        )
        raise TrainingError(
            f"{state.bad_steps} steps in a row gave no finite gradient (loss {gradient.loss}, norm {gradient.norm}); "
            f"bad utterances: {', '.join(bad) or 'none by itself'}; the last batch and its figures are in {path}"
        )
    return StepSkipped(state.step + 1, epoch, gradient.loss, gradient.norm, batch.ids, bad)


@torch.inference_mode()
def greedy_errors(
    model: AcousticModel, cuts: Sequence[Cut], tokens: TokenTable, config: Config, fabric: Fabric
) -> ErrorCounts:
    """Return the word errors of `model` over `cuts`, summed; processes share the work and all get the result."""
    mine = cuts[fabric.global_rank :: fabric.world_size]
    references = transcripts(mine, config.text)
    total = ErrorCounts()
    for batch in evaluation_batches(mine, config):
        with fabric.autocast():
            log_posteriors, lengths = model(batch.waveforms.to(fabric.device), batch.lengths.to(fabric.device))
        for utterance_id, hypothesis in zip(batch.ids, greedy_search(log_posteriors, lengths), strict=True):
            total += count_errors(references[utterance_id], tokens.decode(hypothesis.tokens), unit="word")
    counts = torch.tensor(astuple(total), device=fabric.device)
    return ErrorCounts(*fabric.all_reduce(counts, reduce_op="sum").tolist())  # type: ignore[union-attr]
