"""`asr transcribe`: audio files → transcripts.

`asr transcribe --stream`: text while the audio arrives, a line for each utterance.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from asr.cli.options import Accelerator, DecodeSet, Hotword, Method
from asr.errors import AudioError, ConfigError, ExitStatus
from asr.files import printable, write_output
from asr.transcript.transcript import FORMATS, STREAMED, format_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from asr.bulk.run import TranscribeReport
    from asr.inference.recognizer import Recognizer
    from asr.inference.stream import Partial
    from asr.transcript.transcript import Transcript


def _known_formats(names: str) -> str:
    try:
        return ",".join(format_names(names))
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None


def transcribe(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Audio or video files, folders to search for audio, patterns in quotes, or - for stdin.",
        ),
    ],
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Write a file for each recording here, not to stdout.")
    ] = None,
    beside: Annotated[
        bool, typer.Option("--beside", help="Write each transcript beside its audio file, not to stdout.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Transcribe all files anew and replace whatever is in the way.")
    ] = False,
    format: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"{', '.join(FORMATS)}; with --out or --beside also several, e.g. srt,json.",
            callback=_known_formats,
        ),
    ] = "txt",
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Number of worker processes; each loads its own copy of the model."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Use a ray cluster: HOST:PORT, auto for this machine's, or local."),
    ] = None,
    segment: Annotated[
        Literal["vad", "fixed", "none"],
        typer.Option(help="vad: cut at pauses; fixed: cut at the quietest point every 15 to 30 s; none: do not cut."),
    ] = "vad",
    channels: Annotated[
        Literal["mix", "separate"],
        typer.Option(help="mix: one transcript of all channels; separate: one of each, <name>.ch0.srt and so on."),
    ] = "mix",
    stream: Annotated[
        bool, typer.Option("--stream", help="Print each utterance as soon as it ends, of one file or of stdin.")
    ] = False,
    rate: Annotated[
        int | None,
        typer.Option(
            metavar="HZ", min=1, help="With --stream: stdin is raw audio at HZ, signed 16-bit integers of one channel."
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16"], typer.Option(help="bf16 is faster on processors that compute in it, and on GPUs.")
    ] = "fp32",
    method: Method = None,
    hotword: Hotword = None,
    overrides: DecodeSet = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Turn audio files into text.

    The transcript of one file is printed as it is. For several files or a folder, txt prints a line "path<TAB>text" for
    each file, and jsonl one object a line. Other formats need --out or --beside. --out writes each transcript to
    DIR/<name>.<format>, below the sub-folders of the folder or pattern in which its audio was found.

    With --out or --beside an interrupted run resumes: finished transcripts made from the same audio, model and options
    are kept. The file .asr-transcribe.jsonl beside them records what is finished. Any other file is replaced only with
    --overwrite. Two runs cannot write to one folder at once.

    A file that cannot be read is skipped and named on stderr. The exit status is then 2.
    """
    from asr.bulk.audio_files import is_one_file
    from asr.bulk.run import contradictions, transcribe_files
    from asr.cli.console import err
    from asr.cli.options import decode_settings, hotword_bonuses
    from asr.machine import silent

    several = len(files) > 1 or not is_one_file(Path(files[0]))
    separate, in_files, in_parallel = channels == "separate", out is not None or beside, bool(jobs or ray)
    for argument, reason in contradictions(files, out=out, beside=beside, jobs=jobs, ray=ray, channels=channels):
        raise typer.BadParameter(reason, param_hint="FILE" if argument == "files" else f"--{argument}")
    for refused, option, reason in (
        (not in_files and "," in format, "--out or --beside", "needed for several formats"),
        (
            not in_files and (several or separate) and format not in STREAMED,
            "--out or --beside",
            f"needed when several files or channels become {format}",
        ),
        (stream and (several or separate or in_files or in_parallel), "--stream", "it prints what is said in one file"),
        (
            stream and (format, segment) != ("txt", "vad"),
            "--stream",
            "it prints text and finds pauses itself; omit --format and --segment",
        ),
        (rate is not None and not stream, "--rate", "it belongs to --stream"),
    ):
        if refused:
            raise typer.BadParameter(reason, param_hint=option)
    hotwords, settings = hotword_bonuses(hotword), decode_settings(overrides)
    if stream:
        import asr

        recognizer = asr.load(model, accelerator=accelerator, precision=precision, decode=settings)
        print_stream(recognizer, Path(files[0]), rate, method=method, hotwords=hotwords)
        return

    def show(path: Path, result: tuple[Transcript, ...] | AudioError) -> None:
        if isinstance(result, AudioError):
            err.print(f"skipped: {printable(str(result))}")
        elif not in_files:
            _print(path, result, format=format, several=several, separate=separate)

    report = transcribe_files(
        model,
        files,
        out=out,
        beside=beside,
        format=format,
        jobs=jobs,
        ray=ray,
        segment=segment,
        channels=channels,
        method=method,
        hotwords=hotwords,
        decode=settings,
        precision=precision,
        accelerator=accelerator,
        overwrite=overwrite,
        on_start=_print_start,
        on_result=show,
        progress=_progress if in_files or not several or not sys.stdout.isatty() else silent,
    )
    for note in report.notes:
        err.print(printable(note))
    if report.skipped:
        if several:
            err.print(f"\n{len(report.skipped)} skipped:")
            for problem in report.skipped:
                err.print(f"  {printable(str(problem))}")
        raise typer.Exit(ExitStatus.SKIPPED)


