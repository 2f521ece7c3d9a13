"""Cuts → padded batches. `sampling.py` decides which cuts share a batch."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from asr.config import Config
from asr.corpus.cut_audio import load_cut
from asr.corpus.limits import training_limits
from asr.corpus.manifest import cut_text
from asr.features.augment import Draw, draw_pace, perturb_speed
from asr.features.conditions import conditions_of, perturb_conditions
from asr.features.sampling import group_by_padded_size, shuffled_batches
from asr.text.normalise import normalise
from asr.text.tokens import TokenTable

if TYPE_CHECKING:
    from lhotse.cut import Cut

Item = TypeVar("Item")


@dataclass(frozen=True)
class Batch:
    """Padded utterances. Waveforms are float32 at the model's rate, tokens exclude the blank; padding is 0."""

    waveforms: Tensor  # (batch, sample)
    lengths: Tensor  # (batch,) samples
    tokens: Tensor  # (batch, token)
    token_lengths: Tensor  # (batch,)
    ids: list[str]
    tempos: list[float]  # speeds at which to play the features; 1, except in training batches

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        if self.waveforms.device == device:
            return self
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """Return the batch in page-locked memory; needs CUDA."""
        return self._with_tensors(Tensor.pin_memory)

    def only(self, row: int) -> Batch:
        """Return the batch of one utterance, without padding."""
        samples, tokens = int(self.lengths[row]), int(self.token_lengths[row])
        return Batch(
            self.waveforms[row : row + 1, :samples],
            self.lengths[row : row + 1],
            self.tokens[row : row + 1, :tokens],
            self.token_lengths[row : row + 1],
            [self.ids[row]],
            [self.tempos[row]],
        )

    def _with_tensors(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self,
            waveforms=change(self.waveforms),
            lengths=change(self.lengths),
            tokens=change(self.tokens),
            token_lengths=change(self.token_lengths),
        )


@dataclass(frozen=True)
class StepBatch:
    """One process's share of an optimiser step, in `pieces`, and the size of the whole step over all processes.

    The losses of all pieces of all processes are divided by `token_count`, so the step does not depend on how it was
    shared out. Every process must take part in the exchange of gradients, which is in the last piece's backward pass.
    So a process that got no utterance has a piece too, and is `idle`: its losses count nothing.
    """

    pieces: list[Batch]
    idle: bool
    token_count: int
    ids: list[str]  # of all processes
    audio_s: float

    def pinned(self) -> StepBatch:
        """Return the step in page-locked memory, from which a GPU copies while the processor goes on."""
        return replace(self, pieces=[piece.pinned() for piece in self.pieces])


def collate(
    waveforms: Sequence[Tensor],
    tokens: Sequence[Sequence[int]],
    ids: Sequence[str],
    tempos: Sequence[float] | None = None,
) -> Batch:
    """Return 1-D waveforms and token lists, padded, as a batch; without `tempos`, all tempos are 1."""
    return Batch(
        waveforms=torch.nn.utils.rnn.pad_sequence(list(waveforms), batch_first=True),
        lengths=torch.tensor([len(waveform) for waveform in waveforms]),
        tokens=torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(sequence, dtype=torch.int64) for sequence in tokens], batch_first=True
        ),
        token_lengths=torch.tensor([len(sequence) for sequence in tokens]),
        ids=list(ids),
        tempos=list(tempos or [1.0] * len(ids)),
    )


def training_batches(
    cuts: Iterable[Cut],
    tokens: TokenTable,
    config: Config,
    *,
    epoch: int,
    skip: int = 0,
    process: int = 0,
    processes: int = 1,
) -> Iterator[StepBatch]:
    """Yield one epoch's steps, in an order and with perturbations fixed by (seed, epoch, utterance).

    Every process sees the same steps and loads only the audio of its own share.

    Args:
        cuts: utterances that are fit for training; may be lazy.
        tokens: the token table of the transcripts.
        config: text, feature, augmentation and training settings.
        epoch: counted from 0.
        skip: number of steps at the start to leave out without reading their audio, to resume within an epoch.
        process: number of this process, from 0.
        processes: number of processes that share a step.

    Raises:
        AudioError: a recording cannot be read; also one of noise or of a room.
        ConfigError: a folder of noise or of rooms holds no audio.
        TokenError: a transcript has an unknown character.
    """
    draw = Draw(config.training.seed, epoch)
    conditions = conditions_of(config)
    limits = training_limits(config)
    micro_batch_s = config.training.micro_batch_s
    slowest = min(config.augment.speeds) * min(config.augment.tempos)
    steps = shuffled_batches(cuts, _duration_s, config.training.batch_s, draw)

    def load(batch: Sequence[tuple[Cut, list[int]]]) -> Batch:
        waveforms, tempos = [], []
        for cut, transcript in batch:
            waveform = load_cut(cut, config.features.sample_rate_hz)
            fastest = limits.fastest_pace(cut.duration, transcript)
            speed, tempo = draw_pace(config.augment, fastest, draw.of(cut.id))
            faster = perturb_speed(waveform, speed)
            waveforms.append(torch.from_numpy(perturb_conditions(faster, conditions, draw.of(cut.id))))
            tempos.append(tempo)
        return collate(waveforms, [transcript for _, transcript in batch], [cut.id for cut, _ in batch], tempos)

    def share(step: list[Cut]) -> StepBatch:
        transcripts = [tokens.encode(normalise(cut_text(cut), config.text)) for cut in step]
        spelled = list(zip(step, transcripts, strict=True))
        mine = spelled[process::processes] or spelled[:1]
        pieces = 1
        if micro_batch_s is not None:
            longest_s = max(map(_duration_s, step)) / slowest
            pieces = math.ceil(len(mine) / max(1, int(micro_batch_s / longest_s)))
        return StepBatch(
            pieces=[load(mine[piece::pieces]) for piece in range(pieces)],
            idle=process >= len(step),
            token_count=sum(map(len, transcripts)),
            ids=[cut.id for cut in step],
            audio_s=sum(cut.duration for cut in step),
        )

    return (share(step) for step in islice(steps, skip, None))


def _duration_s(cut: Cut) -> float:
    return float(cut.duration)


def evaluation_batches(cuts: Iterable[Cut], config: Config, *, batch_s: float = 60.0) -> Iterator[Batch]:
    """Yield batches as they are, without tokens, in the cuts' order, of at most `batch_s` padded seconds."""
    rate_hz = config.features.sample_rate_hz

    def load(batch: list[Cut]) -> Batch:
        waveforms = [torch.from_numpy(load_cut(cut, rate_hz)) for cut in batch]
        return collate(waveforms, [[]] * len(batch), [cut.id for cut in batch])

    return (load(batch) for batch in group_by_padded_size(cuts, _duration_s, batch_s))


def prefetch(items: Iterator[Item], ahead: int = 4) -> Iterator[Item]:
    """Yield `items`, which a thread computes up to `ahead` in advance; its exceptions are raised here.

    For training on a GPU. On a CPU it only slows the network down: every core is busy, and a second thread that enters
    OpenMP makes the runtime put its workers to sleep at each barrier of the recurrent kernels (2.7 times slower steps,
    measured on two cores).
    """
    buffer: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(ahead)
    stop = threading.Event()

    def put(entry: tuple[Item | None, BaseException | None]) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                buffer.put(entry, timeout=0.1)
                return

    def fill() -> None:
        try:
            for item in items:
                put((item, None))
                if stop.is_set():
                    return
        except BaseException as error:
            put((None, error))
        else:
            put((None, None))

    thread = threading.Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = buffer.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stop.set()
        thread.join()
