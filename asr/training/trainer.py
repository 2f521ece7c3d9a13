"""The training loop.

`train` is a generator: it does the work and yields what happened after the start, each step and each epoch. Whoever
iterates decides what to show; stopping the iteration stops the training.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.config import Config
from asr.data.manifest import read_manifest
from asr.errors import ConfigError, TrainingError
from asr.features.augment import apply_masks, draw_masks
from asr.features.batching import Batch, evaluation_batches, prefetch, training_batches
from asr.model.acoustic import AcousticModel
from asr.model.bundle import ModelBundle
from asr.model.ctc import CtcLoss, ctc_loss
from asr.training.average import WeightAverage
from asr.training.checkpoint import RunState, load_checkpoint, read_facts, save_checkpoint
from asr.training.device import make_fabric
from asr.training.evaluate import greedy_errors
from asr.training.log import TrainingLog
from asr.training.reports import EpochReport, RunStart, StepReport
from asr.training.schedule import learning_rate
from asr.training.survey import is_usable, survey_training_cuts


def train(
    config: Config, data: Path, out: Path, *, resume: bool = False
) -> Iterator[RunStart | StepReport | EpochReport]:
    """Train on `data/train.jsonl.gz`, choose by the greedy WER on `data/dev.jsonl.gz`, leave the best model in `out`.

    Args:
        config: all settings; they are saved with the model.
        data: folder of the manifests.
        out: the model folder; `out/checkpoints/last.safetensors` is the run's state after each epoch.
        resume: continue from that state if it is there.

    Raises:
        TrainingError: `out` holds a run and `resume` is not set; no usable data; the loss is not finite.
        ConfigError: a run is resumed with other settings.
    """
    settings = config.training
    checkpoint = out / "checkpoints" / "last.safetensors"
    if checkpoint.exists() and not resume:
        raise TrainingError(f"{out}: holds a training run already; use --resume to continue it, or another --out")
    fabric = make_fabric(settings)
    dev_cuts = read_manifest(data / "dev.jsonl.gz").to_eager()
    all_cuts = read_manifest(data / "train.jsonl.gz")
    survey = survey_training_cuts(all_cuts, config)
    cuts = all_cuts.filter(partial(is_usable, survey)) if survey.skipped else all_cuts
    tokens = survey.tokens

    torch.manual_seed(settings.seed)
    model = AcousticModel(config, len(tokens))
    if config.features.cmvn == "global":
        model.cmvn.set_moments(*feature_moments(model, evaluation_batches(cuts, config)))
    average = WeightAverage(model, settings.ema_decay)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings.weight_decay), lr=0.0, betas=(0.9, 0.98))
    wrapped, optimizer = fabric.setup(model, optimizer)
    average.model.to(fabric.device)

    modules = {"model": model, "average": average.model}
    kept_settings = config.model_dump(mode="json", exclude={"training": {"accelerator"}})
    facts = {"settings": kept_settings, "tokens": list(tokens.symbols)}
    state = RunState()
    if checkpoint.exists():
        require_same(read_facts(checkpoint), facts, checkpoint)
        state = load_checkpoint(checkpoint, modules, optimizer)
    log = TrainingLog(out, first_epoch=state.epoch, first_step=state.step)
    yield RunStart(
        survey,
        model.parameter_count,
        model.receptive_field_s,
        str(fabric.device),
        str(fabric._precision.precision),
        state.epoch,
    )

    for epoch in range(state.epoch, settings.epochs):
        began = time.perf_counter()
        losses: list[float] = []
        audio_s = 0.0
        model.train()
        batches = training_batches(cuts, tokens, config, epoch=epoch, skip=state.batch)
        for batch in prefetch(batches) if fabric.device.type == "cuda" else batches:
            progress = (epoch + state.utterances / survey.utterances) / settings.epochs
            rate = learning_rate(settings, progress, state.dev_wers)
            for group in optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(settings.seed + 7919 * (state.step + 1))  # dropout depends on the step, not on the past
            loss = batch_loss(wrapped, batch.to(fabric.device), config, epoch)
            if not torch.isfinite(loss.total):
                raise TrainingError(f"the loss is {loss.total.item()} at step {state.step + 1}, batch {batch.ids}")
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(loss.total)
            gradient_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
            state.step, state.batch = state.step + 1, state.batch + 1
            state.utterances += len(batch.ids)
            average.update(model, state.step)
            audio_s += batch.lengths.sum().item() / config.features.sample_rate_hz
            report = StepReport(
                state.step,
                epoch,
                progress,
                loss.total.item(),
                loss.ctc.item(),
                loss.consistency.item(),
                gradient_norm.item(),
                rate,
            )
            losses.append(report.loss)
            log.step(report)
            yield report
        trained = time.perf_counter()
        with fabric.autocast():
            dev = greedy_errors(average.model, dev_cuts, tokens, config)
        best = dev.wer <= min(state.dev_wers, default=float("inf"))
        if best:
            ModelBundle(config, tokens, average.model, config.decode).save(out)
        state.epoch, state.batch, state.utterances = epoch + 1, 0, 0
        state.dev_wers.append(dev.wer)
        save_checkpoint(checkpoint, state, modules, optimizer, facts)
        summary = EpochReport(
            epoch,
            sum(losses) / len(losses),
            dev,
            best,
            audio_s,
            trained - began,
            time.perf_counter() - trained,
        )
        log.epoch(summary)
        yield summary
    log.close()


def require_same(saved: dict[str, Any], wanted: dict[str, Any], checkpoint: Path) -> None:
    """Refuse to resume a run with other settings or another token table; the message names what differs."""
    differing = [
        f"{section}.{key} was {saved['settings'].get(section, {}).get(key)!r}, is {value!r}"
        for section, values in wanted["settings"].items()
        for key, value in values.items()
        if saved["settings"].get(section, {}).get(key) != value
    ]
    if saved["tokens"] != wanted["tokens"]:
        differing.append("the characters of the training text")
    if differing:
        raise ConfigError(
            f"{checkpoint}: cannot resume with other settings ({'; '.join(differing)}); choose another --out"
        )


def batch_loss(model: torch.nn.Module, batch: Batch, config: Config, epoch: int) -> CtcLoss:
    """Return the criterion of a batch: one masked view of each utterance, or two with consistency between them."""
    settings = config.training
    views = 2 if settings.consistency_weight > 0 else 1

    def augment(features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        masks = draw_masks(
            batch.ids,
            lengths.tolist(),
            features.shape[2],
            config.augment,
            hop_ms=config.features.hop_ms,
            views=views,
            seed=settings.seed,
            epoch=epoch,
        )
        return apply_masks(features, lengths, masks)

    log_posteriors, lengths = model(batch.waveforms, batch.lengths, augment)
    return ctc_loss(
        log_posteriors,
        lengths,
        batch.tokens,
        batch.token_lengths,
        views=views,
        consistency_weight=settings.consistency_weight,
    )


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Split parameters into matrices, which decay, and biases and gains, which do not."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


@torch.inference_mode()
def feature_moments(
    model: AcousticModel, batches: Iterator[Batch], *, at_most_s: float = 3600
) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each mel band, `(mel,)` float32, over at most `at_most_s` seconds of audio."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        features, lengths = model.logmel(batch.waveforms, batch.lengths)
        frames = torch.cat([utterance[:n] for utterance, n in zip(features, lengths.tolist(), strict=True)]).double()
        count += len(frames)
        total, squares = total + frames.sum(0), squares + frames.square().sum(0)
        if count * model.logmel.hop_samples / model.sample_rate_hz > at_most_s:
            break
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp_min(0).sqrt().float()
