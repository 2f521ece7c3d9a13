"""The text of a recurrent language model as training reads it: one long stream, cut into parallel ones.

Training of a recurrent language model by truncated backpropagation.

The text lies in parallel streams. A step reads the next window of each, and computes gradients within it; the state
goes on to the next window as a value, so that the network knows what came before although gradients end there
(Williams & Peng 1990, Mikolov et al. 2010). Where a window happens to begin with a sentence, the state is zero, as it
is when the model is used: so that start is trained too.

`train_lm` is a generator like `trainer.train`: it does the work and yields what happened.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from asr.bundle.files import CHECKPOINTS, RNN_LM_WEIGHTS
from asr.config import RnnLmSettings, TrainingSettings
from asr.errors import ConfigError, LanguageModelError, TrainingError
from asr.features.augment import Draw
from asr.lm.ngram import Perplexity
from asr.lm.rnnlm import BOUNDARY, LmState, LmUnits, RnnLm
from asr.machine import choose_accelerator
from asr.training.checkpoint import (
    LAST,
    MOST_BAD_STEPS,
    EpochSums,
    RunState,
    find_checkpoint,
    load_checkpoint,
    require_same,
    save_checkpoint,
)
from asr.training.log import LmLog
from asr.training.loop import StopRequest, only_run_in
from asr.training.reports import LmEpoch, LmReport, LmStart, LmStep, RunStopped
from asr.training.run import learning_rate, parameter_groups


class LmText:
    """Sentences of unit ids, kept as one array."""

    def __init__(self, sentences: Sequence[Sequence[int]]) -> None:
        """Keep the sentences, each with the boundary at its end.

        Raises:
            LanguageModelError: there is none.
        """
        if not sentences:
            raise LanguageModelError("there is no sentence; one a line is expected")
        ends = np.cumsum([len(sentence) + 1 for sentence in sentences])
        units = np.full(ends[-1], BOUNDARY, dtype=np.int32)
        for sentence, end in zip(sentences, ends, strict=True):
            units[end - 1 - len(sentence) : end - 1] = sentence
        self._sentences: list[NDArray[np.int32]] = np.split(units, ends[:-1])
        self.units = len(units)
        self.checksum = zlib.crc32(units.tobytes())

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self._sentences)

    def streams(self, batch: int, window: int, draw: Draw) -> Tensor:
        """Return an epoch's text as parallel streams, `(stream, position)` int64.

        Sentences come in an order of their own each epoch: what one says of the next is chance, so the network learns
        to forget at the boundary, as it must where sentences are scored one by one. Neighbouring columns are a unit
        and its successor; each stream's first column is the unit before its first target. Less than one unit a
        stream is left over at the end.

        Args:
            batch: streams wanted; a text too short to give each a window has fewer.
            window: units read at a time.
            draw: of the epoch; it decides the order.
        """
        order = draw.rng("sentences").permutation(len(self._sentences))
        text = np.concatenate([[BOUNDARY], *(self._sentences[index] for index in order)])
        streams = self.stream_count(batch, window)
        length = self.units // streams
        # Stream k reads units k · length … (k + 1) · length; the last one is read by the next stream as its first.
        rows = np.arange(streams)[:, None] * length + np.arange(length + 1)
        return torch.from_numpy(text[rows].astype(np.int64))

    def stream_count(self, batch: int, window: int) -> int:
        """Return how many streams there are when `batch` are wanted."""
        return max(1, min(batch, self.units // window))

    def steps(self, batch: int, window: int) -> int:
        """Return the number of windows in an epoch, the last of which may be shorter."""
        return -(-(self.units // self.stream_count(batch, window)) // window)


CLIP_NORM = 1.0
_WITHOUT_INFLUENCE = {"accelerator", "checkpoint_every_s"}


class CarriedLmState(nn.Module):
    """The state that each stream carries from one window to the next; a module, so that checkpoints hold it."""

    def __init__(self, start: LmState) -> None:
        """Begin at `start`."""
        super().__init__()
        for index, part in enumerate(start):
            self.register_buffer(str(index), part.clone())

    def get(self) -> LmState:
        """Return the state."""
        return tuple(self.buffers())

    def set(self, state: LmState) -> None:
        """Keep the values of `state`, without its history."""
        for mine, new in zip(self.buffers(), state, strict=True):
            mine.copy_(new.detach())


@dataclass(frozen=True)
class LmRun:
    """What is trained, and how far it has come; `state.dev_scores` holds the dev perplexities here."""

    lm: RnnLm
    carried: CarriedLmState
    optimizer: torch.optim.Optimizer
    state: RunState
    facts: dict[str, Any]
    checkpoints: Path

    @property
    def modules(self) -> dict[str, nn.Module]:
        """What a checkpoint holds."""
        return {"model": self.lm, "carried": self.carried}

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            TrainingError: it cannot be written.
        """
        save_checkpoint(self.checkpoints, self.state, self.modules, self.optimizer, self.facts)


