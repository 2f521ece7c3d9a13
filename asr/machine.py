"""What this machine offers: processor cores, a GPU, processes, torchaudio's extension."""

from __future__ import annotations

import codecs
import ctypes
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from types import FrameType, ModuleType, TracebackType
from typing import Literal, TypeAlias, TypeVar

from asr.errors import AsrError, DependencyError, DeviceError, ExitStatus

# Shows how far long work is: `with progress("decode", total) as advance: advance(1)`. Commands draw a bar. A total that
# is an int is a number of items, a float is a number of seconds.
Progress: TypeAlias = Callable[[str, float], AbstractContextManager[Callable[[float], object]]]

Item = TypeVar("Item")
Result = TypeVar("Result")

Accelerator: TypeAlias = Literal["auto", "cpu", "cuda"]


def silent(description: str, total: float) -> AbstractContextManager[Callable[[float], object]]:
    """Show no progress: the `Progress` of functions that are called without one."""
    return nullcontext(lambda _: None)


def set_library_defaults() -> None:
    """Set what torch's libraries read from the environment when they start; what the user has set stays.

    * OpenMP's threads sleep while they wait for each other. By default they spin, and at each time step of a recurrent
      layer the threads wait. If another process needs a core, everything takes 5 to 50 times as long
      (`benchmarks/threads.py`).
    * oneDNN keeps 64 compiled kernels, not 1024. Speech has a new shape in almost every batch, so a kernel is rarely
      used again, and after a hundred epochs the kernels took half of the memory.

    The commands and the public names of `asr` call this before torch is loaded. It has no effect afterwards.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache_folder() -> Path:
    """Return the folder for what this package may keep for the user and can find out anew; it may not exist.

    Source: XDG Base Directory Specification 0.8.

    Raises:
        RuntimeError: the user has no home folder.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".cache") / "asr"


