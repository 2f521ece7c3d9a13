"""Files: written whole or not at all, appended to line by line.

Writing goes to a temporary file beside the target, which is synced and renamed. A process that is killed leaves its
temporary file behind; the next process of this machine that writes to the folder removes it.

`printable` makes users' text fit to be shown.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import time
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from asr.errors import AsrError, AudioWarning, FontWarning, GrammarWarning, ModelWarning

# File systems allow names of 255 bytes; a temporary name is longer than its target's, of which it keeps this much.
_TARGET_BYTES = 200

_HELD_OPEN = (5, 32)  # Windows' errors "access denied" and "sharing violation"
_WAITS_S = (0.01, 0.04, 0.15, 0.3, 0.5, 1.0)


def to_json(content: Any, *, indent: int | None = None) -> str:
    """Return figures as JSON. NaN and infinite numbers become null, because JSON has none.

    Its characters are those of `visible_json`.
    """
    return visible_json(json.dumps(_finite(content), ensure_ascii=False, allow_nan=False, indent=indent))


def visible_json(text: str) -> str:
    """Return JSON in which all characters can be seen, or are line ends or escapes, and UTF-8 can encode them."""
    return text if text.isprintable() else _JSON_ESCAPED.sub(lambda match: json.dumps(match[0])[1:-1], text)


# What JSON leaves as it is, but a terminal or who splits text into lines does not. Indentation has the line ends.
_JSON_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced and renamed to `path`, on failure removed.

    The temporary name keeps the suffixes, because writers choose formats by them. The file gets the permissions of any
    new file, also where a writer (safetensors) keeps it to its owner.

    Raises:
        OSError: the file cannot be written; the error names `path`.
        AsrError: the path is a device, a pipe or a folder, which a file would replace.
    """
    _check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with _naming(path):
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            replace_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def replace_file(source: Path, target: Path) -> None:
    """Rename a file, and replace what has the new name.

    Windows refuses this while another program has one of the files open: a virus scanner, an indexer, a reader. Most of
    them are done within a moment, so this tries again for two seconds.

    Raises:
        OSError: it cannot be renamed.
    """
    for wait_s in (*_WAITS_S, None):
        try:
            os.replace(source, target)
            return
        except PermissionError as error:
            if wait_s is None or getattr(error, "winerror", None) not in _HELD_OPEN:
                raise
            time.sleep(wait_s)


def _check_replaceable(path: Path) -> None:
    """Refuse a path that is no file: renaming would put a file in the place of /dev/null.

    Raises:
        AsrError: it is a device, a pipe or a folder, which a file would replace.
    """
    with suppress(OSError):  # it does not exist, or writing will say what is wrong
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
            raise AsrError(f"{path}: is {what}, not a file; choose another name")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let errors of the system name a path, where they name a temporary one beside it, or none as on a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is not None and _prefix() not in os.fspath(error.filename)):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


