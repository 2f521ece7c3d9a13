"""Many audio files → transcripts by workers, any of which may die: each file has one result, and no wait is endless.

`share_out` hands files to workers, one at a time to each, and decides what happens when one dies. A worker is a process
of this machine, with its own copy of the model (`in_processes`), or an actor of a ray cluster (`asr/bulk/cluster.py`).
Each worker calls a `Load` once, and then what that returned for every file that it is given.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Protocol, TypeAlias

from asr.errors import AsrError, AudioError
from asr.files import show_notes
from asr.machine import end_with_the_first
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
    roster = _Roster(workers, paths, most_workers)
    while roster.unfinished:
        roster.assign()
        for event in workers.wait():
            yield from roster.note(event)


class _Roster:
    """Which files wait, and which worker is at work on which file."""

    def __init__(self, workers: Workers, paths: Iterable[Path], most_workers: int) -> None:
        self._workers, self._most_workers = workers, most_workers
        self._waiting = deque(paths)
        self._deaths: Counter[Path] = Counter()  # of workers, while they were at work on a file
        self._at_work: dict[int, Path] = {}
        self._idle: list[int] = []
        self._starting: set[int] = set()
        self._failed_starts, self._reason = 0, ""  # in a row, and why the last one failed

    @property
    def unfinished(self) -> bool:
        return bool(self._waiting or self._at_work)

    def assign(self) -> None:
        """Give files to idle workers, and start workers for the files that still wait.

        Raises:
            AsrError: no worker is left, and none can be started.
        """
        while self._idle and self._waiting:
            worker = self._idle.pop()
            self._at_work[worker] = self._waiting.popleft()
            self._workers.give(worker, self._at_work[worker])
        while (
            self._failed_starts < FAILED_STARTS
            and len(self._starting) < len(self._waiting)
            and len(self._starting) + len(self._at_work) < self._most_workers
        ):
            self._starting.add(self._workers.start())
        if not (self._starting or self._at_work):
            raise AsrError(
                f"{self._failed_starts} workers in a row died while they loaded the model ({self._reason}); "
                'fewer --jobs need less memory; a script calls this below `if __name__ == "__main__":`'
            )

    def note(self, event: Ready | Done | Failed | Died) -> Iterator[tuple[Path, Result]]:
        """Take in what has happened; yield the file that it finishes, with its result.

        Raises:
            AsrError: a worker failed.
        """
        match event:
            case Ready(worker):
                self._starting.remove(worker)
                self._idle.append(worker)
                self._failed_starts = 0
            case Done(worker, result):
                self._idle.append(worker)
                yield self._at_work.pop(worker), result
            case Failed(_, error):
                raise error
            case Died(worker, reason) if worker in self._at_work:
                path = self._at_work.pop(worker)
                self._deaths[path] += 1
                if self._deaths[path] < ATTEMPTS:
                    self._waiting.append(path)
                else:
                    yield path, AudioError(f"{path}: the process at work on it died {ATTEMPTS} times ({reason})")
            case Died(worker, reason) if worker in self._starting:
                self._starting.remove(worker)
                self._failed_starts, self._reason = self._failed_starts + 1, reason
            case Died(worker, _):
                self._idle.remove(worker)


def in_order(paths: Iterable[Path], results: Iterable[tuple[Path, Result]]) -> Iterator[tuple[Path, Result]]:
    """Yield results in the order of `paths`, whatever order they come in; early ones are kept until their turn."""
    coming = iter(results)
    early: dict[Path, Result] = {}
    for path in paths:
        while path not in early:
            found, result = next(coming)
            early[found] = result
        yield path, early.pop(path)


def in_processes(load: Load, paths: Iterable[Path], jobs: int) -> Iterator[tuple[Path, Result]]:
    """Yield each file once with its result, in the order in which they are done, transcribed by several processes.

    Args:
        load: is called once in each process; it must be picklable, e.g. a `functools.partial` of a function.
        paths: the files.
        jobs: number of processes; fewer are started for fewer files.

    Raises:
        AsrError: as `share_out`.
    """
    workers = _Processes(load)
    try:
        yield from share_out(workers, paths, jobs)
    finally:
        workers.stop()


class _Processes:
    """Processes that answer through a pipe each. When a process dies, its pipe ends."""

    def __init__(self, load: Load) -> None:
        self._load = load
        # A forked process would copy locks that torch's or the progress bar's threads hold, and nobody would free them.
        self._context = multiprocessing.get_context("spawn")
        self._numbers = count()
        self._workers: dict[int, tuple[SpawnProcess, Connection]] = {}

    def start(self) -> int:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_work, args=(theirs, self._load), daemon=True)
        process.start()
        theirs.close()  # a pipe that is open here as well would not end with the process
        number = next(self._numbers)
        self._workers[number] = process, ours
        return number

    def give(self, worker: int, path: Path) -> None:
        with suppress(OSError):  # the process has died meanwhile; `wait` will report it
            self._workers[worker][1].send(path)

    def wait(self) -> Sequence[Ready | Done | Failed | Died]:
        speaking = wait([connection for _, connection in self._workers.values()])
        numbers = [number for number, (_, connection) in self._workers.items() if connection in speaking]
        return [self._event(number) for number in numbers]

    def stop(self) -> None:
        """End all processes at once; none of them has anything to finish."""
        for process, connection in self._workers.values():
            process.terminate()
            process.join()
            connection.close()

    def _event(self, number: int) -> Ready | Done | Failed | Died:
        process, connection = self._workers[number]
        try:
            kind, *content = connection.recv()
        except (EOFError, OSError):
            process.join()
            connection.close()
            del self._workers[number]
            return Died(number, _cause(process.exitcode))
        event: Ready | Done | Failed = kind(number, *content)
        return event


def _work(connection: Connection, load: Load) -> None:
    """Be a worker: load, then transcribe what comes through the pipe until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first process ends the others
    end_with_the_first()
    show_notes()
    try:
        with suppress(EOFError, OSError):  # the pipe ends with the first process
            transcribe = load()
            connection.send((Ready,))
            while True:
                connection.send((Done, transcribe(connection.recv())))
    except AsrError as error:
        connection.send((Failed, error))


def _cause(status: int | None) -> str:
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        return f"killed by {name}, perhaps because memory ran out" if name == "SIGKILL" else f"killed by {name}"
    return f"ended with exit status {status}"