def _print_start(report: TranscribeReport) -> None:
    from asr.cli.console import err

    if report.done_before:
        err.print(f"{report.done_before} of {report.files} files are done already")
    for problem in report.skipped:
        err.print(f"skipped: {printable(str(problem))}")


def _print(path: Path, transcripts: Sequence[Transcript], *, format: str, several: bool, separate: bool) -> None:
    for transcript in transcripts:
        columns = [printable(path)] * several + [f"ch{transcript.channel}"] * separate
        write_output("\t".join([*(columns if format == "txt" else []), FORMATS[format](transcript)]))


def _progress(description: str, total: float) -> AbstractContextManager[Callable[[float], object]]:
    from asr.cli.console import clock, progress

    return progress(description, total, clock if description == "transcribe" else str)


_READ_AHEAD = 100  # blocks; what a recorder sends while the network computes must not get lost
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

    On a terminal the last line shows the words of the present utterance and changes as more is heard. Ctrl-C ends the
    recording, and what was heard of the present utterance is printed.

    Args:
        recognizer: of any kind of model.
        source: a file, or `-` for standard input.
        rate_hz: of raw samples on standard input, see `asr.audio.blocks`; None if there is a header.
        method: search of the final results.
        hotwords: see `Recognizer.transcribe`.

    Raises:
        AudioError: the audio cannot be read.
        Exit: after Ctrl-C.
    """
    sample_rate_hz, blocks = _open(source, rate_hz)
    show = _on_terminal if sys.stdout.isatty() else _in_lines
    with _until_interrupted() as interrupted:
        arriving = _read_ahead(blocks, interrupted)
        for partial in recognizer.stream(
            arriving, sample_rate_hz=sample_rate_hz, method=method, hotwords=hotwords or ()
        ):
            show(partial, write_output)
    if interrupted.is_set():
        raise typer.Exit(ExitStatus.INTERRUPTED)


def _open(source: Path, rate_hz: int | None) -> tuple[int, Iterator[NDArray[np.float32]]]:
    """Return rate and mono blocks of a file or of standard input."""
    from asr.audio.blocks import STDIN, live_audio, mix_down, open_audio

    if str(source) == STDIN:
        if sys.stdin is None:
            raise AudioError("standard input is closed")
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
    else:  # as much of its end as fits in a line, since only the last line can be written again
        write(_CLEAR_LINE + partial.text[-(shutil.get_terminal_size().columns - 1) :])


def _in_lines(partial: Partial, write: Callable[[str], object]) -> None:
    if partial.is_final and partial.text:
        write(partial.text + "\n")


@contextmanager
def _until_interrupted() -> Iterator[threading.Event]:
    """Yield an event that the first Ctrl-C sets; the second one interrupts the program as usual."""
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
    """Yield blocks that a thread reads meanwhile, until they end or `stop` is set, even during a read."""
    ready: Queue[NDArray[np.float32] | Exception | None] = Queue(_READ_AHEAD)

    def read() -> None:
        try:
            for block in blocks:
                ready.put(block)
            ready.put(None)
        except Exception as error:  # raised below, where the block is waited for
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
