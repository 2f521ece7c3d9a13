"""`asr transcribe`: audio files → transcripts.

`asr transcribe --stream`: text while the audio arrives, a line for each utterance.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from asr.cli.options import Accelerator, DecodeSet, Hotword, Method
from asr.transcript.transcript import FORMATS, STREAMED

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    from asr.bulk.audio_files import AudioFile
    from asr.bulk.workers import OnProgress, Options, Result
    from asr.errors import AudioError
    from asr.inference.recognizer import Recognizer
    from asr.inference.stream import Partial
    from asr.transcript.transcript import Transcript

    Put: TypeAlias = Callable[[Path, Sequence[Transcript]], None]

_SOME_SKIPPED = 2


def _known_format(name: str) -> str:
    if name not in FORMATS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(FORMATS)}")
    return name


def transcribe(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Audio or video files, folders to search for audio, patterns in quotes, or - for stdin.",
        ),
    ],
    format: Annotated[str, typer.Option(help=", ".join(FORMATS) + ".", callback=_known_format)] = "txt",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a file for each here, not to stdout.")] = None,
    beside: Annotated[bool, typer.Option("--beside", help="Write each beside its audio file, not to stdout.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do again, and replace, what is there.")] = False,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="So many processes, each with its own copy of the model.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Use a ray cluster: HOST:PORT, auto for this machine's, or local."),
    ] = None,
    segment: Annotated[
        Literal["vad", "fixed", "none"],
        typer.Option(help="Cut where nobody speaks; where it is quiet, every 15 to 30 s; or not."),
    ] = "vad",
    channels: Annotated[
        Literal["mix", "separate"], typer.Option(help="Mix them down, or transcribe each: <name>.ch0.srt and so on.")
    ] = "mix",
    stream: Annotated[
        bool, typer.Option("--stream", help="Print each utterance as soon as it has ended, of one file or of stdin.")
    ] = False,
    rate: Annotated[
        int | None,
        typer.Option(metavar="HZ", min=1, help="With --stream: stdin is raw, signed 16-bit integers of one channel."),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option(help="bf16 is quicker on processors that compute in it, and GPUs.")
    ] = "fp32",
    method: Method = None,
    hotword: Hotword = None,
    overrides: DecodeSet = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Turn audio files into text.

    One file's transcript is printed as it is. Of several files, or of a folder, txt prints a line
    "path<TAB>text" for each, jsonl prints one object a line, and the others need --out or --beside. With --out, each
    file's transcript goes to DIR/<name>.<format>, below the sub-folders of the folder or pattern it was found in.

    With --out or --beside a run that was cut off goes on where it was: what is there, made from the same audio by the
    same model with the same options, is not done again. A file .asr-transcribe.jsonl beside the transcripts records
    that; what it does not know is never replaced without --overwrite. Two runs cannot write to one folder at once.

    A file that cannot be read is skipped and named on stderr. Exit status: 0 all files done, 2 some skipped.
    """
    from asr.bulk.audio_files import find_audio, is_one_file
    from asr.bulk.workers import Options
    from asr.cli.console import err
    from asr.cli.options import decode_settings, hotword_bonuses

    several = len(files) > 1 or not is_one_file(files[0])
    separate, in_files, in_parallel = (
        channels == "separate",
        out is not None or beside,
        jobs is not None or ray is not None,
    )
    for refused, option, reason in (
        (out is not None and beside, "--beside", "it excludes --out"),
        (
            (several or separate) and not in_files and format not in STREAMED,
            "--out or --beside",
            f"needed when several files or channels become {format}",
        ),
        (
            Path("-") in files and (beside or in_parallel or separate),
            "-",
            "standard input goes with none of --beside, --jobs, --ray and --channels separate",
        ),
        (stream and (several or separate or in_files or in_parallel), "--stream", "it prints what is said in one file"),
        (
            stream and (format, segment) != ("txt", "vad"),
            "--stream",
            "it prints text and finds pauses itself; leave --format and --segment away",
        ),
        (rate is not None and not stream, "--rate", "it belongs to --stream"),
    ):
        if refused:
            raise typer.BadParameter(reason, param_hint=option)
    options = Options(method, hotword_bonuses(hotword), segment, channels, precision, decode_settings(overrides))
    if stream:
        _stream(model, accelerator, options, files[0], rate)
        return

    found, skipped = find_audio(files)
    destination: AbstractContextManager[tuple[list[Path], Put]]
    if in_files:
        destination = _files(found, out, format, model, options, overwrite=overwrite)
    else:
        to_stdout = partial(_print, format=format, several=several, separate=separate)
        destination = nullcontext(([file.path for file in found], to_stdout))
    with destination as (paths, put):
        for problem in skipped:
            err.print(f"skipped: {problem}")
        if paths:
            results = partial(_results, model, accelerator, options, paths, jobs, ray, ordered=not in_files)
            skipped += _work_through(paths, results, put, shown=in_files or not several or not sys.stdout.isatty())
    if skipped:
        if several:
            err.print(f"\n{len(skipped)} skipped:")
            for problem in skipped:
                err.print(f"  {problem}")
        raise typer.Exit(_SOME_SKIPPED)


