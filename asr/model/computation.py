"""How a network computes on this machine: in which number format, with how many threads. Chosen by timing.

A processor's flags do not say which is quicker. bfloat16 is the quicker one on one processor that has it, and takes
twice as long as float32 on another. A second thread gains much in a large batch, nothing in a small one, and costs much
beside other work, because the threads of a recurrent layer wait for each other at each frame.

So the real network does some of its real work in each way. The plainest way that is nearly as quick as the quickest is
taken. What is chosen depends on the times alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import torch

from asr.reading import counted

Precision = Literal["fp32", "bf16"]

# The plainest way is taken if it is at most this much slower than the quickest; two timings differ by about as much.
MARGIN = 0.05
# Ways that take so many times as long as the quickest in a small share of the work are not timed further.
HOPELESS = 4.0
SMALL_SHARE = 1 / 16
_PASSES = 8  # that fit into the time; a pass does a smaller share of the work if it would take longer
BUDGET_S = 1.0  # for the passes of one comparison
LEAST_ROUNDS, MOST_ROUNDS = 3, 9  # the first is not counted

# Seconds of work until another number of threads is tried for the first time, and then after each so many.
FIRST_TRIAL_S, TRIAL_EVERY_S = 1.0, 60.0
TRIAL_PASS_S = 0.025

Way = TypeVar("Way")
Result = TypeVar("Result")
Clock = Callable[[], float]


@dataclass(frozen=True)
class Computation:
    """A number format and a number of threads."""

    precision: Precision
    threads: int

    def __str__(self) -> str:
        """Say it in words."""
        name = {"fp32": "float32", "bf16": "bfloat16"}[self.precision]
        return f"{name}, {counted(self.threads, 'thread')}"


@dataclass(frozen=True)
class Comparison(Generic[Way]):
    """What was chosen, and the seconds that the whole work takes in each way, by what a share of it took."""

    chosen: Way
    times_s: Mapping[Way, float]


def choose(
    formats: Sequence[Precision],
    counts: Sequence[int],
    prepare: Callable[[float], Callable[[Computation], object]],
    *,
    clock: Clock = time.perf_counter,
    processor_clock: Clock = time.thread_time,
) -> list[Comparison[Computation]]:
    """Return comparisons, the last of which has chosen the way to compute.

    The number of threads is chosen first, then the format with so many threads, then the threads again if it is another
    format. Formats are compared by processor time if there is one thread, so a busy machine changes nothing.

    Args:
        formats: to choose from, the plainest first.
        counts: numbers of threads to choose from, the fewest first.
        prepare: gets a share of the work, above 0 and up to 1, and returns what does that share in a given way.
        clock: returns the time in seconds.
        processor_clock: returns the processor time of this thread in seconds; `clock` where another device computes.
    """

    def by_threads(precision: Precision) -> Comparison[Computation]:
        return compare([Computation(precision, count) for count in counts], prepare, stopwatch=clock)

    first = by_threads(formats[0])
    count = first.chosen.threads
    ways = [Computation(precision, count) for precision in formats]
    second = compare(ways, prepare, stopwatch=processor_clock if count == 1 else clock)
    again = [] if second.chosen.precision == formats[0] else [by_threads(second.chosen.precision)]
    return [first, second, *again]


def plainest_quick(times_s: Mapping[Way, float]) -> Way:
    """Return the first of the ways that takes at most `MARGIN` longer than the quickest.

    Args:
        times_s: seconds, the plainest way first.
    """
    limit_s = (1 + MARGIN) * min(times_s.values())
    return next(way for way, seconds in times_s.items() if seconds <= limit_s)


def compare(
    ways: Sequence[Way],
    prepare: Callable[[float], Callable[[Way], object]],
    *,
    budget_s: float = BUDGET_S,
    stopwatch: Clock = time.perf_counter,
) -> Comparison[Way]:
    """Time some work done in several ways, and choose one. A single way is not timed.

    Args:
        ways: the plainest first.
        prepare: see `choose`.
        budget_s: how long this should take, about; less work is timed if the machine is slow.
        stopwatch: returns the time in seconds.
    """
    if len(ways) == 1:
        return Comparison(ways[0], {})
    small_s = time_in_turn(ways, prepare(SMALL_SHARE), rounds=2, stopwatch=stopwatch)
    hopeful = [way for way in ways if small_s[way] <= HOPELESS * min(small_s.values())]
    whole_s = {way: seconds / SMALL_SHARE for way, seconds in small_s.items()}
    if len(hopeful) > 1:
        share = min(1.0, max(SMALL_SHARE, budget_s / _PASSES / max(whole_s[way] for way in hopeful)))
        timed_s = time_in_turn(hopeful, prepare(share), budget_s=budget_s, stopwatch=stopwatch)
        whole_s |= {way: seconds / share for way, seconds in timed_s.items()}
    return Comparison(plainest_quick({way: whole_s[way] for way in hopeful}), whole_s)


def time_in_turn(
    ways: Sequence[Way],
    work: Callable[[Way], object],
    *,
    rounds: int = MOST_ROUNDS,
    budget_s: float = BUDGET_S,
    stopwatch: Clock = time.perf_counter,
) -> dict[Way, float]:
    """Return the seconds that each way takes: the lower quartile of several rounds, in which the ways take turns.

    Turns let a drift of the machine's speed meet all ways. The lower quartile leaves out what other processes did now
    and then, and keeps what they do all the time. The first round is not counted: kernels are made then. After
    `LEAST_ROUNDS`, no round begins later than `budget_s`.

    Args:
        ways: what is compared.
        work: is done once in each way and round.
        rounds: at most so many.
        budget_s: seconds.
        stopwatch: returns the time in seconds.
    """
    times_s: dict[Way, list[float]] = {way: [] for way in ways}
    began_s = time.perf_counter()
    for number in range(rounds):
        if number >= LEAST_ROUNDS and time.perf_counter() - began_s > budget_s:
            break
        for place in range(len(ways)):
            way = ways[(number + place) % len(ways)]
            start_s = stopwatch()
            work(way)
            if number:
                times_s[way].append(stopwatch() - start_s)
    return {way: sorted(found)[(len(found) - 1) // 4] for way, found in times_s.items()}


def given_threads() -> int | None:
    """Return the number of threads if the user has set it: by `OMP_NUM_THREADS`, for instance."""
    given = any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    return torch.get_num_threads() if given else None


def thread_counts() -> tuple[int, ...]:
    """Return the numbers of threads to choose from: one, and as many as torch takes; what the user has set is fixed."""
    most = torch.get_num_threads()
    return (most,) if most == 1 or given_threads() is not None else (1, most)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with so many threads until the `with` statement ends."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ThreadChoice:
    """Does work with one thread, and with more as soon as it is known that these are quicker.

    The first work is done with the fewest threads. A short recording is done before anything could be gained. After
    `FIRST_TRIAL_S` of work, a piece of it is timed with each number, and again after each `TRIAL_EVERY_S`, because the
    machine may have become busy or quiet. A trial takes about a fifth of a second. There are never more threads than
    torch takes at present: a forked process, for instance, may have one only.
    """

    def __init__(self, counts: Sequence[int], clock: Clock = time.perf_counter) -> None:
        """Choose among `counts`, the fewest first."""
        self._count = counts[0]
        self._counts = counts
        self._clock = clock
        self._worked_s = 0.0
        self._trial_at_s = FIRST_TRIAL_S

    @property
    def count(self) -> int:
        """The number of threads at present."""
        return min(self._count, torch.get_num_threads())

    def do(self, work: Callable[[float], Result]) -> Result:
        """Do some work and return its result.

        Args:
            work: does a share of it, above 0 and up to 1. It is called with 1, and perhaps with less for a trial.
        """
        with threads(self.count):
            began = self._clock()
            result = work(1.0)
            took_s = self._clock() - began
        self._worked_s += took_s
        counts = [count for count in self._counts if count <= torch.get_num_threads()]
        if len(counts) > 1 and self._worked_s >= self._trial_at_s:
            self._count = self._quicker(counts, work, min(1.0, TRIAL_PASS_S / took_s))
            self._trial_at_s = self._worked_s + TRIAL_EVERY_S
        return result

    def _quicker(self, counts: Sequence[int], work: Callable[[float], object], share: float) -> int:
        def part(count: int) -> None:
            with threads(count):
                work(share)

        return plainest_quick(time_in_turn(counts, part, rounds=4, stopwatch=self._clock))
