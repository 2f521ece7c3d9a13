"""Stopping in good order: SIGTERM and SIGINT become a wish that the training loop looks at after each step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class StopRequest:
    """While it is entered, the first SIGTERM or SIGINT only sets `signal_name`; a second SIGINT interrupts at once.

    Slurm sends SIGTERM before it takes a job's machine away, a user presses Ctrl-C: both want the run back later.
    Python lets the main thread alone receive signals; in another one this does nothing.
    """

    def __init__(self) -> None:
        """Nothing is requested yet."""
        self.signal_name = ""
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal_name and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_name = signal.Signals(number).name