@contextmanager
def complete_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; on success it is synced and renamed, on failure removed.

    Raises:
        OSError: it cannot be written; the error names `folder`.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(folder)
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had this one's number
    try:
        with _naming(folder):
            temporary.mkdir()
            yield temporary
            for path in filter(Path.is_file, temporary.rglob("*")):
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
            replace_file(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync_folder(folder.parent)


def ignores_capitals(existing: Path) -> bool:
    """Return whether the file system finds a file also by its name in other capitals, as macOS and Windows do."""
    with suppress(OSError):
        return os.path.samefile(existing, existing.with_name(existing.name.swapcase()))
    return False


def without_capitals(name: str | os.PathLike[str]) -> str:
    """Return what names have in common that are one to a file system that ignores capitals and forms of accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", os.fspath(name)).lower())


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")  # on Windows too: sizes and checksums are the same


def append_line(path: Path, line: str) -> None:
    """Add a line of UTF-8 text to a file, which is made if it does not exist, and sync it.

    If a power failure cut the last line short, that line is ended first, so the new line stands by itself.
    """
    with path.open("ab+") as file:
        size = file.tell()
        file.seek(max(0, size - 1))
        cut_short = size > 0 and file.read(1) != b"\n"
        file.write(f"{chr(10) * cut_short}{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())
    if size == 0:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(target: Path) -> Path:
    """Return this process's temporary path beside a target; what killed processes left in that folder is removed."""
    _remove_leftovers(os.path.abspath(target.parent))
    name = target.name
    while len(os.fsencode(name)) > _TARGET_BYTES:
        name = name[1:]
    return target.with_name(f"{_prefix()}{os.getpid()}.{name}")


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder in the system's temporary folder, for this user only; it is removed at the end.

    What killed processes left there is removed first.
    """
    place = tempfile.gettempdir()
    _remove_leftovers(os.path.abspath(place))
    with tempfile.TemporaryDirectory(prefix=f"{_prefix()}{os.getpid()}.", dir=place) as folder:
        yield Path(folder)


@cache
def _prefix() -> str:
    """Return how names of temporary files begin here.

    Machines may share the folder, and a container has process numbers of its own, also under its host's name.
    """
    place = platform.node()
    with suppress(OSError):
        place += os.readlink("/proc/self/ns/pid")
    return f".asr-{hashlib.blake2b(place.encode(), digest_size=4).hexdigest()}-"


@cache  # once a process: bulk transcription writes very many files into one folder
def _remove_leftovers(folder: str) -> None:
    """Remove temporary files and folders whose process ran on this machine and has ended.

    If another process has got the same number since, its file is kept. On Windows all are kept, because asking
    whether a process lives would end it there.
    """
    if os.name != "posix":
        return
    ours = re.compile(re.escape(_prefix()) + r"(\d{1,9})\.")
    with suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            match = ours.match(entry.name)
            if match is None or _lives(int(match[1])):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


class _StandardOutput(io.TextIOWrapper):
    """Standard output, which says by name that it cannot be written."""

    def write(self, text: str) -> int:
        """Write text.

        Raises:
            AsrError: it cannot be written, because the disk is full or nobody opened it.
            BrokenPipeError: the program that reads it has ended.
        """
        if text == "":  # some libraries try a stream with an empty text, and drop the error
            return 0
        with self._named():
            return super().write(text)

    def flush(self) -> None:
        """Write what is buffered; errors are those of `write`."""
        with self._named():
            super().flush()

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Python would try again when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(error, BrokenPipeError):
                raise
            reason = "is closed" if error.errno == errno.EBADF else f"cannot be written ({error.strerror})"
            raise AsrError(f"standard output {reason}") from None


class _StandardErrors(io.TextIOWrapper):
    """Standard errors. What cannot be written is dropped: no result depends on a message."""

    def write(self, text: str) -> int:
        """Write text."""
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with suppress(OSError):
            super().flush()


def set_up_streams() -> None:
    """Let standard output be UTF-8 in a file or a pipe, whatever the locale is; a terminal keeps its encoding.

    A character that the encoding does not have becomes an escape. Errors of standard output are those of
    `_StandardOutput`. What cannot be written to standard errors is dropped. The numbers of closed streams are taken, or
    a file that is opened later would get one, and with it what libraries print.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)  # it gets the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (it stays open)
    elif type(sys.stderr) is io.TextIOWrapper:
        encoding = sys.stderr.encoding
        sys.stderr = _StandardErrors(sys.stderr.detach(), encoding, "backslashreplace", line_buffering=True)
    if sys.stdout is None:
        sys.stdout = _StandardOutput(open(1, "wb", closefd=False), encoding="utf-8")  # noqa: SIM115
    elif type(sys.stdout) is io.TextIOWrapper:
        terminal, at_once = sys.stdout.isatty(), sys.stdout.write_through
        encoding = sys.stdout.encoding if terminal else "utf-8"
        sys.stdout = _StandardOutput(
            sys.stdout.detach(), encoding, "backslashreplace", line_buffering=terminal, write_through=at_once
        )


def show_notes() -> None:
    """Let each warning about audio, fonts or models be a line on stderr, without the place in the code."""
    warnings.formatwarning = _note


_place_in_code = warnings.formatwarning


def _note(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    if issubclass(category, (AudioWarning, FontWarning, GrammarWarning, ModelWarning)):
        return f"note: {printable(str(message))}\n"
    return _place_in_code(message, category, filename, lineno, line)


def write_output(text: str) -> None:
    """Write text to standard output at once; its errors are those of `_StandardOutput`."""
    sys.stdout.write(text)
    sys.stdout.flush()


# Characters that reorder the text after them, so that a line can say another thing than it holds.
_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str | os.PathLike[str]) -> str:
    """Return users' text, or a path, as one line that shows all of it and does nothing to a terminal.

    Control characters (line breaks, tabs, escape sequences), line separators and characters that reorder text become
    escapes such as `\\x1b` and `\\n`; so do the bytes of a path that are not UTF-8.
    """
    text = os.fspath(text)
    if text.isprintable():
        return text
    with suppress(UnicodeError):  # a locale without UTF-8 tore the characters of a name into bytes
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    return "".join(map(_visible, text))


def printable_lines(text: str) -> str:
    """Return text as `printable` shows it, but with its line ends."""
    return "\n".join(map(printable, text.split("\n")))


def _visible(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _REORDERING:
        return character.encode("unicode_escape").decode()
    return character


def shown_path(path: Path) -> Path:
    """Return a path as a reader would write it: relative, if it is below the working directory."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
