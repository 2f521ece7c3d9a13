"""`asr transcribe`: audio files → transcripts.

`asr transcribe --stream`: text while the audio arrives, a line for each utterance.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from asr.cli.options import Accelerator, DecodeSet, Grammar, Hotword, Method, Speaker
from asr.errors import AudioError, ConfigError, ExitStatus
from asr.files import printable, write_output
from asr.transcript.transcript import FORMATS, STREAMED, format_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from asr.bulk.run import TranscribeReport
    from asr.decoding.streaming import Partial
    from asr.inference.recognizer import Recognizer
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
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", metavar="DIR", help="A further model; they work as one, see asr decode. Repeatable."),
    ] = None,
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
        typer.Option(
            help="vad: cut at pauses and leave silence out; fixed: cut at the quietest point every 15 to 30 s; none: "
            "do not cut. fixed and none keep silence, in which models often hear words."
        ),
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
        Literal["auto", "fp32", "bf16"],
        typer.Option(help="Number format. auto: bf16 if the model was trained in it and it proves faster here."),
    ] = "auto",
    n_best: Annotated[
        int, typer.Option(metavar="N", min=0, help="In json and jsonl: the N best texts, with scores. Default: none.")
    ] = 0,
    method: Method = None,
    hotword: Hotword = None,
    grammar: Grammar = None,
    overrides: DecodeSet = None,
    speaker: Speaker = None,
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
    from asr.audio.audio_files import is_one_file
    from asr.bulk.run import contradictions, transcribe_files
    from asr.cli.console import progress
    from asr.cli.options import decode_settings, hotword_bonuses
    from asr.machine import silent

    several = len(files) > 1 or not is_one_file(Path(files[0]))
    output = _Output(format, several, separate=channels == "separate", in_files=out is not None or beside)
    for argument, reason in contradictions(files, out=out, beside=beside, jobs=jobs, ray=ray, channels=channels):
        raise typer.BadParameter(reason, param_hint="FILE" if argument == "files" else f"--{argument}")
    for option, reason in output.contradictions():
        raise typer.BadParameter(reason, param_hint=option)
    hotwords, settings = hotword_bonuses(hotword), decode_settings(overrides)
    if rate is not None and not stream:
        raise typer.BadParameter("it belongs to --stream", param_hint="--rate")
    if stream:
        other_output = output != _Output("txt", False, separate=False, in_files=False) or n_best
        if other_output or others or jobs or ray or segment != "vad":
            reason = "one model prints the text of one file, cut at pauses; omit --out, --format, --jobs and the like"
            raise typer.BadParameter(reason, param_hint="--stream")
        import asr

        recognizer = asr.load(model, accelerator=accelerator, precision=precision, decode=settings, speaker=speaker)
        print_stream(recognizer, Path(files[0]), rate, method=method, hotwords=hotwords, grammar=grammar)
        return
    report = transcribe_files(
        [model, *(others or ())],
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
        grammar=grammar,
        n_best=n_best,
        decode=settings,
        precision=precision,
        speaker=speaker,
        accelerator=accelerator,
        overwrite=overwrite,
        on_start=_print_start,
        on_result=output.show,
        progress=progress if output.in_files or not several or not sys.stdout.isatty() else silent,
    )
    _print_end(report, several=several)
    if report.skipped:
        raise typer.Exit(ExitStatus.SKIPPED)


@dataclass(frozen=True)
class _Output:
    """How transcripts are shown: their format, and what stands before each on stdout."""

    format: str
    several: bool
    separate: bool
    in_files: bool

    def contradictions(self) -> Iterator[tuple[str, str]]:
        """Yield the option that is missing for this output, with the reason."""
        if not self.in_files and "," in self.format:
            yield "--out or --beside", "needed for several formats"
        elif not self.in_files and (self.several or self.separate) and self.format not in STREAMED:
            yield "--out or --beside", f"needed when several files or channels become {self.format}"

    def show(self, path: Path, result: tuple[Transcript, ...] | AudioError) -> None:
        """Print the transcripts of a file, unless they are in files, or the reason why there are none."""
        if isinstance(result, AudioError):
            _print_skipped(result)
        elif not self.in_files:
            for transcript in result:
                columns = [printable(path)] * self.several + [f"ch{transcript.channel}"] * self.separate
                text = FORMATS[self.format](transcript)
                write_output("\t".join([*columns, text]) if self.format == "txt" else text)


def _print_start(report: TranscribeReport) -> None:
    from asr.cli.console import err

    if report.done_before:
        err.print(f"{report.done_before} of {report.files} files are done already")
    for problem in report.skipped:
        _print_skipped(problem)


def _print_skipped(problem: AudioError) -> None:
    from asr.cli.console import err

    err.print(f"skipped: {printable(str(problem))}")


def _print_end(report: TranscribeReport, *, several: bool) -> None:
    from asr.cli.console import err

    for note in report.notes:
        err.print(printable(note))
    if report.skipped and several:
        err.print(f"{len(report.skipped)} skipped, for the reasons above")


_READ_AHEAD = 100  # blocks; what a recorder sends while the network computes must not get lost
_CLEAR_LINE = "\r\x1b[K"


def print_stream(
    recognizer: Recognizer,
    source: Path,
    rate_hz: int | None,
    *,
    method: Literal["greedy", "beam"] | None = None,
    hotwords: Mapping[str, float] | None = None,
    grammar: Path | None = None,
) -> None:
    """Print the utterances of a file or of standard input as `print_blocks` does.

    Args:
        recognizer: of any kind of model.
        source: a file, or `-` for standard input.
        rate_hz: of raw samples on standard input, see `asr.audio.blocks`; None if there is a header.
        method: search of the final results.
        hotwords, grammar: see `Recognizer.transcribe`.

    Raises:
        AudioError: the audio cannot be read.
        Exit: after Ctrl-C.
    """
    print_blocks(recognizer, *_open(source, rate_hz), method=method, hotwords=hotwords, grammar=grammar)


def print_blocks(
    recognizer: Recognizer,
    sample_rate_hz: int,
    blocks: Iterable[NDArray[np.float32]],
    *,
    method: Literal["greedy", "beam"] | None = None,
    hotwords: Mapping[str, float] | None = None,
    grammar: Path | None = None,
) -> None:
    """Print the utterances of a recording that is still arriving, each as soon as it has ended.

    On a terminal the last line shows the words of the present utterance and changes as more is heard. Ctrl-C ends the
    recording, and what was heard of the present utterance is printed.

    Raises:
        AudioError: the audio cannot be read.
        Exit: after Ctrl-C.
    """
    show = _on_terminal if sys.stdout.isatty() else _in_lines
    with _until_interrupted() as interrupted:
        arriving = _read_ahead(blocks, interrupted)
        for partial in recognizer.stream(
            arriving, sample_rate_hz=sample_rate_hz, method=method, hotwords=hotwords or (), grammar=grammar
        ):
            show(partial, write_output)
    if interrupted.is_set():
        raise typer.Exit(ExitStatus.INTERRUPTED)


def _open(source: Path, rate_hz: int | None) -> tuple[int, Iterator[NDArray[np.float32]]]:
    """Return rate and mono blocks of a file or of standard input."""
    from asr.audio.blocks import open_audio
    from asr.audio.channels import mixed
    from asr.audio.live import live_audio
    from asr.audio.sources import STDIN, open_pipe

    if str(source) == STDIN and sys.stdin is None:
        raise AudioError("standard input is closed")
    descriptor = 0 if str(source) == STDIN else open_pipe(source)
    if descriptor is not None:
        return live_audio(descriptor, rate_hz)
    if rate_hz is not None:
        raise typer.BadParameter("it is for raw samples on standard input (-)", param_hint="--rate")

    def blocks() -> Iterator[NDArray[np.float32]]:
        with open_audio(source) as file:
            yield from mixed(file.blocks, str(source))

    with open_audio(source) as file:
        return file.sample_rate_hz, blocks()


def _on_terminal(partial: Partial, write: Callable[[str], object]) -> None:
    import shutil

    if partial.is_final:
        write(_CLEAR_LINE + (printable(partial.text) + "\n" if partial.text else ""))
    else:  # as much of its end as fits in a line, since only the last line can be written again
        write(_CLEAR_LINE + printable(partial.text)[-(shutil.get_terminal_size().columns - 1) :])


def _in_lines(partial: Partial, write: Callable[[str], object]) -> None:
    if partial.is_final and partial.text:
        write(printable(partial.text) + "\n")


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
