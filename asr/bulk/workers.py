"""Many audio files → transcripts by workers, any of which may die: each file has one result, and no wait is endless.

`share_out` hands files to workers, one at a time to each, and decides what happens when one dies. A worker is a process
of this machine (`asr/bulk/processes.py`) or an actor of a ray cluster (`asr/bulk/cluster.py`). Each worker calls a
`Load` once, and then what that returned for every file that it is given.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from asr.errors import AsrError, AudioError
from asr.transcript.transcript import Transcript

# The transcripts of a file, one unless its channels are transcribed separately, or why it has none.
Result: TypeAlias = tuple[Transcript, ...] | AudioError
Transcribe: TypeAlias = Callable[[Path], Result]
Load: TypeAlias = Callable[[], Transcribe]

# A file whose worker died goes to another one, since most deaths are the machine's doing. A second death is the file's.
ATTEMPTS = 2
# Once this many workers in a row have died while they loaded the model, the next would as well.
FAILED_STARTS = 3


def one_by_one(load: Load, paths: Iterable[Path]) -> Iterator[tuple[Path, Result]]:
    """Yield each file with its result, transcribed by this process."""
    transcribe = load()
    for path in paths:
        yield path, transcribe(path)


@dataclass(frozen=True)
class Ready:
    """A worker has loaded the model."""

    worker: int


@dataclass(frozen=True)
class Done:
    """A worker has transcribed its file, or found out why it cannot."""

    worker: int
    result: Result


@dataclass(frozen=True)
class Failed:
    """A worker reports an error that every file would have."""

    worker: int
    error: AsrError


@dataclass(frozen=True)
class Died:
    """A worker has ended, and why as far as is known."""

    worker: int
    reason: str


class Workers(Protocol):
    """What `share_out` asks of processes or of actors on a cluster."""

    def start(self) -> int:
        """Begin to start a worker, which is `Ready` later; return its number, which is never used again."""

    def give(self, worker: int, path: Path) -> None:
        """Let a worker that is ready and idle transcribe a file."""

    def wait(self) -> Sequence[Ready | Done | Failed | Died]:
        """Return what has happened, at least one event, as soon as there is one.

        Raises:
            AsrError: nothing will ever happen.
        """


def share_out(workers: Workers, paths: Iterable[Path], most_workers: int) -> Iterator[tuple[Path, Result]]:
    """Yield each file once with its result, in the order in which they are done.

    A file whose worker died is given to another one after all other files. If that one dies too, the file's result says
    so. A dead worker is replaced while there are files for it. Once several in a row have died while they loaded the
    model, none is replaced, and the others do the rest.

    Args:
        workers: processes, or actors on a cluster.
        paths: the files.
        most_workers: how many may live at once.

    Raises:
        AsrError: a worker failed, or none could load the model.
    """
    waiting = deque(paths)
    deaths: Counter[Path] = Counter()
    at_work: dict[int, Path] = {}
    idle: list[int] = []
    starting: set[int] = set()
    failed_starts, reason = 0, ""
    while waiting or at_work:
        while idle and waiting:
            worker = idle.pop()
            at_work[worker] = waiting.popleft()
            workers.give(worker, at_work[worker])
        while (
            failed_starts < FAILED_STARTS
            and len(starting) < len(waiting)
            and len(starting) + len(at_work) < most_workers
        ):
            starting.add(workers.start())
        if not (starting or at_work):
            raise AsrError(
                f"{failed_starts} workers in a row died while they loaded the model ({reason}); "
                "fewer --jobs need less memory"
            )
        for event in workers.wait():
            match event:
                case Ready(worker):
                    starting.remove(worker)
                    idle.append(worker)
                    failed_starts = 0
                case Done(worker, result):
                    idle.append(worker)
                    yield at_work.pop(worker), result
                case Failed(_, error):
                    raise error
                case Died(worker, reason) if worker in at_work:
                    path = at_work.pop(worker)
                    deaths[path] += 1
                    if deaths[path] < ATTEMPTS:
                        waiting.append(path)
                    else:
                        yield path, AudioError(f"{path}: the process at work on it died {ATTEMPTS} times ({reason})")
                case Died(worker, reason) if worker in starting:
                    starting.remove(worker)
                    failed_starts += 1
                case Died(worker, _):
                    idle.remove(worker)


def in_order(paths: Iterable[Path], results: Iterable[tuple[Path, Result]]) -> Iterator[tuple[Path, Result]]:
    """Yield results in the order of `paths`, whatever order they come in; early ones are kept until their turn."""
    coming = iter(results)
    early: dict[Path, Result] = {}
    for path in paths:
        while path not in early:
            found, result = next(coming)
            early[found] = result
        yield path, early.pop(path)
