"""Training of a recurrent language model: text → `rnnlm.safetensors`. What a step and an epoch are.

`loop.py` has what happens around them.

Training uses truncated backpropagation. The text is cut into parallel streams. A step reads the next window of each
stream and computes gradients within it. The state goes on to the next window as a value, so the network knows what came
before, although gradients end there (Williams & Peng 1990, Mikolov et al. 2010). A window that begins with a sentence
starts from the zero state, as the model does when it is used.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from asr.bundle.files import CHECKPOINTS, RNN_LM_FOLDER, RNN_LM_WEIGHTS
from asr.config import TrainingSettings
from asr.errors import ConfigError, TrainingError
from asr.features.augment import Draw
from asr.lm.rnnlm import BOUNDARY, LmState, RnnLm
from asr.machine import choose_accelerator
from asr.model.computation import Comparison, Computation, compare, given_threads, thread_counts, threads
from asr.search_config import RnnLmSettings
from asr.sharing.names import model_folder, own_folder
from asr.training.checkpoint import load_checkpoint, require_same, save_checkpoint
from asr.training.lm_text import LmSentences, LmText, read_sentences
from asr.training.loop import Requests, TrainingResult, Wishes, find_run, only_run_in, run_to_end, training_loop
from asr.training.reports import LmEpoch, LmReport, LmStart, LmStep
from asr.training.run_state import RunState, learning_rate
from asr.training.step import parameter_groups
from asr.training.trackers import Tracking

AnyPath: TypeAlias = str | os.PathLike[str]

CLIP_NORM = 1.0
_WITHOUT_INFLUENCE = {"accelerator", "checkpoint_every_s"}


def train_rnn_lm(
    texts: AnyPath | Iterable[AnyPath],
    out: AnyPath | None = None,
    *,
    model: AnyPath | None = None,
    words: bool = False,
    dev: AnyPath | None = None,
    settings: RnnLmSettings | None = None,
    resume: bool = False,
    on_report: Callable[[LmReport], object] | None = None,
) -> TrainingResult:
    """Train a recurrent language model; the weights with the best perplexity on dev are kept.

    SIGTERM or Ctrl-C finishes the step, writes a checkpoint and ends the training; `resume` continues it.

    Args:
        texts: one or several files: text with a sentence a line, or manifests, whose transcripts are read.
        out: the folder to write. Default: `rnnlm` in the model folder.
        model: a model folder. The units are its tokens, for its beam search, and texts are normalised as its
            transcripts were. Without a model the units are words, written as in the texts.
        words: with a model, take words instead of tokens; such a language model only rescores.
        dev: a file like `texts`, by which the best epoch is chosen. Default: every 20th sentence of the texts.
        settings: of network and training.
        resume: continue the run in `out` if there is one.
        on_report: called with each report (`asr.training.reports`): the start, each step, each epoch, the stop.

    Raises:
        ConfigError: there is neither `out` nor `model`; the run is resumed with other settings, units or text; the
            softmax does not suit the units; the model's settings are damaged.
        DeviceError: `settings.accelerator` is `cuda` and there is none.
        LanguageModelError: a text cannot be read or holds no usable sentence.
        ManifestError: a manifest cannot be read.
        ModelError: no checkpoint can be read, or the model's settings are damaged.
        TokenError: the model's tokens are damaged.
        TrainingError: `out` holds a run and `resume` is not set; another run is at work there; several steps in a row
            gave no finite gradient; a file cannot be written.
    """
    settings = settings or RnnLmSettings()
    if out is not None:
        folder = Path(out)
    elif model is not None:
        folder = own_folder(model) / RNN_LM_FOLDER
    else:
        raise ConfigError("out: needed without a model, which has a place for its language model")
    bundle = None if model is None else model_folder(model)
    sources = [texts] if isinstance(texts, str | os.PathLike) else texts
    sentences = read_sentences(sources, dev, bundle, words=words, min_count=settings.min_count)
    return run_to_end(lm_training_reports(settings, sentences, folder, resume=resume), on_report)


def lm_training_reports(
    settings: RnnLmSettings, sentences: LmSentences, out: Path, *, resume: bool = False
) -> Generator[LmReport, None, TrainingResult]:
    """Do what `train_rnn_lm` does with its sentences, one report at a time; it raises the same errors."""
    with Requests(settings.checkpoint_every_s) as requests, only_run_in(out):
        checkpoint, damage = find_run(out, resume=resume)
        text = LmText(sentences.train)
        with threads(given_threads() or 1):  # the last digits of the first weights depend on their number
            run = _start(settings, sentences, text, out / CHECKPOINTS, checkpoint)
        training = LmTraining(run, settings, text, sentences.dev, out)
        timed = choose_threads(training)
        start = LmStart(
            network=settings.network,
            parameter_count=run.lm.parameter_count,
            kind=sentences.units.kind,
            unit_count=len(sentences.units.symbols),
            sentences=len(text),
            units=text.units,
            left_out=sentences.left_out.count,
            left_out_reason=sentences.left_out.reason,
            device=str(run.device),
            computation=timed.chosen,
            timed_s=timed.times_s,
            epochs=settings.epochs,
            steps=training.steps,
            resumed_at_step=run.state.step,
            damaged_checkpoint=damage,
        )
        with threads(timed.chosen.threads):
            return (yield from training_loop(training, start, requests))


def choose_threads(training: LmTraining) -> Comparison[Computation]:
    """Let the run compute with the threads of its checkpoint, or of the user, or with those that prove the quickest.

    The number is kept in the run's state. Steps of a copy of the network are timed; nothing else of the run changes.
    """
    run, state = training.run, training.state
    counts = thread_counts() if run.device.type == "cpu" else (torch.get_num_threads(),)
    if state.threads is not None:
        counts = (given_threads() or state.threads,)
    lm = copy.deepcopy(run.lm).train()
    window = next(training.batches(0))

    def prepare(share: float) -> Callable[[Computation], object]:
        length = max(2, round(share * window.shape[1]))

        def step(way: Computation) -> None:
            with threads(way.threads):
                _loss(lm, window[:, :length], lm.start(len(window)))[0].backward()  # type: ignore[no-untyped-call]

        return step

    with torch.random.fork_rng([]):
        timed = compare([Computation("fp32", count) for count in counts], prepare)
    state.threads = timed.chosen.threads
    return timed


def _start(
    settings: RnnLmSettings, sentences: LmSentences, text: LmText, checkpoints: Path, checkpoint: Path | None
) -> LmRun:
    units, dev = sentences.units, sentences.dev
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
    tracking = Tracking()  # TensorBoard alone

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

    def take_step(self, batch: Tensor, asked: Wishes) -> tuple[LmStep, Wishes]:
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
        best = state.take_dev_score(dev.perplexity)
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
    goes_on = (window[:, 0] != BOUNDARY)[None, :, None]
    before = tuple(part * goes_on for part in run.carried.get())
    run.optimizer.zero_grad(set_to_none=True)
    loss, after = _loss(run.lm, window, before)
    loss.backward()  # type: ignore[no-untyped-call]
    before_clipping = torch.nn.utils.clip_grad_norm_(run.lm.parameters(), CLIP_NORM)
    nats, norm = torch.stack((loss.detach(), before_clipping)).tolist()  # one transfer
    finite = norm < float("inf")  # not NaN either
    if finite:
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        run.optimizer.step()
        run.carried.set(after)
        state.count_step(nats, {}, clipped=norm > CLIP_NORM)
    else:
        run.carried.set(run.lm.start(len(window)))  # a state that is not finite would never heal
        if state.count_bad_step():
            raise TrainingError(
                f"step {state.step + 1} and {state.bad_steps - 1} before it gave no finite gradient "
                f"(loss {nats}); choose a lower learning_rate"
            )
    return LmStep(state.step + 1, state.epoch, nats, norm, rate, skipped=not finite)


def _loss(lm: RnnLm, window: Tensor, before: LmState) -> tuple[Tensor, LmState]:
    """Return the nats per unit of a window, whose first units are only read, and the state behind it."""
    hidden, after = lm(window[:, :-1], before)
    return -lm.target_log_probs(hidden.flatten(0, 1), window[:, 1:].flatten()).mean(), after


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
