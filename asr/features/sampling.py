"""Which utterances share a batch, and in what order; which segments of a recording do.

For training, cuts are taken in pools of neighbours. Within a pool they are sorted by length, with a random shift, so
that an utterance meets others each epoch. Runs of them become batches, and the batches are shuffled. Only one pool is
in memory, however long the manifest is. The work per utterance is that of a sort.

How well a corpus is shuffled depends on the pool. In a manifest longer than one pool, utterances far from each other in
the file never share a batch, and pools come in the file's order. The first pool's size is drawn anew each epoch, so the
borders move. A big manifest that is sorted, for instance by speaker, should be shuffled once (`shuf`) or packed as
Shar, whose shards come in another order each epoch.
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
# Each utterance is moved by up to this many places in the order of length. More makes batches more varied and adds
# padding (3 % in a full pool). Small corpora need it most: AN4's 845 utterances were learnt visibly slower when batches
# held the same neighbours each epoch.
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


def group_by_padded_size(items: Iterable[Item], size: Callable[[Item], float], limit: float) -> Iterator[list[Item]]:
    """Yield groups of neighbours whose number times the size of the longest is at most `limit`, or single items."""
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


# Padded seconds of segments that go through the network together, and seconds of segments that wait to be sorted.
SEGMENT_BATCH_S = 60.0
SEGMENT_POOL_S = 240.0


def segment_batches(segments: Iterable[Segment], rate_hz: int) -> Iterator[list[Segment]]:
    """Yield the segments of a recording in groups of similar length; the groups are nearly in order.

    A group has at most `SEGMENT_BATCH_S` padded seconds. At most `SEGMENT_POOL_S` and one segment are in memory.
    """
    pool: list[Segment] = []
    for segment in segments:
        pool.append(segment)
        if sum(map(_samples, pool)) >= SEGMENT_POOL_S * rate_hz:
            yield from _by_length(pool, rate_hz)
            pool = []
    yield from _by_length(pool, rate_hz)


def _by_length(pool: list[Segment], rate_hz: int) -> Iterator[list[Segment]]:
    return group_by_padded_size(sorted(pool, key=_samples), _samples, SEGMENT_BATCH_S * rate_hz)


def _samples(segment: Segment) -> int:
    return len(segment.waveform)
