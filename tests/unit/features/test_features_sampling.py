"""Batches of an epoch: every utterance once, similar lengths together, and never more than a pool read ahead."""

import random
import statistics
from collections import defaultdict
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from asr.features.augment import Draw
from asr.features.batching import shuffled_batches

Utterance = tuple[int, float]  # number, duration_s


def batches_of(utterances: list[Utterance], *, batch_s: float = 30.0, seed: int = 1, epoch: int = 0, pool: int = 50):  # type: ignore[no-untyped-def]
    return list(shuffled_batches(utterances, lambda u: u[1], batch_s, Draw(seed, epoch), pool_utterances=pool))


def speech(count: int) -> list[Utterance]:
    draw = random.Random(5)
    return [(number, draw.uniform(1, 16)) for number in range(count)]


@given(st.lists(st.floats(0.1, 40), max_size=60), st.integers(1, 30), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_has_every_utterance_once_in_batches_within_the_limit(
    durations: list[float], pool: int, seed: int, epoch: int
) -> None:
    utterances = list(enumerate(durations))
    batches = batches_of(utterances, seed=seed, epoch=epoch, pool=pool)
    assert sorted(utterance for batch in batches for utterance in batch) == utterances
    assert all(len(batch) == 1 or len(batch) * max(s for _, s in batch) <= 30 for batch in batches)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    utterances = speech(300)
    assert batches_of(utterances) == batches_of(utterances)
    orders = [batches_of(utterances, seed=seed, epoch=epoch) for seed in (1, 2) for epoch in (0, 1)]
    assert all(a != b for place, a in enumerate(orders) for b in orders[:place])


def test_at_most_a_pool_is_read_ahead_and_what_was_given_out_is_let_go() -> None:
    class Held:
        alive = 0

        def __init__(self, duration_s: float) -> None:
            self.duration_s = duration_s
            Held.alive += 1

        def __del__(self) -> None:
            Held.alive -= 1

    read = 0

    def stream() -> Iterator[Held]:
        nonlocal read
        for _, duration_s in speech(2000):
            read += 1
            yield Held(duration_s)

    given_out = 0
    for batch in shuffled_batches(stream(), lambda u: u.duration_s, 30, Draw(1, 0), pool_utterances=100):
        given_out += len(batch)
        assert read - given_out <= 100
        assert Held.alive <= 100 + 30  # and the batch in hand
    assert given_out == read == 2000


def test_little_of_a_batch_is_padding() -> None:
    batches = batches_of(speech(20000), pool=20000)
    padded_s = sum(len(batch) * max(s for _, s in batch) for batch in batches)
    assert padded_s / sum(s for batch in batches for _, s in batch) < 1.08
    # In the order they come, half as much again would be padding.
    ones = speech(3000)
    neighbours = [ones[start : start + 4] for start in range(0, 3000, 4)]
    assert sum(4 * max(s for _, s in group) for group in neighbours) / sum(s for _, s in ones) > 1.4


def test_an_utterance_meets_others_in_other_epochs_from_pool_to_pool() -> None:
    utterances = speech(400)
    met = defaultdict(set)
    for epoch in range(30):
        for batch in batches_of(utterances, epoch=epoch, pool=100):
            for number, _ in batch:
                met[number] |= {other for other, _ in batch if other != number}
    sizes = sorted(len(others) for others in met.values())
    assert sizes[len(sizes) // 2] > 10
    # Borders of pools move, so that neighbours in the file are not parted for good by any fixed border.
    for border in range(50, 400, 50):
        assert any(other >= border for number in range(border) for other in met[number])


def test_utterances_of_a_small_corpus_do_not_meet_the_same_ones_each_epoch() -> None:
    met: dict[int, list[int]] = defaultdict(list)
    for epoch in range(10):
        for batch in batches_of(speech(800), epoch=epoch):
            for number, _ in batch:
                met[number] += [other for other, _ in batch if other != number]
    again = sum(len(others) - len(set(others)) for others in met.values())
    assert again / sum(map(len, met.values())) < 0.14  # in batches drawn quite at random it is 0.11


def test_long_and_short_batches_follow_each_other_by_chance() -> None:
    longest = [max(s for _, s in batch) for batch in batches_of(speech(2000), pool=2000)]
    assert len(longest) > 500
    assert abs(statistics.correlation(range(len(longest)), longest)) < 0.15