def train_lm(
    settings: RnnLmSettings,
    units: LmUnits,
    train: Sequence[Sequence[int]],
    dev: Sequence[Sequence[int]],
    out: Path,
    *,
    resume: bool = False,
) -> Iterator[LmReport]:
    """Train on sentences of unit ids, choose by the perplexity on `dev`, leave the best model in `out`.

    Args:
        settings: of network and training.
        units: what the ids mean.
        train: sentences without boundaries.
        dev: as `train`.
        out: folder for `rnnlm.safetensors`, `log.jsonl`, curves and `checkpoints`.
        resume: continue from the checkpoint if it is there.

    Raises:
        TrainingError: `out` holds a run and `resume` is not set; another run is at work there; several steps in a row
            gave no finite gradient; a checkpoint cannot be written.
        DeviceError: there is no such device.
        ConfigError: a run is resumed with other settings, units or text; the softmax does not suit the units.
        ModelError: no checkpoint can be read.
        LanguageModelError: there is no sentence.
    """
    with only_run_in(out):
        yield from _train_lm(settings, units, train, dev, out, resume=resume)


def _train_lm(
    settings: RnnLmSettings,
    units: LmUnits,
    train: Sequence[Sequence[int]],
    dev: Sequence[Sequence[int]],
    out: Path,
    *,
    resume: bool,
) -> Iterator[LmReport]:
    checkpoint, damage = find_checkpoint(out / CHECKPOINTS)
    if checkpoint and not resume:
        raise TrainingError(f"{out}: holds a training run already; use --resume to continue it, or another --out")
    text = LmText(train)
    run = _start(settings, units, text, dev, out / CHECKPOINTS, checkpoint)
    state, device = run.state, run.lm.embedding.weight.device
    total_steps = settings.epochs * text.steps(settings.batch, settings.bptt_units)
    log = LmLog(out, first_epoch=state.epoch, first_step=state.step)
    yield LmStart(
        parameter_count=run.lm.parameter_count,
        unit_count=len(units.symbols),
        sentences=len(text),
        units=text.units,
        device=str(device),
        steps=total_steps,
        resumed_at_step=state.step,
        damaged_checkpoint=damage,
    )

    schedule = TrainingSettings(learning_rate=settings.learning_rate)
    saved_at = time.perf_counter()
    with StopRequest() as stop:
        for epoch in range(state.epoch, settings.epochs):
            run.lm.train()
            began = time.perf_counter()
            streams = text.streams(settings.batch, settings.bptt_units, Draw(settings.seed, epoch))
            for first in range(state.batch * settings.bptt_units, streams.shape[1] - 1, settings.bptt_units):
                window = streams[:, first : first + settings.bptt_units + 1].to(device)
                progress = state.step / total_steps
                # Dropout depends on the step, not on the past.
                torch.manual_seed(settings.seed + 7919 * (state.step + 1))
                report = _step(run, window, learning_rate(schedule, progress, []))
                state.step, state.batch = state.step + 1, state.batch + 1
                now = time.perf_counter()
                state.sums.train_s, began = state.sums.train_s + now - began, now
                log.lm_step(report)
                yield report
                if stop.signal_name or now - saved_at >= settings.checkpoint_every_s:
                    run.save()
                    saved_at = time.perf_counter()
                if stop.signal_name:
                    log.close()
                    yield RunStopped(stop.signal_name, state.step, run.checkpoints / LAST)
                    return
            summary = _finish_epoch(run, dev, out)
            log.lm_epoch(summary)  # before the checkpoint, as in acoustic training
            run.save()
            saved_at = time.perf_counter()
            yield summary
    log.close()


