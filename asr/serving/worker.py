"""Models and a pipe → a process that transcribes: what workers of the server are told, and what they answer.

A worker loads every model once. An exported folder runs on `asr.runtime`, which needs no torch; any other one is
loaded with `asr.load`.

Each message on the pipe has the number of the request that it belongs to:

| to the worker | from the worker |
| --- | --- |
| | `Ready`, or the error for which a model cannot be loaded, as number `OF_ALL` |
| `FileJob` | one `FileResult` or one `FailureError` |
| `Cancel` | what was asked for under this number ends soon |

One thread reads the pipe, one transcribes files, one at a time, and one hears streams (`live_worker.py`). So a message
is heard while a file is at work. On a GPU several threads transcribe a file each (`asr/inference/joining.py`).
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asr.audio.blocks import open_audio
from asr.audio.segment import Segmentation
from asr.bundle.files import ONNX_DESCRIPTION
from asr.decoding.streaming import Listening
from asr.errors import AsrError, AudioError, AudioWarning, GrammarWarning
from asr.files import printable
from asr.lm.grammar import Grammar
from asr.machine import Accelerator, cores, end_with_the_first
from asr.serving.live_worker import Listens, StreamAudio, Streams, StreamStart, StreamStop, unusable_hotwords
from asr.serving.log import log
from asr.sharing.names import model_folder
from asr.transcript.transcript import Transcript

_MOST_SAMPLES_PER_S = 8 * 48_000  # of all channels, on which the longest recording counts: what is decoded takes time
OF_ALL = -1  # the number of a message that belongs to no request


@dataclass(frozen=True)
class Served:
    """A model folder, the name by which requests ask for it, and what may be said; None: anything."""

    name: str
    folder: str
    grammar: Grammar | None = None


@dataclass(frozen=True)
class FileJob:
    """A recording that is to be transcribed.

    Attributes:
        model: the name of the model.
        path: where the recording is.
        shown: what messages call it.
        hotwords: words and phrases that are expected; those that the model cannot write are left out.
        longest_s: a longer recording is refused.
        written: transcript and warnings → the text of the answer. Workers write it, because the subtitles of an hour
            take a second, for which the server would hear nobody.
    """

    model: str
    path: Path
    shown: str
    hotwords: tuple[str, ...]
    longest_s: float
    written: Callable[[Transcript, Sequence[str]], str]


@dataclass(frozen=True)
class FileResult:
    """What was heard in a recording.

    Attributes:
        content: the text of the answer.
        text: the words.
        audio_s: length of the recording.
        warnings: what the reader should know besides, in a sentence each.
    """

    content: str
    text: str
    audio_s: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Cancel:
    """Nobody waits for a request any more."""


@dataclass(frozen=True)
class Ready:
    """All models are loaded."""


class FailureError(Exception):
    """Why a request has no result. It is no `AsrError`, because it never leaves the server.

    Attributes:
        kind: `audio`: the recording cannot be used; `too_long`; `model`; `defect` of this package; `died`: the worker
            did; `cancelled`: nobody waited any more.
    """

    def __init__(self, kind: str, message: str) -> None:
        """Keep both; an exception with two arguments comes whole through a pipe."""
        super().__init__(kind, message)
        self.kind, self.message = kind, message


class Recognizer(Listens, Protocol):
    """What the recognisers with and without torch have in common, as far as the server uses it."""

    @property
    def sample_rate_hz(self) -> int:
        """The rate at which the model works."""

    def transcribe(
        self,
        audio: Path | NDArray[np.float32],
        *,
        sample_rate_hz: int | None = None,
        hotwords: Iterable[str] = (),
        segment: Segmentation = "vad",
        on_progress: Callable[[float], object] | None = None,
        grammar: Grammar | None = None,
    ) -> Transcript:
        """Transcribe a file or samples."""


@dataclass(frozen=True)
class GrammarRecognizer:
    """A recogniser for which only the texts of a grammar may be said: its functions, which know the grammar."""

    sample_rate_hz: int
    transcribe: Callable[..., Transcript]
    listen: Callable[..., Listening]
    unwritable_hotwords: Callable[[Iterable[str]], Mapping[str, str]]

    @classmethod
    def of(cls, recognizer: Recognizer, grammar: Grammar) -> GrammarRecognizer:
        """Return what a recogniser is within a grammar."""
        return cls(
            recognizer.sample_rate_hz,
            partial(recognizer.transcribe, grammar=grammar),
            partial(recognizer.listen, grammar=grammar),
            recognizer.unwritable_hotwords,
        )


def is_exported(folder: str) -> bool:
    """Return whether `asr export` wrote a folder, so that no torch is needed for it."""
    return (model_folder(folder) / ONNX_DESCRIPTION).is_file()


def load_models(
    models: Sequence[Served], accelerator: Accelerator, threads: int, at_once: int = 1
) -> dict[str, Recognizer]:
    """Return the recogniser of each model by its name.

    Args:
        models: which to load.
        accelerator: for models that run with torch.
        threads: for these, too.
        at_once: number of files at a time; of more than one, what torch computes for them is computed together.

    Raises:
        AsrError: a model cannot be used, or a grammar does not fit it.
    """
    loaded: dict[str, Recognizer] = {}
    for model in models:
        recognizer: Recognizer
        if is_exported(model.folder):
            from asr.runtime import load as load_export

            recognizer = load_export(model.folder)
        else:
            recognizer = _load_with_torch(model.folder, accelerator, threads, at_once)
        loaded[model.name] = recognizer if model.grammar is None else GrammarRecognizer.of(recognizer, model.grammar)
        _warm_up(loaded[model.name])
    return loaded


def _load_with_torch(folder: str, accelerator: Accelerator, threads: int, at_once: int) -> Recognizer:
    from asr.machine import set_library_defaults

    set_library_defaults()
    import torch

    from asr.inference import recognizer
    from asr.inference.joining import JoiningDecoder

    torch.set_num_threads(threads)
    if at_once > 1:
        return recognizer.Recognizer(JoiningDecoder.load(folder, accelerator=accelerator))
    return recognizer.load(folder, accelerator=accelerator)


def _warm_up(recognizer: Recognizer) -> None:
    """Transcribe a second of noise, so that what is read at first use is read, and what is damaged is known."""
    noise = np.random.default_rng(0).normal(0, 0.01, recognizer.sample_rate_hz).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        warnings.simplefilter("ignore", GrammarWarning)  # the first process has given it
        recognizer.transcribe(noise, sample_rate_hz=recognizer.sample_rate_hz, segment="none")


def work(connection: Connection, models: Sequence[Served], accelerator: Accelerator, jobs: int, at_once: int) -> None:
    """Be a worker, one of `jobs`: load the models, then do what comes through the pipe until it ends.

    Files are transcribed `at_once` at a time.
    """
    # Ctrl-C, and SIGTERM of a service manager, reach all processes. The first process ends the others.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    end_with_the_first()
    worker = _Worker(connection)
    try:
        loaded = load_models(models, accelerator, max(1, cores() // jobs), at_once)
    except AsrError as error:
        worker.answer(OF_ALL, error)
        return
    with suppress(EOFError, OSError):  # the pipe ends with the first process
        worker.run(loaded, at_once)


class _Worker:
    """The way between the pipe and the threads that work."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._files: queue.SimpleQueue[tuple[int, FileJob]] = queue.SimpleQueue()
        self._cancelled: set[int] = set()

    def run(self, models: Mapping[str, Recognizer], at_once: int) -> None:
        """Do what comes through the pipe.

        Raises:
            EOFError, OSError: it has ended.
        """
        _hear_warnings()
        for _ in range(at_once):
            threading.Thread(target=self._transcribe_files, args=(models,), daemon=True).start()
        streams = Streams(models, self.answer)
        threading.Thread(target=streams.run, daemon=True).start()
        self.answer(OF_ALL, Ready())
        while True:
            number, message = self._connection.recv()
            match message:
                case FileJob():
                    self._files.put((number, message))
                case Cancel():
                    self._cancelled.add(number)
                case StreamStart() | StreamAudio() | StreamStop():
                    streams.put(number, message)

    def answer(self, number: int, content: object) -> None:
        """Send an answer to a request."""
        with self._sending:
            self._connection.send((number, content))

    def _transcribe_files(self, models: Mapping[str, Recognizer]) -> None:
        while True:
            number, job = self._files.get()

            def look_up(_: float, number: int = number) -> None:
                if number in self._cancelled:
                    raise FailureError("cancelled", "nobody waits for it any more")

            result = transcribed(models[job.model], job, look_up)
            self._cancelled.discard(number)
            with suppress(OSError):  # the first process has ended
                self.answer(number, result)


