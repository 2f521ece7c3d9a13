"""The consoles that every command prints to, and the progress of long work.

Text is printed as it is: a path such as `talk[1].wav` or `:mic:.wav` is neither markup nor an emoji, and long lines are
not broken. What would control a terminal is shown as an escape. Use `style=` or a `rich.text.Text` for colour.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from rich.console import Console
from rich.style import Style
from rich.text import Text

from asr.files import printable_lines


class _Console(Console):
    """Prints lines of text, and nothing that text says beyond its characters."""

    def render_str(self, text: str, *, style: str | Style = "", **_: Any) -> Text:
        """Return a text as it is, without markup and emoji; only line ends have an effect."""
        return Text(printable_lines(text), style=style)


out = _Console(soft_wrap=True)
err = _Console(soft_wrap=True, stderr=True)

QUIET_S = 2.0  # shorter work shows no progress
LINE_EVERY_S = 10.0  # between two lines, where there is no terminal
# The time left is shown once this share is done. Before, it would be wrong: the first item often waits for a model.
TELLING_SHARE = 0.05


@contextmanager
def progress(description: str, total: float) -> Iterator[Callable[[float], None]]:
    """Show on stderr how far a loop is: `with progress("decode", total=n) as advance: advance(k)`.

    A terminal shows a bar with the time left, which is removed at the end. A log file or a pipe gets a line every 10 s
    and one at the end. Work of less than 2 s shows nothing.

    Args:
        description: what is being done, e.g. "decode".
        total: number of items if it is an int, of seconds if it is a float. Seconds are shown as on a clock.

    Yields:
        A function to call with the number of items that were just finished.
    """
    written = clock if isinstance(total, float) else str
    with (_bar if err.is_terminal else _lines)(description, total, written) as advance:
        yield advance


@contextmanager
def _bar(description: str, total: float, written: Callable[[float], str]) -> Iterator[Callable[[float], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[done]}", markup=False),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        redirect_stdout=False,  # stdout may carry the results into a pipe
    )
    done: float = 0
    task = bar.add_task(description, total=total, done=f"{written(done)}/{written(total)}")

    def advance(items: float) -> None:
        nonlocal done
        done += items
        bar.update(task, completed=done, done=f"{written(done)}/{written(total)}")

    timer = threading.Timer(QUIET_S, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield advance
    finally:
        timer.cancel()
        timer.join()  # or it could start the bar after the end
        bar.stop()


@contextmanager
def _lines(description: str, total: float, written: Callable[[float], str]) -> Iterator[Callable[[float], None]]:
    start = last_line = monotonic()
    done: float = 0

    def advance(items: float) -> None:
        nonlocal done, last_line
        done += items
        now = monotonic()
        if now - last_line >= LINE_EVERY_S and 0 < done < total:
            last_line = now
            times = clock(now - start)
            if done >= TELLING_SHARE * total:
                times += f", {clock((now - start) / done * (total - done))} left"
            err.print(f"{description}: {written(done)}/{written(total)} ({100 * done // total:.0f} %), {times}")

    try:
        yield advance
    finally:
        if monotonic() - start >= QUIET_S:
            err.print(f"{description}: {written(done)}/{written(total)}, {clock(monotonic() - start)}")


def clock(seconds: float) -> str:
    """Return e.g. 1:02:03, or 2:03 below an hour."""
    minutes, whole_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{whole_s:02d}" if hours else f"{minutes}:{whole_s:02d}"
