"""What every training run needs around its steps: a folder of its own and an end in good order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType

from filelock import FileLock, Timeout

from asr.bundle.files import CHECKPOINTS
from asr.errors import TrainingError

LOCK = "lock"  # in the folder of the checkpoints


@contextmanager
def only_run_in(out: Path) -> Iterator[None]:
    """Keep other training runs out of the folder `out` until the `with` statement ends.

    The operating system holds the lock for this process. A run that died, however it died, keeps nobody out.

    Raises:
        TrainingError: another run is at work there, or the folder cannot be written.
    """
    folder = out / CHECKPOINTS
    lock = FileLock(folder / LOCK, thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise TrainingError(
            f"{out}: another training run is at work there; wait until it ends, or choose another --out"
        ) from None
    except NotImplementedError:  # a file system without locks, as some clusters have
        pass
    except OSError as error:
        raise TrainingError(f"{folder}: cannot write there ({error.strerror}); choose another --out") from None
    try:
        yield
    finally:
        lock.release()


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