def processor_name() -> str:
    """Return the processor's name as the system gives it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def end_with_the_first() -> None:
    """Let this process, which another started, end when that one does, whatever either is doing then."""
    first = multiprocessing.parent_process()
    assert first is not None, "nobody started this process"

    def wait_and_end() -> None:
        first.join()
        os._exit(1)

    threading.Thread(target=wait_and_end, daemon=True).start()


def in_order(work: Callable[[Item], Result], items: Iterable[Item], processes: int) -> Iterator[Result]:
    """Yield what `work` returns of each item, in their order, computed by processes of this machine.

    A few items wait at a time, so memory does not grow with their number. With one process, this one does the work.

    Args:
        work: a function of a module, so that processes find it.
        items: the items.
        processes: how many.

    Raises:
        AsrError: a process was killed.
        Exception: what `work` raises.
    """
    if processes <= 1:
        yield from map(work, items)
        return
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # A fork shares the libraries in memory. Where it is not safe, each process loads its own.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    waiting: deque[Future[Result]] = deque()
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_serve) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 4 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise AsrError("a worker process was killed, perhaps because the memory was full") from None
        finally:
            for future in waiting:
                future.cancel()


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process, which ends the others
    end_with_the_first()


@cache
def one_thread_after_forks() -> None:
    """Let each process that is forked from this one compute with one thread of torch.

    A fork copies OpenMP's list of threads, but not the threads. With more than one, the copy would wait for them for
    ever.
    """
    import torch

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@contextmanager
def large_blocks_returned() -> Iterator[None]:
    """Let the C library return large blocks of memory to the system as soon as they are freed, within `with`.

    glibc keeps freed blocks of up to 32 MB, because it learns that they come again. Each batch of a long recording has
    another length, so they leave holes that the next ones do not fill: 300 MB in three hours. A block that is returned
    costs time when the next one comes, so training, which has larger memory anyway, does without.
    """
    allocator = _allocator()
    if allocator is None:
        yield
        return
    allocator.mallopt(_MMAP_THRESHOLD, 2 << 20)
    try:
        yield
    finally:
        allocator.mallopt(_MMAP_THRESHOLD, 32 << 20)


_MMAP_THRESHOLD = -3  # of malloc.h


@cache
def _allocator() -> ctypes.CDLL | None:
    """Return the C library if it is glibc, and the user has not set its thresholds himself."""
    if platform.libc_ver()[0] != "glibc":
        return None
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return None
    return ctypes.CDLL(None)


def choose_accelerator(wished: str) -> str:
    """Return `cuda` or `cpu`; `auto` takes a GPU if there is one.

    Raises:
        DeviceError: `cuda` is asked for and there is none, or there is no accelerator of that name.
    """
    import torch

    if wished not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"accelerator {wished!r}: auto, cpu or cuda")
    available = torch.cuda.is_available()
    if wished == "cuda" and not available:
        raise DeviceError("accelerator cuda: torch sees no CUDA device; check the driver, or use auto or cpu")
    return "cuda" if available and wished != "cpu" else "cpu"


def torchaudio_functional() -> ModuleType:
    """Return `torchaudio.functional`.

    Raises:
        DependencyError: torchaudio's extension does not load beside the installed torch.
    """
    try:
        import torchaudio.functional
    except OSError as error:
        raise DependencyError(
            f"torchaudio does not load beside the installed torch ({error}). PyPI's torchaudio needs PyPI's torch, "
            "not a CPU-only build of it; `pip install --force-reinstall torch torchaudio` installs both from one place"
        ) from error
    functional: ModuleType = torchaudio.functional
    return functional


class LoggedCommands:
    """Runs commands, shows what they print while they print it, and writes it to a log.

    The log has no colours. Of a line that a progress bar draws many times over, it keeps what was seen last.
    """

    _CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
    _LINE_ABOVE = "\x1b[1A"  # what rich sends to remove a finished bar
    _MOST_CHARACTERS = 1 << 16

    def __init__(
        self, log: Path, show: Callable[[str], object], *, append: bool = False, terminal: bool = False
    ) -> None:
        """Write to `log` and call `show` with each piece of text.

        Args:
            log: the log file.
            show: called with what is printed, piece by piece.
            append: keep what the log holds already.
            terminal: whether `show` shows on a terminal, so that commands draw colours and progress bars.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        self._file = log.open("ab" if append else "wb", buffering=0)
        self._show = show
        self._environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        if terminal:
            self._environment["FORCE_COLOR"] = "1"
        self._line = ""
        self._last_line_at = self._file.tell()

    def __enter__(self) -> LoggedCommands:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._line:
            self.log("\n")
        self._file.close()

    def run(self, command: Sequence[str]) -> int:
        """Run a command to its end and return its exit status; 128 + N if signal N ended it.

        While it runs, SIGTERM is passed on to it. Ctrl-C reaches it from the terminal. This process outlives both, so
        that it can see how the command ended, and then does what the signal asks for, unless the status is `STOPPED`.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed, and the command did not end with `STOPPED`.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with (
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self._environment
            ) as process,
            _Signals(process) as signals,
        ):
            assert process.stdout is not None
            try:
                while block := os.read(process.stdout.fileno(), 1 << 16):
                    self.print(decoder.decode(block))
            except BaseException:  # of `show`: nobody would read what the command prints
                process.terminate()
                raise
            status = process.wait()
        if signals.received and status != ExitStatus.STOPPED:
            signal.raise_signal(signals.received)
        return status if status >= 0 else 128 - status

    def print(self, text: str) -> None:
        """Show text and log it."""
        self._show(text)
        self.log(text)

    def log(self, text: str) -> None:
        """Log text without showing it."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            if self._LINE_ABOVE in line:
                self._file.truncate(self._last_line_at)
                self._file.seek(self._last_line_at)
            self._last_line_at = self._file.tell()
            seen = self._CONTROL.sub("", line.rstrip("\r").rpartition("\r")[2])
            if seen or not line:
                self._file.write(f"{seen}\n".encode())
        if len(self._line) > self._MOST_CHARACTERS:
            self._line = self._line[self._line.rfind("\r") + 1 :]


class _Signals:
    """While entered: SIGTERM is passed on to a process, and neither it nor SIGINT does anything else here.

    Python lets only the main thread receive signals. In another thread this does nothing.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.received = 0
        self._process = process
        self._previous: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> _Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:  # as in a shell's background job
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        if number == signal.SIGTERM:
            self._process.send_signal(signal.SIGTERM)


def duration(seconds: float) -> str:
    """Return e.g. "29 s" or "4 min 32 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
