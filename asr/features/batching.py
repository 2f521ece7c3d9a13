"""Cuts → padded batches: which utterances share a batch, in what order, and how they are loaded.

For training, cuts are taken in pools of neighbours. Within a pool they are sorted by length, with a random shift, so
that an utterance meets others each epoch. Runs of them become batches, and the batches are shuffled. Only one pool is
in memory, however long the manifest is. The work per utterance is that of a sort.

How well a corpus is shuffled depends on the pool. In a manifest longer than one pool, utterances far from each other in
the file never share a batch, and pools come in the file's order. The first pool's size is drawn anew each epoch, so the
borders move. A big manifest that is sorted, for instance by speaker, should be shuffled once (`shuf`) or packed as
Shar, whose shards come in another order each epoch.
"""

from __future__ import annotations

import math
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from asr.config import Config
from asr.corpus.cut_audio import load_cut
from asr.corpus.limits import training_limits
from asr.corpus.manifest import cut_text
from asr.errors import AsrError
from asr.features.augment import Draw, Perturbation, draw_pace, draw_perturbation, perturb_speed
from asr.features.batch import Batch, collate, frame_count, group_by_padded_size
from asr.features.conditions import Conditions, conditions_of, perturb_conditions
from asr.text.normalise import normalise
from asr.text.tokens import TokenTable

if TYPE_CHECKING:
    from lhotse.cut import Cut

Item = TypeVar("Item")
# Mean and deviation of each mel band, (2, mel), over all that an utterance's speaker says, played at a speed.
Moments: TypeAlias = "Callable[[Cut, float], Tensor]"
# The features of an utterance at a speed, (frame, state, width) of an encoder, computed already.
Stored: TypeAlias = "Callable[[Cut, float], Tensor]"
# Utterances' ids, frames and tempos, the settings and the draw of the epoch → what happens to their features.
DrawPerturbation = Callable[[Sequence[str], Sequence[int], Sequence[float], Config, Draw], Perturbation]

POOL_UTTERANCES = 20_000
# Each utterance is moved by up to this many places in the order of length. More makes batches more varied and adds
# padding (3 % in a full pool). Small corpora need it most: AN4's 845 utterances were learnt visibly slower when batches
# held the same neighbours each epoch.
_PLACES = 200


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
    untranscribed: StepBatch | None = None  # what the step takes besides, see `asr.training.pseudo_labels`
    place: tuple[int, int] = (0, 0)  # of the untranscribed batch after this one: finished passes, batches of the next

    def pinned(self) -> StepBatch:
        """Return the step in page-locked memory, from which a GPU copies while the processor goes on."""
        other = self.untranscribed and self.untranscribed.pinned()
        return replace(self, pieces=[piece.pinned() for piece in self.pieces], untranscribed=other)


@dataclass(frozen=True)
class Share:
    """Which part of each step this process loads, and how.

    Attributes:
        process: number of this process, from 0.
        processes: number of processes that share a step.
        loaders: processes that load audio ahead; 0 loads each step here, when it is asked for. The steps are the same.
    """

    process: int = 0
    processes: int = 1
    loaders: int = 0


def training_batches(
    cuts: Iterable[Cut],
    tokens: TokenTable | None,
    config: Config,
    *,
    epoch: int,
    skip: int = 0,
    share: Share = Share(),
    moments: Moments | None = None,
    stored: Stored | None = None,
    perturb: DrawPerturbation = draw_perturbation,
) -> Iterator[StepBatch]:
    """Yield one epoch's steps, in an order and with perturbations fixed by (seed, epoch, utterance).

    Every process sees the same steps and loads only the audio of its own share.

    Args:
        cuts: utterances that are fit for training; may be lazy.
        tokens: the token table of the transcripts; None: batches have no tokens.
        config: text, feature, augmentation and training settings.
        epoch: counted from 0.
        skip: number of steps at the start to leave out without reading their audio, to resume within an epoch.
        share: of this process.
        moments: of the speakers at each speed; for models that normalise by the speaker.
        stored: returns the features of an utterance at a speed, if they are computed already and no audio is read.
        perturb: draws what happens to the features of a batch.

    Raises:
        AudioError: a recording cannot be read; also one of noise or of a room.
        ConfigError: a folder of noise or of rooms holds no audio.
        TokenError: a transcript has an unknown character.
    """
    draw = Draw(config.training.seed, epoch)
    steps = shuffled_batches(cuts, _duration_s, config.training.batch_s, draw)
    loading = _Loading(tokens, config, draw, share, conditions_of(config), moments, stored, perturb)
    wanted = islice(steps, skip, None)
    return _in_processes(loading.step, wanted, share.loaders) if share.loaders else map(loading.step, wanted)