def _stream(model: Path, accelerator: Accelerator, options: Options, source: Path, rate_hz: int | None) -> None:
    import asr

    recognizer = asr.load(model, accelerator=accelerator, precision=options.precision, decode=options.decode)
    print_stream(recognizer, source, rate_hz, method=options.method, hotwords=options.hotwords)


@contextmanager
def _files(
    found: Sequence[AudioFile], out: Path | None, format: str, model: Path, options: Options, *, overwrite: bool
) -> Iterator[tuple[list[Path], Put]]:
    """Yield the files that are not done yet and what writes the transcripts of one, while no other run writes there."""
    import asr
    from asr.bulk import journal
    from asr.bulk.audio_files import output_paths
    from asr.cli.console import err

    outputs = output_paths(found, out, f".{format}")
    with journal.hold([file.root for file in found] if out is None else [out], outputs.values()):
        every = journal.tasks_of(outputs, journal.fingerprint(model, options, asr.__version__))
        tasks = {task.audio: task for task in journal.unfinished(every, overwrite=overwrite)}
        if len(tasks) < len(found):
            err.print(f"{len(found) - len(tasks)} of {len(found)} files are done already")

        def put(path: Path, transcripts: Sequence[Transcript]) -> None:
            output = tasks[path].output
            contents = {}
            for transcript in transcripts:
                channel = "" if transcript.channel is None else f".ch{transcript.channel}"
                contents[output.with_suffix(channel + output.suffix)] = FORMATS[format](transcript)
            journal.finish(tasks[path], contents)

        yield list(tasks), put


def _print(path: Path, transcripts: Sequence[Transcript], *, format: str, several: bool, separate: bool) -> None:
    from asr.files import printable

    for transcript in transcripts:
        columns = [printable(path)] * several + [f"ch{transcript.channel}"] * separate
        typer.echo("\t".join([*(columns if format == "txt" else []), FORMATS[format](transcript)]), nl=False)


def _work_through(
    paths: Sequence[Path], results: Callable[[OnProgress], Iterator[tuple[Path, Result]]], put: Put, *, shown: bool
) -> list[AudioError]:
    """Transcribe the files and put their transcripts where they belong; return what is wrong with the others."""
    from asr.cli.console import clock, err, progress
    from asr.errors import AudioError

    seconds = _durations_s(paths) if shown else {}
    skipped, heard = [], 0.0
    total_s = sum(seconds.values())
    with progress("transcribe", total_s, clock) if total_s else nullcontext(lambda _: None) as advance:

        def on_progress(more_s: float) -> None:
            nonlocal heard
            heard += more_s
            advance(more_s)

        for path, result in results(on_progress):
            try:
                if isinstance(result, AudioError):
                    raise result
                put(path, result)
            except AudioError as error:
                skipped.append(error)
                err.print(f"skipped: {error}")
            advance(seconds.get(path, 0.0) - heard)  # what was not told meanwhile, or too much, since unknown before
            heard = 0.0
    return skipped


