"""Training of a recurrent language model: text → `rnnlm.safetensors`; `loop.py` has what happens around the steps.

Training uses truncated backpropagation. The text is cut into parallel streams. A step reads the next window of each
stream and computes gradients within it. The state goes on to the next window as a value, so the network knows what came
before, although gradients end there (Williams & Peng 1990, Mikolov et al. 2010). A window that begins with a sentence
starts from the zero state, as the model does when it is used.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
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
from asr.lm.rnnlm import BOUNDARY, LmState, LmUnits, RnnLm
from asr.machine import choose_accelerator
from asr.training.checkpoint import RunState, load_checkpoint, require_same, save_checkpoint
from asr.training.loop import Requests, TrainingResult, Wishes, find_run, only_run_in, training_loop
from asr.training.optimisation import learning_rate, parameter_groups
from asr.training.reports import LmEpoch, LmReport, LmStart, LmStep

CLIP_NORM = 1.0
_WITHOUT_INFLUENCE = {"accelerator", "checkpoint_every_s"}


def lm_training_reports(
    settings: RnnLmSettings,
    units: LmUnits,
    train: Sequence[Sequence[int]],
    dev: Sequence[Sequence[int]],
    out: Path,
    *,
    resume: bool = False,
) -> Generator[LmReport, None, TrainingResult]:
    """Train on sentences of unit ids, one report at a time; the model with the best perplexity on dev stays in `out`.

    Args:
        settings: of network and training.
        units: what the ids mean.
        train: sentences without boundaries.
        dev: as `train`.
        out: folder for `rnnlm.safetensors`, `log.jsonl`, curves and `checkpoints`.
        resume: continue from the checkpoint if there is one.

    Raises:
        TrainingError: `out` holds a run and `resume` is not set; another run is at work there; several steps in a row
            gave no finite gradient; a checkpoint cannot be written.
        DeviceError: there is no such device.
        ConfigError: a run is resumed with other settings, units or text; the softmax does not suit the units.
        ModelError: no checkpoint can be read.
        LanguageModelError: there is no sentence.
    """
    with Requests(settings.checkpoint_every_s) as requests, only_run_in(out):
        checkpoint, damage = find_run(out, resume=resume)
        text = LmText(train)
        run = _start(settings, units, text, dev, out / CHECKPOINTS, checkpoint)
        training = LmTraining(run, settings, text, dev, out)
        start = LmStart(
            parameter_count=run.lm.parameter_count,
            unit_count=len(units.symbols),
            sentences=len(text),
            units=text.units,
            device=str(run.device),
            steps=training.steps,
            resumed_at_step=run.state.step,
            damaged_checkpoint=damage,
        )
        return (yield from training_loop(training, start, requests))


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
    return replace(run, state=load_checkpoint(checkpoint, run.modules, optimizer))


@dataclass(frozen=True)
class LmRun:
    """What is trained, and how far it has come."""

    lm: RnnLm
    carried: CarriedLmState
    optimizer: torch.optim.Optimizer
    state: RunState
    facts: dict[str, Any]
    checkpoints: Path

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lm.embedding.weight.device

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


@dataclass(frozen=True)
class LmTraining:
    """The `Training` of a recurrent language model, in one process."""

    run: LmRun
    settings: RnnLmSettings
    text: LmText
    dev: Sequence[Sequence[int]]
    out: Path

    first = True

    @property
    def epochs(self) -> int:
        """Epochs of the whole run."""
        return self.settings.epochs

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.text.steps(self.settings.batch, self.settings.bptt_units)

    @property
    def state(self) -> RunState:
        """How far the run has come."""
        return self.run.state

    def save(self) -> None:
        """Write a checkpoint."""
        self.run.save()

    def batches(self, skip: int) -> Iterator[Tensor]:
        """Yield the windows of the current epoch, `(stream, position)`, without the `skip` first ones.

        Each begins with the last unit of the one before.
        """
        self.run.lm.train()
        settings, window = self.settings, self.settings.bptt_units
        streams = self.text.streams(settings.batch, window, Draw(settings.seed, self.state.epoch))
        for start in range(skip * window, streams.shape[1] - 1, window):
            yield streams[:, start : start + window + 1].to(self.run.device)

    def take(self, batch: Tensor, asked: Wishes) -> tuple[LmStep, Wishes]:
        """Take one step of the optimiser.

        Raises:
            TrainingError: several steps in a row had no finite gradient.
        """
        schedule = TrainingSettings(learning_rate=self.settings.learning_rate)
        rate = learning_rate(schedule, self.state.step / self.steps, [])
        # Dropout depends on the step, not on the past.
        torch.manual_seed(self.settings.seed + 7919 * (self.state.step + 1))
        return _step(self.run, batch, rate), asked

    def end_epoch(self) -> LmEpoch:
        """Measure the model on dev and keep it if it is the best so far."""
        began, state, sums = time.perf_counter(), self.state, self.state.sums
        dev = self.run.lm.eval().perplexity(self.dev)
        best = state.is_best(dev.perplexity)
        if best:
            self.run.lm.save(self.out / RNN_LM_WEIGHTS)
        return LmEpoch(
            epoch=state.epoch,
            loss=sums.mean(sums.loss),
            dev=dev,
            best=best,
            clipped_share=sums.mean(sums.clipped),
            skipped=sums.skipped,
            train_s=sums.train_s,
            dev_s=time.perf_counter() - began,
        )


def _step(run: LmRun, window: Tensor, rate: float) -> LmStep:
    """Read a window of each stream and take one step of the optimiser.

    Args:
        run: its carried state is that after the window before.
        window: `(stream, position)`, the units read and the one after them.
        rate: the learning rate.

    Raises:
        TrainingError: this is the last of several steps in a row whose gradient is not finite.
    """
    state = run.state
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
        state.count_step(loss.item(), clipped=norm > CLIP_NORM)
    else:
        run.carried.set(run.lm.start(len(window)))  # a state that is not finite would never heal
        if state.count_bad_step():
            raise TrainingError(
                f"step {state.step + 1} and {state.bad_steps - 1} before it gave no finite gradient "
                f"(loss {loss.item()}); choose a lower learning_rate"
            )
    return LmStep(state.step + 1, state.epoch, loss.item(), norm, rate, skipped=not finite)


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

        Each epoch has its own order of sentences. So what one sentence says of the next is chance, and the network
        learns to forget at the boundary, as it must where sentences are scored one by one. Neighbouring columns are a
        unit and its successor; each stream's first column is the unit before its first target. Less than one unit a
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