def transcribed(
    recognizer: Recognizer, job: FileJob, on_progress: Callable[[float], object]
) -> FileResult | FailureError:
    """Return the transcript of a recording, or the reason why there is none, which calls it `job.shown`."""
    _HEARD.warnings = []
    try:
        _require_short(job, on_progress)
        left_out = unusable_hotwords(recognizer, job.hotwords)
        hotwords = [phrase for phrase in job.hotwords if phrase not in left_out]
        transcript = recognizer.transcribe(job.path, hotwords=hotwords, on_progress=on_progress)
        notes = (*left_out.values(), *(_shown(note, job) for note in _HEARD.warnings))
        return FileResult(job.written(transcript, notes), transcript.text, transcript.duration_s, notes)
    except FailureError as error:
        return FailureError(error.kind, _shown(error.message, job))
    except AsrError as error:
        return FailureError("audio" if isinstance(error, AudioError) else "model", _shown(str(error), job))
    except Exception as error:  # a defect that one file in ten thousand shows must not stop the server
        log(defect=traceback.format_exc())
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
        return FailureError("defect", f"{printable(job.shown)}: cannot be transcribed ({where})")


def _require_short(job: FileJob, on_block: Callable[[float], object]) -> None:
    """Refuse a recording that is too long. Where the file does not say its length, it is decoded to its end.

    Args:
        job: the recording.
        on_block: is called with 0 after each block that is decoded.

    Raises:
        AudioError: the file cannot be decoded.
        FailureError: the recording is too long.
    """
    with open_audio(job.path) as stream:
        longest_s = min(job.longest_s, job.longest_s * _MOST_SAMPLES_PER_S / stream.sample_rate_hz / stream.channels)
        seconds = stream.duration_s
        if seconds is None:
            seconds = 0.0
            for block in stream.blocks:
                on_block(0.0)
                seconds += block.shape[1] / stream.sample_rate_hz
                if seconds > longest_s:
                    break
        kind = f" of {stream.channels} channels at {stream.sample_rate_hz} Hz" if longest_s < job.longest_s else ""
    if seconds > longest_s:
        most = f"longer than {longest_s:g} s, which is the most{kind} that this server takes"
        raise FailureError("too_long", f"{job.path}: {most}; cut it into parts")


def _shown(message: str, job: FileJob) -> str:
    """Return a message with the name that the sender gave his file, in place of the server's."""
    name = os.path.basename(job.shown.replace("\\", "/")) or "the file"
    for ours, theirs in ((str(job.path), name), (job.path.name, name), (job.path.stem, Path(name).stem)):
        message = message.replace(ours, theirs)
    return printable(message)


_HEARD = threading.local()  # the warnings about audio of the thread that transcribes


def _hear_warnings() -> None:
    """Keep each thread's warnings about audio for the answer; the module `warnings` knows no threads."""
    show = warnings.showwarning
    warnings.simplefilter("always", AudioWarning)

    def keep(message, category, *place, **more):  # type: ignore[no-untyped-def]
        if issubclass(category, AudioWarning):
            _HEARD.__dict__.setdefault("warnings", []).append(str(message))
        else:
            show(message, category, *place, **more)

    warnings.showwarning = keep
