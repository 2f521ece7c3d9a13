"""Which utterances share a batch, and in what order: shuffled, of similar length, without all of them in memory.

The cuts are taken in pools of neighbours. Within a pool the utterances are put in order of length, disturbed a little
so that the same ones do not meet every time; runs of them become batches; the batches are shuffled. One pool is in
memory, whatever the length of the manifest, and the work per utterance is that of a sort.

How well a corpus is shuffled depends on the pool: of a manifest longer than one pool, utterances that stand far from
each other in the file never share a batch, and the file's order is kept from pool to pool. The first pool's size is
drawn anew each epoch, so the borders move. A big manifest that is sorted, by speaker for instance, should be shuffled
once (`shuf`), or be kept as Shar, whose shards come in another order each epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import TypeVar

import numpy as np

from asr.audio.segment import Segment
from asr.features.augment import Draw

Item = TypeVar("Item")

POOL_UTTERANCES = 20_000
# In order of length, each utterance is moved by up to this many places. More makes batches more varied and fuller of
# padding (3 % in a full pool). Few utterances need it most: on AN4's 845, batches of the same neighbours each epoch
# learnt visibly slower.
_PLACES = 200


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
        pool_utterances: how many items are shuffled together, and held in memory.
    """
    rest = iter(items)
    for number in count():
        rng = draw.of(str(number)).rng("pool")
        size = pool_utterances if number else int(rng.integers(pool_utterances // 2, pool_utterances)) + 1
        batches = _batches(list(islice(rest, size)), duration_s, batch_s, rng)
        if not batches:
            return
        while batches:  # what has been given out is let go, so that the next pool finds room
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


def group_by_padded_size(items: Iterable[Item], size: Callable[[Item], float], limit: float) -> Iterator[list[Item]]:
    """Group neighbours so that the longest item's size times the group's count stays within `limit`."""
    group: list[Item] = []
    longest = 0.0
    for item in items:
        longest = max(longest, size(item))
        if group and longest * (len(group) + 1) > limit:
            yield group
            group, longest = [], size(item)
        group.append(item)
    if group:
        yield group


# Segments that go through the network at once, in padded seconds, and those that wait to be put in order of length.
SEGMENT_BATCH_S = 60.0
WAITING_S = 240.0


def batches(segments: Iterable[Segment], rate_hz: int) -> Iterator[list[Segment]]:
    """Yield segments in groups of similar length, of at most `SEGMENT_BATCH_S` padded; the groups are nearly in order.

    At most `WAITING_S` and a segment are held.
    """
    waiting: list[Segment] = []
    for segment in segments:
        waiting.append(segment)
        if sum(map(_samples, waiting)) >= WAITING_S * rate_hz:
            yield from _by_length(waiting, rate_hz)
            waiting = []
    yield from _by_length(waiting, rate_hz)


def _by_length(waiting: list[Segment], rate_hz: int) -> Iterator[list[Segment]]:
    return group_by_padded_size(sorted(waiting, key=_samples), _samples, SEGMENT_BATCH_S * rate_hz)


def _samples(segment: Segment) -> int:
    return len(segment.waveform)