def _start(
    settings: RnnLmSettings,
    units: LmUnits,
    text: LmText,
    dev: Sequence[Sequence[int]],
    checkpoints: Path,
    checkpoint: Path | None,
) -> LmRun:
    if settings.softmax == "adaptive" and units.kind == "tokens":
        raise ConfigError("softmax: adaptive is for words, which are sorted by frequency; tokens take plain")
    device = torch.device(choose_accelerator(settings.accelerator))
    torch.manual_seed(settings.seed)
    lm = RnnLm(settings, units).to(device)
    carried = CarriedLmState(lm.start(text.stream_count(settings.batch, settings.bptt_units)))
    groups = parameter_groups(lm, TrainingSettings().weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98))
    facts = {
        "settings": {
            "rnnlm": settings.model_dump(mode="json", exclude=_WITHOUT_INFLUENCE),
            "text": {
                "sentences": len(text),
                "units": text.units,
                "checksum": text.checksum,
                "dev_sentences": len(dev),
                "dev_checksum": LmText(dev).checksum,
            },
        },
        "tokens": list(units.symbols),
    }
    run = LmRun(lm, carried, optimizer, RunState(), facts, checkpoints)
    if checkpoint is None:
        return run
    require_same(checkpoint, facts, {"rnnlm": RnnLmSettings().model_dump(mode="json")})
    state = load_checkpoint(checkpoint, run.modules, optimizer)
    return LmRun(lm, carried, optimizer, state, facts, checkpoints)


def _step(run: LmRun, window: Tensor, rate: float) -> LmStep:
    """Read a window of each stream and take one step of the optimiser.

    Args:
        run: its carried state is that after the window before.
        window: `(stream, position)`, the units read and the one after them.
        rate: the learning rate.

    Raises:
        TrainingError: the last of several steps in a row whose gradient is not finite.
    """
    state, sums = run.state, run.state.sums
    read, targets = window[:, :-1], window[:, 1:]
    goes_on = (read[:, 0] != BOUNDARY)[None, :, None]
    before = tuple(part * goes_on for part in run.carried.get())
    run.optimizer.zero_grad(set_to_none=True)
    hidden, after = run.lm(read, before)
    loss = -run.lm.target_log_probs(hidden.flatten(0, 1), targets.flatten()).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    norm = torch.nn.utils.clip_grad_norm_(run.lm.parameters(), CLIP_NORM).item()
    finite = norm < float("inf")  # not NaN either
    if finite:
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        run.optimizer.step()
        run.carried.set(after)
        state.bad_steps = 0
        sums.steps, sums.loss = sums.steps + 1, sums.loss + loss.item()
        sums.clipped += norm > CLIP_NORM
    else:
        run.carried.set(run.lm.start(len(window)))  # a state that is not finite would never heal
        state.bad_steps, sums.skipped = state.bad_steps + 1, sums.skipped + 1
        if state.bad_steps >= MOST_BAD_STEPS:
            raise TrainingError(
                f"step {state.step + 1} and {state.bad_steps - 1} before it gave no finite gradient "
                f"(loss {loss.item()}); choose a lower learning_rate"
            )
    return LmStep(state.step + 1, state.epoch, loss.item(), norm, rate, skipped=not finite)


def _finish_epoch(run: LmRun, dev: Sequence[Sequence[int]], out: Path) -> LmEpoch:
    """Measure the model on dev, keep it if it is the best so far, and go on to the next epoch."""
    began, state = time.perf_counter(), run.state
    found: Perplexity = run.lm.eval().perplexity(dev)
    best = found.perplexity <= min(state.dev_scores, default=float("inf"))
    if best:
        run.lm.save(out / RNN_LM_WEIGHTS)
    sums, state.sums = state.sums, EpochSums()
    state.epoch, state.batch = state.epoch + 1, 0
    state.dev_scores.append(found.perplexity)
    return LmEpoch(
        epoch=state.epoch - 1,
        loss=sums.loss / max(1, sums.steps),
        dev=found,
        best=best,
        clipped_share=sums.clipped / max(1, sums.steps),
        skipped=sums.skipped,
        train_s=sums.train_s,
        dev_s=time.perf_counter() - began,
    )
