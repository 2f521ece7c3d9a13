"""How a network computes is chosen by timing: the rule, by times worked by hand, and what a timing is."""

from collections.abc import Callable, Iterator

import pytest
import torch

from asr.model.computation import Computation, ThreadChoice, choose, compare, plainest_quick, thread_counts, threads


class Clock:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine with two cores whose user has set nothing."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("times_ms", "chosen"),
    [
        ((100, 100), "plain"),
        ((100, 96), "plain"),  # 104.2 % of the quickest
        ((100, 95), "other"),  # 105.3 %
        ((100, 60), "other"),
        ((60, 100), "plain"),
    ],
)
def test_the_plain_way_is_taken_unless_the_other_gains_more_than_a_twentieth(
    times_ms: tuple[float, float], chosen: str
) -> None:
    assert plainest_quick(dict(zip(("plain", "other"), times_ms, strict=True))) == chosen


def test_of_several_quick_ways_the_plainest_is_taken() -> None:
    assert plainest_quick({"a": 200, "b": 103, "c": 100, "d": 99}) == "b"


def working(clock: Clock, seconds: Callable[[str, float], float]) -> Callable[[float], Callable[[str], None]]:
    """Return work of which each share takes `seconds(way, share)`."""

    def prepare(share: float) -> Callable[[str], None]:
        def work(way: str) -> None:
            clock.now_s += seconds(way, share)

        return work

    return prepare


def test_times_are_those_of_the_whole_work() -> None:
    clock = Clock()
    speeds = {"plain": 0.08, "other": 0.04}
    found = compare(list(speeds), working(clock, lambda way, share: speeds[way] * share), stopwatch=clock)
    assert found.chosen == "other"
    assert found.times_s == pytest.approx(speeds)


def test_of_long_work_only_a_share_is_done() -> None:
    clock = Clock()
    shares: set[float] = set()

    def seconds(way: str, share: float) -> float:
        shares.add(share)
        return 100.0 * share

    compare(["plain", "other"], working(clock, seconds), stopwatch=clock)
    assert max(shares) <= 1 / 16
    compare(["plain", "other"], working(clock, lambda way, share: shares.add(share) or 0.1 * share), stopwatch=clock)
    assert max(shares) == 1


def test_a_way_without_hope_does_no_more_than_a_small_share() -> None:
    clock = Clock()
    done: dict[str, float] = {"plain": 0.0, "emulated": 0.0}

    def seconds(way: str, share: float) -> float:
        done[way] = max(done[way], share)
        return share * {"plain": 0.1, "emulated": 5.0}[way]

    found = compare(["plain", "emulated"], working(clock, seconds), stopwatch=clock)
    assert found.chosen == "plain"
    assert done["emulated"] <= 1 / 16
    assert found.times_s["emulated"] == pytest.approx(5.0)


def test_a_disturbance_now_and_then_does_not_change_the_time() -> None:
    clock = Clock()
    passes = iter(range(1000))

    def seconds(way: str, share: float) -> float:
        return share * 0.05 + (1.0 if next(passes) % 5 == 0 else 0.0)

    found = compare(["plain", "other"], working(clock, seconds), stopwatch=clock)
    assert found.times_s == pytest.approx({"plain": 0.05, "other": 0.05})


def test_a_single_way_is_not_timed() -> None:
    def prepare(share: float) -> Callable[[str], None]:
        raise AssertionError("nothing is to be timed")

    assert compare(["only"], prepare).chosen == "only"


WALL_MS = {("fp32", 1): 60, ("fp32", 2): 70, ("bf16", 1): 40, ("bf16", 2): 30}


@pytest.mark.parametrize(
    ("wall_ms", "processor_ms", "expected"),
    [
        # One thread, then bfloat16, then threads again in bfloat16: there a second one gains.
        (WALL_MS, {"fp32": 60, "bf16": 40}, Computation("bf16", 2)),
        # A busy machine: threads wait for each other, and the wall clock says that bfloat16 is slow. It is not.
        (
            {("fp32", 1): 100, ("fp32", 2): 500, ("bf16", 1): 300, ("bf16", 2): 900},
            {"fp32": 60, "bf16": 40},
            Computation("bf16", 1),
        ),
        # bfloat16 gains nothing.
        (WALL_MS, {"fp32": 60, "bf16": 110}, Computation("fp32", 1)),
        # Two threads gain in float32; formats are then compared by the wall clock.
        (
            {("fp32", 1): 100, ("fp32", 2): 60, ("bf16", 1): 90, ("bf16", 2): 59},
            {"fp32": 60, "bf16": 1},
            Computation("fp32", 2),
        ),
    ],
)
def test_threads_are_chosen_first_and_formats_by_processor_time(
    wall_ms: dict[tuple[str, int], float], processor_ms: dict[str, float], expected: Computation
) -> None:
    wall, processor = Clock(), Clock()

    def prepare(share: float) -> Callable[[Computation], None]:
        def step(way: Computation) -> None:
            wall.now_s += share * wall_ms[way.precision, way.threads] / 1000
            processor.now_s += share * processor_ms[way.precision] / 1000

        return step

    found = choose(("fp32", "bf16"), (1, 2), prepare, clock=wall, processor_clock=processor)
    assert found[-1].chosen == expected


def test_the_user_s_number_of_threads_is_the_only_one(monkeypatch: pytest.MonkeyPatch, two_threads: None) -> None:
    assert thread_counts() == (1, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert thread_counts() == (2,)
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    assert thread_counts() == (1,)


def test_a_number_of_threads_holds_until_the_end_of_its_block(two_threads: None) -> None:
    with threads(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def thread_choice(speed: Callable[[int], float]) -> tuple[ThreadChoice, Callable[[float], None]]:
    """Return a choice between 1 and 2 threads, and a function that does so many seconds of one thread's work."""
    clock = Clock()
    choice = ThreadChoice((1, 2), clock)

    def do(seconds: float) -> None:
        def work(share: float) -> None:
            clock.now_s += seconds * share / speed(torch.get_num_threads())

        choice.do(work)

    return choice, do


def test_short_work_is_done_with_one_thread_and_long_work_with_what_is_quicker(two_threads: None) -> None:
    choice, do = thread_choice(lambda count: {1: 1.0, 2: 1.7}[count])
    do(0.9)
    assert choice.count == 1
    do(0.2)  # more than a second of work in all
    assert choice.count == 2
    assert torch.get_num_threads() == 2  # as before the work


def test_threads_that_gain_nothing_are_not_taken(two_threads: None) -> None:
    choice, do = thread_choice(lambda count: {1: 1.0, 2: 1.02}[count])
    do(5.0)
    assert choice.count == 1


def test_a_forked_process_has_one_thread_whatever_was_chosen_before(two_threads: None) -> None:
    choice, do = thread_choice(lambda count: {1: 1.0, 2: 1.7}[count])
    do(2.0)
    assert choice.count == 2
    torch.set_num_threads(1)  # as `asr.machine` does after a fork
    assert choice.count == 1
    do(200.0)  # enough for another trial
    assert choice.count == 1


def test_the_number_of_threads_follows_the_machine(two_threads: None) -> None:
    gain = {1: 1.0, 2: 1.7}
    choice, do = thread_choice(lambda count: gain[count])
    do(2.0)
    assert choice.count == 2
    gain[2] = 0.2  # another process needs the second core
    do(1.0)
    assert choice.count == 2  # not tried again yet
    do(20.0)  # takes 100 s
    assert choice.count == 1