def _results(
    model: Path,
    accelerator: Accelerator,
    options: Options,
    paths: Sequence[Path],
    jobs: int | None,
    ray: str | None,
    on_progress: OnProgress,
    *,
    ordered: bool,
) -> Iterator[tuple[Path, Result]]:
    """Yield each file with its result: of this process, of several, or of a cluster."""
    from asr.bulk.workers import in_order, load_transcriber, one_by_one

    load = partial(load_transcriber, model, accelerator, options)
    if ray is not None:
        from asr.bulk.cluster import on_ray

        results = on_ray(partial(load, threads=1), paths, ray, jobs, gpu=accelerator == "cuda")
    elif jobs is not None and jobs > 1:
        from asr.bulk.processes import in_processes
        from asr.machine import cores

        results = in_processes(partial(load, threads=max(1, cores() // jobs)), paths, jobs)
    else:
        results = one_by_one(partial(load, on_progress=on_progress), paths)
    return in_order(paths, results) if ordered else results


def _durations_s(paths: Sequence[Path]) -> dict[Path, float]:
    """Return how long the files last that say so."""
    from contextlib import suppress

    from asr.audio.blocks import STDIN, open_audio
    from asr.cli.console import progress
    from asr.errors import AudioError

    seconds = {}
    with progress("look through", len(paths)) as advance:
        for path in paths:
            with suppress(AudioError):  # what is wrong, transcribing it will tell
                if str(path) != STDIN:
                    with open_audio(path) as recording:
                        seconds[path] = recording.duration_s or 0.0
            advance(1)
    return seconds


_READ_AHEAD = 100  # blocks: what a recorder sends while the network computes must not get lost
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_CLEAR_LINE = "\r\x1b[K"


def print_stream(
    recognizer: Recognizer,
    source: Path,
    rate_hz: int | None,
    *,
    method: Literal["greedy", "beam"] | None = None,
    hotwords: Mapping[str, float] | None = None,
) -> None:
    """Print the utterances of a recording that is still arriving, each as soon as it has ended.

    On a terminal the words of the present utterance stand in the last line and change as more is heard. Ctrl-C ends the
    recording: the utterance that is being spoken is printed as far as it has come.

    Args:
        recognizer: of any kind of model.
        source: a file, or `-` for standard input.
        rate_hz: of raw samples on standard input, see `asr.audio.blocks`; None if a header tells.
        method: search of the final results.
        hotwords: see `Recognizer.transcribe`.

    Raises:
        AudioError: the audio cannot be read.
        Exit: with status 130 after Ctrl-C.
    """
    import sys

    sample_rate_hz, blocks = _open(source, rate_hz)
    show = _on_terminal if sys.stdout.isatty() else _in_lines
    with _until_interrupted() as interrupted:
        arriving = _read_ahead(blocks, interrupted)
        for partial in recognizer.stream(
            arriving, sample_rate_hz=sample_rate_hz, method=method, hotwords=hotwords or ()
        ):
            show(partial, sys.stdout.write)
            sys.stdout.flush()
    if interrupted.is_set():
        raise typer.Exit(_INTERRUPTED)


def _open(source: Path, rate_hz: int | None) -> tuple[int, Iterator[NDArray[np.float32]]]:
    """Return rate and mono blocks of a file or of standard input."""
    from asr.audio.blocks import live_audio, mix_down, open_audio

    if str(source) == "-":
        return live_audio(0, rate_hz)
    if rate_hz is not None:
        raise typer.BadParameter("it is for raw samples on standard input (-)", param_hint="--rate")

    def blocks() -> Iterator[NDArray[np.float32]]:
        with open_audio(source) as file:
            yield from map(mix_down, file.blocks)

    with open_audio(source) as file:
        return file.sample_rate_hz, blocks()


def _on_terminal(partial: Partial, write: Callable[[str], object]) -> None:
    import shutil

    if partial.is_final:
        write(_CLEAR_LINE + (partial.text + "\n" if partial.text else ""))
    else:  # one line's worth of its end, since no line but the last can be written again
        write(_CLEAR_LINE + partial.text[-(shutil.get_terminal_size().columns - 1) :])


def _in_lines(partial: Partial, write: Callable[[str], object]) -> None:
    if partial.is_final and partial.text:
        write(partial.text + "\n")


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """Set the event at the first Ctrl-C; the second one does what it always does."""
    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _read_ahead(blocks: Iterable[NDArray[np.float32]], stop: threading.Event) -> Iterator[NDArray[np.float32]]:
    """Yield blocks that a thread reads meanwhile, until they end or `stop` is set, even in the middle of a read."""
    ready: Queue[NDArray[np.float32] | Exception | None] = Queue(_READ_AHEAD)

    def read() -> None:
        try:
            for block in blocks:
                ready.put(block)
            ready.put(None)
        except Exception as error:  # told to the one who waits for the block
            ready.put(error)

    threading.Thread(target=read, daemon=True).start()
    while not stop.is_set():
        try:
            block = ready.get(timeout=0.1)
        except Empty:
            continue
        if block is None:
            return
        if isinstance(block, Exception):
            raise block
        yield block
