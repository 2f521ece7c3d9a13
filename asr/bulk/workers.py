"""Many audio files → transcripts, by workers of which any may die: nothing lost, nothing twice, no endless wait.

`share_out` hands the files to workers, one at a time to each, and decides what happens when one dies. What a worker
is, `asr/bulk/processes.py` says for this machine and `asr/bulk/cluster.py` for a ray cluster. Each worker
calls a `Load` once, and what that returned for every file it is given.
"""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from asr.errors import AsrError, AudioError

if TYPE_CHECKING:
    from asr.audio.segment import Segmentation
    from asr.inference.decoder import Method, Precision
    from asr.transcript.transcript import Transcript

# Of a file its transcripts, one unless its channels are transcribed separately, or why it has none.
Result: TypeAlias = "tuple[Transcript, ...] | AudioError"
Transcribe: TypeAlias = Callable[[Path], Result]
Load: TypeAlias = Callable[[], Transcribe]
OnProgress: TypeAlias = Callable[[float], object]

# A file whose worker died goes to another: most deaths are the machine's doing. The second one is the file's.
ATTEMPTS = 2
# Once so many workers in a row have died while they loaded the model, the next would as well.
FAILED_STARTS = 3


@dataclass(frozen=True)
class Options:
    """How files are transcribed: all that changes a transcript, apart from the model.

    Attributes:
        method, hotwords, segment: as for `Recognizer.transcribe`.
        channels: mixed down to one transcript, or one transcript of each.
        precision, decode: as for `asr.load`.
    """

    method: Method | None = None
    hotwords: dict[str, float] = field(default_factory=dict)
    segment: Segmentation = "vad"
    channels: Literal["mix", "separate"] = "mix"
    precision: Precision = "fp32"
    decode: dict[str, Any] = field(default_factory=dict)


def load_transcriber(
    model: Path,
    accelerator: Literal["auto", "cpu", "cuda"],
    options: Options,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> Transcribe:
    """Load a model folder and return what transcribes a file with it.

    Args:
        model: the model folder.
        accelerator: as for `asr.load`.
        options: how to transcribe.
        threads: processor threads for the network; None leaves them to torch.
        on_progress: is told how many more seconds of a file are done, as far as it is known.

    Raises:
        AsrError: the model cannot be used. What is returned raises it as well, if that shows with the first file.
    """
    import torch

    from asr.audio.blocks import open_audio
    from asr.inference.recognizer import load

    if threads is not None:
        torch.set_num_threads(threads)
    recognizer = load(model, accelerator=accelerator, precision=options.precision, decode=options.decode)

    def transcribe(path: Path) -> Result:
        try:
            channels: list[int | None] = [None]
            if options.channels == "separate":
                with open_audio(path) as recording:
                    channels = list(range(recording.channels))
            return tuple(
                recognizer.transcribe(
                    path,
                    method=options.method,
                    hotwords=options.hotwords,
                    segment=options.segment,
                    channel=channel,
                    on_progress=None if on_progress is None else lambda more_s: on_progress(more_s / len(channels)),
                )
                for channel in channels
            )
        except AudioError as error:
            return error
        except AsrError:  # the model's or an option's fault, so that every file has it
            raise
        except Exception as error:  # a defect that one file in ten thousand brings out shall not stop the others
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}, line {place.lineno}"
            return AudioError(f"{path}: cannot be transcribed ({type(error).__name__} in {where}: {error})")

    return transcribe


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
    """A worker has transcribed the file it was given, or found out why it cannot."""

    worker: int
    result: Result


@dataclass(frozen=True)
class Failed:
    """A worker says that going on is of no use, for any file."""

    worker: int
    error: AsrError


@dataclass(frozen=True)
class Died:
    """A worker is no more, and why as far as is known."""

    worker: int
    reason: str


class Workers(Protocol):
    """What `share_out` asks of processes or of actors on a cluster."""

    def start(self) -> int:
        """Begin to start a worker, which is `Ready` later; return its number, which no other has had."""

    def give(self, worker: int, path: Path) -> None:
        """Let a worker that is ready and has nothing to do transcribe a file."""

    def wait(self) -> Sequence[Ready | Done | Failed | Died]:
        """Return what has happened, one event at least, as soon as there is one.

        Raises:
            AsrError: nothing will ever happen.
        """


def share_out(workers: Workers, paths: Iterable[Path], most_workers: int) -> Iterator[tuple[Path, Result]]:
    """Yield each file once with its result, in the order in which they are done.

    A file whose worker died is given to another when all others have been given out; if that dies too, its result says
    so. A worker that died is replaced while there are files for it, unless several in a row died before they had loaded
    the model: then those that live do the rest.

    Args:
        workers: processes, or actors on a cluster.
        paths: the files.
        most_workers: how many are started at most.

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
    """Yield results that come in any order in the order of `paths`; those that come early are kept until then."""
    coming = iter(results)
    early: dict[Path, Result] = {}
    for path in paths:
        while path not in early:
            found, result = next(coming)
            early[found] = result
        yield path, early.pop(path)