@dataclass(frozen=True)
class _Loading:
    """How the utterances of a step become batches; the attributes are those of `training_batches`."""

    tokens: TokenTable | None
    config: Config
    draw: Draw
    share: Share
    conditions: Conditions
    moments: Moments | None
    stored: Stored | None
    perturb: DrawPerturbation

    def step(self, cuts: list[Cut]) -> StepBatch:
        """Return this process's share of a step."""
        transcripts = [self._transcript(cut) for cut in cuts]
        utterances = list(zip(cuts, transcripts, strict=True))
        mine = utterances[self.share.process :: self.share.processes] or utterances[:1]
        pieces = self._pieces(len(mine), max(map(_duration_s, cuts)))
        return StepBatch(
            pieces=[self._batch(mine[piece::pieces]) for piece in range(pieces)],
            idle=self.share.process >= len(cuts),
            token_count=sum(map(len, transcripts)),
            ids=[cut.id for cut in cuts],
            audio_s=sum(cut.duration for cut in cuts),
        )

    def _transcript(self, cut: Cut) -> list[int]:
        return self.tokens.encode(normalise(cut_text(cut), self.config.text)) if self.tokens else []

    def _pieces(self, utterances: int, longest_s: float) -> int:
        """Return into how many batches to divide utterances, so that none is longer than `training.micro_batch_s`."""
        most_s, augment = self.config.training.micro_batch_s, self.config.augment
        if most_s is None:
            return 1
        slowest = min(augment.speeds) * min(augment.tempos)
        return math.ceil(utterances / max(1, int(most_s / (longest_s / slowest))))

    def _batch(self, utterances: Sequence[tuple[Cut, list[int]]]) -> Batch:
        """Return the batch of some utterances and their tokens."""
        features, limits = self.config.features, training_limits(self.config)
        waveforms, tempos, speeds = [], [], []
        for cut, tokens in utterances:
            draw = self.draw.of(cut.id)
            speed, tempo = draw_pace(self.config.augment, limits.fastest_pace(cut.duration, tokens), draw)
            if self.stored is None:
                faster = perturb_speed(load_cut(cut, features.sample_rate_hz), speed)
                waveforms.append(torch.from_numpy(perturb_conditions(faster, self.conditions, draw)))
            else:
                waveforms.append(self.stored(cut, speed))
            tempos.append(tempo)
            speeds.append(speed)
        cuts, transcripts = zip(*utterances, strict=True)
        ids, lengths = [cut.id for cut in cuts], map(len, waveforms)
        frames = list(lengths) if self.stored else [frame_count(length, features) for length in lengths]
        perturbation = self.perturb(ids, frames, tempos, self.config, self.draw)
        spoken = None if self.moments is None else [self.moments(*one) for one in zip(cuts, speeds, strict=True)]
        return collate(waveforms, transcripts, ids, perturbation, spoken)


class _Steps(Dataset[StepBatch | AsrError]):
    """Loads a step where it is asked for; an error of ours is returned, so that it comes to the first process whole."""

    def __init__(self, load: Callable[[list[Cut]], StepBatch]) -> None:
        self._load = load

    def __getitem__(self, step: list[Cut]) -> StepBatch | AsrError:
        try:
            return self._load(step)
        except AsrError as error:
            return error


def _in_processes(
    load: Callable[[list[Cut]], StepBatch], steps: Iterable[list[Cut]], processes: int
) -> Iterator[StepBatch]:
    """Yield the steps in order, loaded by forked processes, each up to two steps ahead.

    Raises:
        AsrError: one of them died, or what `load` raises.
    """
    loader = DataLoader(
        _Steps(load),
        batch_size=None,
        sampler=steps,
        num_workers=processes,
        collate_fn=_as_it_is,
        worker_init_fn=_leave_signals_to_the_first,
        multiprocessing_context="fork",
        generator=torch.Generator(),  # not the one that dropout draws from
    )
    try:
        for loaded in loader:
            if isinstance(loaded, AsrError):
                raise loaded
            yield loaded
    except RuntimeError as error:  # torch's answer, for instance where /dev/shm is too small for the batches
        raise AsrError(f"loading audio: {error}; training.loading_processes=0 loads it in this process") from error


