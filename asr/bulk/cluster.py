"""Audio files → transcripts on many machines: workers that are actors of a ray cluster (extra `cluster`)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from asr.bulk.workers import Died, Done, Failed, Load, Ready, Result, Transcribe, share_out
from asr.errors import AsrError, DependencyError

# How long actors may take to get a machine and to load the model there, while none is at work.
_STARTED_WITHIN_S = 600.0


def on_ray(
    load: Load, paths: Iterable[Path], address: str, jobs: int | None = None, *, gpu: bool = False
) -> Iterator[tuple[Path, Result]]:
    """Yield each file once with its result, in the order in which they are done, transcribed by actors of a cluster.

    All its machines need this package, and the model and the files under the same paths. The results come back to this
    process.

    Args:
        load: is called once in each actor; it must be picklable, e.g. a `functools.partial` of a function.
        paths: the files.
        address: `HOST:PORT`, `auto` for the cluster that this machine belongs to, or `local` for one that is started
            here and ended afterwards. A `local` one cannot be reached from other machines, unless this process has
            imported ray before. If this process is killed, the last of its processes ends within about a minute.
        jobs: number of actors; by default one for each processor core, or GPU, of the cluster.
        gpu: whether each actor takes a GPU.

    Raises:
        DependencyError: ray is not installed.
        AsrError: there is no such cluster, or it has no room; or as `share_out`.
    """
    if address == "local":  # or its servers would listen on the network, where anybody could run programs through them
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # ray looks at it on Linux too, when imported
    try:
        import ray
    except ImportError:
        raise DependencyError("transcribing on a cluster needs ray: pip install ray") from None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # ray reports its use to its makers otherwise
    own = {"num_cpus": jobs, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise AsrError(f"--ray {address}: no such cluster ({error})") from None
    try:
        unit = "GPU" if gpu else "CPU"
        most = jobs or int(ray.cluster_resources().get(unit, 0))
        if not most:
            raise AsrError(f"--ray {address}: the cluster has no {unit}")
        yield from share_out(_Actors(ray, load, gpu), paths, most)
    finally:
        ray.shutdown()  # ends the actors as well


class _Actors:
    """Actors, each with one call at a time. Ray does not restart them, since `share_out` replaces them.

    An actor that ray restarts keeps the file that it died with. It then waits for a machine, even if none will come.
    Here another actor takes that file.
    """

    def __init__(self, ray: Any, load: Load, gpu: bool) -> None:
        self._ray, self._load = ray, load
        self._class = ray.remote(num_cpus=int(not gpu), num_gpus=int(gpu), max_restarts=0, max_task_retries=0)(_Actor)
        self._numbers = count()
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, int] = {}
        self._at_work: set[int] = set()

    def start(self) -> int:
        number = next(self._numbers)
        self._actors[number] = actor = self._class.remote(self._load, os.getcwd())
        self._calls[actor.load.remote()] = number
        return number

    def give(self, worker: int, path: Path) -> None:
        self._at_work.add(worker)
        self._calls[self._actors[worker].transcribe.remote(path)] = worker

    def wait(self) -> Sequence[Ready | Done | Failed | Died]:
        answered, _ = self._ray.wait(list(self._calls), timeout=None if self._at_work else _STARTED_WITHIN_S)
        if not answered:
            raise AsrError("the ray cluster has had no room for an actor for 10 minutes; see `ray status`")
        return [self._event(call) for call in answered]

    def _event(self, call: Any) -> Ready | Done | Failed | Died:
        number = self._calls.pop(call)
        self._at_work.discard(number)
        try:
            kind, *content = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            with suppress(self._ray.exceptions.RayError):
                self._ray.kill(self._actors[number])  # it may live and only be out of reach
            del self._actors[number]
            return Died(number, _reason(error))
        event: Ready | Done | Failed = kind(number, *content)
        return event


def _reason(error: Exception) -> str:
    """Return one line: the exception of an actor that could not start, or what happened to one that ran."""
    lines = str(error).strip().splitlines()
    return lines[-1 if getattr(error, "actor_init_failed", False) else 0].strip() if lines else type(error).__name__


class _Actor:
    """What runs on the cluster. Errors are returned, since ray would wrap those that are raised."""

    def __init__(self, load: Load, folder: str) -> None:
        with suppress(OSError):  # without this folder, relative paths do not exist here, and reading them says so
            os.chdir(folder)
        self._load = load
        self._transcribe: Transcribe | None = None

    def load(self) -> tuple[Any, ...]:
        try:
            self._transcribe = self._load()
        except AsrError as error:
            return Failed, error
        return (Ready,)

    def transcribe(self, path: Path) -> tuple[Any, ...]:
        assert self._transcribe is not None
        try:
            return Done, self._transcribe(path)
        except AsrError as error:
            return Failed, error
