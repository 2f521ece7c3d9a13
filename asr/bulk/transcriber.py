"""A loaded model and the options of a run → the function that transcribes a file."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from asr.audio.blocks import open_audio
from asr.audio.segment import Segmentation
from asr.bulk.workers import Result, Transcribe
from asr.errors import AsrError, AudioError
from asr.inference.decoder import Search
from asr.inference.recognizer import Recognizer, load
from asr.machine import Accelerator
from asr.model.computation import Precision
from asr.paths import ReadablePath
from asr.transcript.transcript import Transcript

Channels: TypeAlias = Literal["mix", "separate"]
OnProgress: TypeAlias = Callable[[float], object]


@dataclass(frozen=True)
class Options:
    """How files are transcribed: all that changes a transcript, apart from the model.

    Attributes:
        search: method, hotwords, grammar.
        segment: as for `Recognizer.transcribe`.
        channels: mixed down to one transcript, or one transcript of each.
        precision, decode, speaker: as for `asr.load`.
        n_best: as for `Recognizer.transcribe`.
    """

    search: Search
    segment: Segmentation = "vad"
    channels: Channels = "mix"
    precision: Precision = "fp32"
    decode: Mapping[str, Any] = field(default_factory=dict)
    n_best: int = 0
    speaker: str | None = None


def load_transcriber(
    models: Sequence[ReadablePath],
    accelerator: Accelerator,
    options: Options,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> Transcribe:
    """Load the model and return the function that transcribes a file with it.

    Args:
        models: the model folder, or several that work as one.
        accelerator: as for `asr.load`.
        options: how to transcribe.
        threads: processor threads for the network; None leaves the number to torch.
        on_progress: is called with the seconds of audio that were finished since the last call, as far as known.

    Raises:
        AsrError: the model cannot be used. The returned function raises it too, if that shows only with a file.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    recognizer = load(
        models,
        accelerator=accelerator,
        precision=options.precision,
        decode=options.decode,
        speaker=options.speaker,
    )

    def transcribe(path: Path) -> Result:
        try:
            return _transcribed(recognizer, path, options, on_progress)
        except AudioError as error:
            return error
        except AsrError:  # the model's or an option's fault, so that every file has it
            raise
        except Exception as error:  # a defect that one file in ten thousand shows must not stop the others
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(place.filename).name}, line {place.lineno}"
            return AudioError(f"{path}: cannot be transcribed ({type(error).__name__} in {where}: {error})")

    return transcribe


def _transcribed(
    recognizer: Recognizer, path: Path, options: Options, on_progress: OnProgress | None
) -> tuple[Transcript, ...]:
    channels: list[int] | list[None] = [None]  # all, mixed down
    if options.channels == "separate":
        with open_audio(path) as recording:
            channels = list(range(recording.channels))
    return tuple(
        recognizer.transcribe(
            path,
            method=options.search.method,
            hotwords=options.search.hotwords,
            segment=options.segment,
            channel=channel,
            n_best=options.n_best,
            grammar=options.search.grammar,
            on_progress=None if on_progress is None else lambda more_s: on_progress(more_s / len(channels)),
        )
        for channel in channels
    )
