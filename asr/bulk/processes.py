"""Audio files → transcripts on this machine: workers that are processes, each with its own copy of the model."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from asr.bulk.workers import Died, Done, Failed, Load, Ready, Result, share_out
from asr.errors import AsrError
from asr.machine import end_with_the_first


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
