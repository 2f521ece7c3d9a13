"""`asr transcribe --stream`: text while the audio arrives, a line for each utterance."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Literal

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from asr.inference.recognizer import Recognizer
    from asr.inference.stream import Partial

_READ_AHEAD = 100  # blocks: what a recorder sends while the network computes must not get lost
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_CLEAR_LINE = "\r\x1b[K"


def stream(
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
        rate_hz: of raw samples on standard input, see `asr.data.live`; None if a header tells.
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
        for partial in recognizer.stream(arriving, sample_rate=sample_rate_hz, method=method, hotwords=hotwords):
            show(partial, sys.stdout.write)
            sys.stdout.flush()
    if interrupted.is_set():
        raise typer.Exit(_INTERRUPTED)


def _open(source: Path, rate_hz: int | None) -> tuple[int, Iterator[NDArray[np.float32]]]:
    """Return rate and mono blocks of a file or of standard input."""
    from asr.data.audio import mix_down
    from asr.data.blocks import open_audio
    from asr.data.live import live_audio

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
