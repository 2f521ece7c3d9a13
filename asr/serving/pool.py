"""Requests → worker processes and back: each request has one answer, and a worker that dies is replaced.

A request waits until a worker is idle. Those who sent the requests that wait are served in turn, so that nobody waits
for all requests of somebody else (`fair_queue.py`). The result of a request is the one that `asr transcribe` gives,
whatever its neighbours are.

On processors, a worker transcribes one file at a time. Padding several files to one length and computing them together
would gain nothing there: the recurrent layers of an exported network take as long for two files as for one after the
other, and a worker for each core keeps all cores busy. On a GPU a worker has several files at a time, and the network
computes them together (`asr/inference/joining.py`).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from asr.errors import AsrError
from asr.machine import Accelerator
from asr.serving.fair_queue import FairQueue
from asr.serving.worker import OF_ALL, Cancel, FailureError, FileJob, FileResult, Ready, Served, work

FAILED_STARTS = 3  # once as many workers in a row have died while they loaded, the server does not begin
_GRACE_S = 30.0  # a worker that does not stop within this time of being asked to is killed
_LONGEST_WAIT_S = 30.0  # before a worker that died while it loaded is replaced

_OF_LATE = 0.1  # the share of the last file in the usual time


@dataclass(eq=False)
class Worker:
    """A process with all models, and who listens to its answers by the number of the request."""

    process: SpawnProcess
    connection: Connection
    listeners: dict[int, Callable[[object], object]] = field(default_factory=dict)
    is_ready: bool = False

    def send(self, number: int, message: object) -> None:
        """Tell the worker something about a request."""
        with suppress(OSError):  # it has died meanwhile; its listeners will hear of it
            self.connection.send((number, message))


@dataclass(eq=False)
class _Waiting:
    job: FileJob
    answer: asyncio.Future[FileResult]
    since: float = field(default_factory=time.monotonic)


class Pool:
    """Worker processes, and the requests that wait for one.

    All methods are called from one event loop.

    Attributes:
        usual_s: about how long a file has kept a worker busy of late.
        on_wait: is called with the seconds for which a request has waited, once it is given to a worker.
        on_death: is called when a worker has died.
    """

    def __init__(self, models: Sequence[Served], accelerator: Accelerator, jobs: int, at_once: int = 1) -> None:
        """Start nothing yet.

        Args:
            models: which each worker loads.
            accelerator: for models that run with torch.
            jobs: number of worker processes.
            at_once: number of files that each has at a time.
        """
        self.on_wait: Callable[[float], object] = lambda _: None
        self.on_death: Callable[[], object] = lambda: None
        self.usual_s = 1.0
        self._arguments = (tuple(models), accelerator, jobs, at_once)
        self._jobs, self._at_once = jobs, at_once
        # A forked process would copy locks that other threads hold, and nobody would free them.
        self._context = multiprocessing.get_context("spawn")
        self._numbers = count()
        self._workers: list[Worker] = []
        self._idle: list[Worker] = []  # once for each file that it could take
        self._queue: FairQueue[_Waiting] = FairQueue()
        self._failed_starts = 0
        self._is_stopping = False

    async def start(self) -> None:
        """Begin to start the workers."""
        self._loop = asyncio.get_running_loop()
        self._all_ready: asyncio.Future[None] = self._loop.create_future()
        for _ in range(self._jobs):
            self._start_worker()

    async def until_ready(self) -> None:
        """Wait until all workers have loaded the models once.

        Raises:
            AsrError: a model cannot be loaded, or the workers die while they load it.
        """
        await asyncio.shield(self._all_ready)

    @property
    def is_ready(self) -> bool:
        """Whether all workers have loaded the models, and none has died without being replaced."""
        return sum(worker.is_ready for worker in self._workers) == self._jobs

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a worker."""
        return len(self._queue)

    @property
    def workers(self) -> list[Worker]:
        """The workers that have loaded the models."""
        return [worker for worker in self._workers if worker.is_ready]

    def new_number(self) -> int:
        """Return a number for a request."""
        return next(self._numbers)

    async def transcribe(self, job: FileJob, sender: str = "") -> FileResult:
        """Return the transcript of a file. If this is cancelled, it waits no more, or the worker at work on it stops.

        Args:
            job: the file.
            sender: who sent it; of each sender in turn a file is given to a worker.

        Raises:
            FailureError: there is no transcript.
        """
        waiting = _Waiting(job, self._loop.create_future())
        self._queue.put(sender, waiting)
        self._share_out()
        try:
            return await waiting.answer
        finally:
            self._queue.remove(sender, waiting)

    def send_away(self, sender: str) -> bool:
        """Refuse the last file of a sender that waits for a worker; return whether there is one."""
        waiting = self._queue.take_last(sender)
        if waiting is not None and not waiting.answer.done():
            waiting.answer.set_exception(FailureError("crowded", ""))
        return waiting is not None

    async def stop(self) -> None:
        """End all workers at once."""
        self._is_stopping = True
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            await asyncio.to_thread(worker.process.join)

    def _start_worker(self) -> None:
        if self._is_stopping:
            return
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=work, args=(theirs, *self._arguments), daemon=True)
        process.start()
        theirs.close()  # a pipe that is open here as well would not end with the process
        worker = Worker(process, ours)
        self._workers.append(worker)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()

    def _listen(self, worker: Worker) -> None:
        """Hand what a worker says to the event loop; a thread of its own does this."""
        with suppress(RuntimeError):  # the event loop has ended
            while True:
                try:
                    number, content = worker.connection.recv()
                except (EOFError, OSError):
                    break
                self._loop.call_soon_threadsafe(self._heard, worker, number, content)
            worker.process.join()
            self._loop.call_soon_threadsafe(self._died, worker)

    def _heard(self, worker: Worker, number: int, content: object) -> None:
        if number != OF_ALL:
            if listener := worker.listeners.get(number):
                listener(content)
        elif isinstance(content, Ready):
            worker.is_ready = True
            self._failed_starts = 0
            self._idle += [worker] * self._at_once
            if self.is_ready and not self._all_ready.done():
                self._all_ready.set_result(None)
            self._share_out()
        elif isinstance(content, AsrError) and not self._all_ready.done():
            self._all_ready.set_exception(content)

    def _died(self, worker: Worker) -> None:
        worker.connection.close()
        self._workers.remove(worker)
        self._idle = [other for other in self._idle if other is not worker]
        if self._is_stopping:
            return
        self.on_death()
        reason = f"the process at work on it {_cause(worker.process.exitcode)}; the same request may succeed again"
        for listener in list(worker.listeners.values()):
            listener(FailureError("died", reason))
        if worker.is_ready:
            self._start_worker()
            return
        self._failed_starts += 1
        if self._failed_starts >= FAILED_STARTS and not self._all_ready.done():
            self._all_ready.set_exception(
                AsrError(
                    f"{self._failed_starts} workers in a row died while they loaded the models; the last one "
                    f"{_cause(worker.process.exitcode)}; fewer --jobs need less memory; a script calls this below "
                    '`if __name__ == "__main__":`'
                )
            )
        self._loop.call_later(min(_LONGEST_WAIT_S, 2.0**self._failed_starts), self._start_worker)

    def _share_out(self) -> None:
        """Give requests that wait to idle workers, of each sender in turn."""
        while self._idle and self._queue:
            waiting = self._queue.take()
            if waiting.answer.done():  # nobody waits for it any more
                continue
            self._give(self._idle.pop(), waiting)

    def _give(self, worker: Worker, waiting: _Waiting) -> None:
        number, start = self.new_number(), time.monotonic()
        self.on_wait(start - waiting.since)
        killing: asyncio.TimerHandle | None = None

        def finish(content: object) -> None:
            del worker.listeners[number]
            self.usual_s += _OF_LATE * (time.monotonic() - start - self.usual_s)
            if killing is not None:
                killing.cancel()
            if not waiting.answer.done():
                if isinstance(content, FileResult):
                    waiting.answer.set_result(content)
                else:
                    assert isinstance(content, FailureError)
                    waiting.answer.set_exception(content)
            if worker in self._workers:  # it has not died
                self._idle.append(worker)
                self._share_out()

        def give_up(answer: asyncio.Future[FileResult]) -> None:
            nonlocal killing
            if answer.cancelled() and number in worker.listeners:
                worker.send(number, Cancel())
                killing = self._loop.call_later(_GRACE_S, worker.process.kill)

        worker.listeners[number] = finish
        waiting.answer.add_done_callback(give_up)
        worker.send(number, waiting.job)


def _cause(status: int | None) -> str:
    killed = status is not None and status < 0
    return "was killed, perhaps because memory ran out" if killed else f"ended with exit status {status}"