def _as_it_is(loaded: Any) -> Any:
    return loaded


def _leave_signals_to_the_first(_: int) -> None:
    """Let the first process finish its step, which Ctrl-C or Slurm may have asked all processes of the run to end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _duration_s(cut: Cut) -> float:
    return float(cut.duration)


def evaluation_batches(
    cuts: Iterable[Cut],
    config: Config,
    moments: Moments | None = None,
    *,
    batch_s: float = 60.0,
    stored: Stored | None = None,
) -> Iterator[Batch]:
    """Yield batches as they are, without tokens, in the cuts' order, of at most `batch_s` padded seconds.

    Args:
        cuts: the utterances.
        config: feature settings.
        moments: of the speakers, `asr.model.speaker_moments.speaker_moments` of all utterances; for models that
            normalise by the speaker.
        batch_s: see above.
        stored: as in `training_batches`.
    """
    rate_hz = config.features.sample_rate_hz

    def load(batch: list[Cut]) -> Batch:
        if stored is None:
            waveforms = [torch.from_numpy(load_cut(cut, rate_hz)) for cut in batch]
        else:
            waveforms = [stored(cut, 1.0) for cut in batch]
        spoken = None if moments is None else [moments(cut, 1.0) for cut in batch]
        return collate(waveforms, [[]] * len(batch), [cut.id for cut in batch], moments=spoken)

    return (load(batch) for batch in group_by_padded_size(cuts, _duration_s, batch_s))


def shuffled_batches(
    items: Iterable[Item],
    duration_s: Callable[[Item], float],
    batch_s: float,
    draw: Draw,
    *,
    pool_utterances: int = POOL_UTTERANCES,
) -> Iterator[list[Item]]:
    """Yield one epoch's batches: every item once, in an order that depends on `draw` and the order of the items.

    Args:
        items: utterances, read once and lazily.
        duration_s: returns an item's length.
        batch_s: the most padded seconds of a batch, unless one item alone is longer.
        draw: of the epoch.
        pool_utterances: number of items that are shuffled together, in memory.
    """
    rest = iter(items)
    for number in count():
        rng = draw.of(str(number)).rng("pool")
        size = pool_utterances if number else int(rng.integers(pool_utterances // 2, pool_utterances)) + 1
        batches = _batches(list(islice(rest, size)), duration_s, batch_s, rng)
        if not batches:
            return
        while batches:  # a batch that was yielded is not kept, so the next pool finds room
            yield batches.pop()


def _batches(
    pool: list[Item], duration_s: Callable[[Item], float], batch_s: float, rng: np.random.Generator
) -> list[list[Item]]:
    places = np.empty(len(pool))
    places[sorted(range(len(pool)), key=lambda place: duration_s(pool[place]))] = range(len(pool))
    disturbed = places + rng.uniform(-_PLACES, _PLACES, len(pool))
    in_order = (pool[place] for place in np.argsort(disturbed))
    batches = list(group_by_padded_size(in_order, duration_s, batch_s))
    return [batches[place] for place in rng.permutation(len(batches))]


def prefetch(items: Iterator[Item], ahead: int = 4) -> Iterator[Item]:
    """Yield `items`, which a thread computes up to `ahead` in advance; its exceptions are raised here.

    For training on a GPU. On a CPU it only slows the network down: every core is busy, and a second thread that enters
    OpenMP makes the runtime put its workers to sleep at each barrier of the recurrent kernels (2.7 times slower steps,
    measured on two cores).
    """
    buffer: queue.Queue[Item | _End] = queue.Queue(ahead)
    stop = threading.Event()

    def put(entry: Item | _End) -> bool:
        """Return whether there was room before nobody wanted more."""
        while not stop.is_set():
            with suppress(queue.Full):
                buffer.put(entry, timeout=0.1)
                return True
        return False

    def fill() -> None:
        end = _End(None)
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:
            end = _End(error)
        put(end)

    thread = threading.Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        while not isinstance(entry := buffer.get(), _End):
            yield entry
        if entry.error is not None:
            raise entry.error
    finally:
        stop.set()
        thread.join()


@dataclass(frozen=True)
class _End:
    """No more items come, because there are none or because of an error."""

    error: BaseException | None
