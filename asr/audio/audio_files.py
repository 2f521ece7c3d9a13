"""Files, folders and patterns that a user names → audio files, and where the transcript of each belongs."""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from asr.audio.sound_file import RECORDING_SUFFIXES
from asr.audio.sources import STDIN, is_read_once
from asr.errors import AsrError, AudioError


@dataclass(frozen=True)
class AudioFile:
    """An audio file and its place: its name, below the sub-folders of the folder or pattern in which it was found."""

    path: Path
    place: Path

    @property
    def root(self) -> Path:
        """The folder to which its place is relative."""
        return self.path.parents[len(self.place.parts) - 1]


@dataclass(frozen=True)
class Found:
    """What was found under the names that a user gave.

    Attributes:
        files: the audio files, each once.
        problems: an error for each folder or pattern without audio, and for each file that cannot be read as one.
        passed_over: how many files the folders hold besides, by suffix.
        unfollowed: folders that are links; what is behind them was not searched.
    """

    files: tuple[AudioFile, ...]
    problems: tuple[AudioError, ...]
    passed_over: Mapping[str, int]
    unfollowed: tuple[Path, ...]


def find_audio(arguments: Iterable[Path]) -> Found:
    """Return the audio files that files, folders and patterns lead to.

    A file is taken whatever its suffix. A folder is searched with its sub-folders, in the order of names, for files
    with one of `RECORDING_SUFFIXES`. Any other name with a `*`, `?` or `[` is a pattern. Its `**` matches any number of
    folders, and its matches count as found in the folder before the first such character. Hidden files and folders are
    left out. Neither a folder nor `**` follows a link to a folder, since links may lead back.
    """
    search = _Search()
    files: dict[Path, AudioFile] = {}
    for argument in arguments:
        for file in search.files(argument):
            files.setdefault(file.path.absolute(), file)
    return Found(
        tuple(files.values()), tuple(search.problems), dict(search.passed_over), tuple(dict.fromkeys(search.unfollowed))
    )


def is_one_file(argument: Path) -> bool:
    """Return whether an argument names one file, which need not exist, and neither a folder nor a pattern.

    `-` is standard input, whatever has this name.
    """
    if str(argument) == STDIN:
        return True
    return not argument.is_dir() and (argument.exists() or not glob.has_magic(str(argument)))


def output_paths(files: Iterable[AudioFile], folder: Path | None, suffix: str) -> dict[Path, Path]:
    """Return where the result of each file goes: its place in `folder`, or beside it, with another suffix.

    Raises:
        AsrError: two files have the same output, or an output would replace one of the files.
    """
    targets = {file.path: (file.path if folder is None else folder / file.place).with_suffix(suffix) for file in files}
    sources: dict[Path, Path] = {}
    recordings = {path.absolute(): path for path in targets}
    for path, target in targets.items():
        if (victim := recordings.get(target.absolute())) is not None:
            whose = "its own transcript" if victim == path else f"the transcript of {path}"
            raise AsrError(f"{victim} would be replaced by {whose}; rename it, or choose another folder")
        if (first := sources.setdefault(target.absolute(), path)) is not path:
            raise AsrError(
                f"{first} and {path} would both be written to {target}; "
                "rename one, or transcribe them into different folders"
            )
    return targets


class _Search:
    """Looks up one argument after the other and keeps what is not audio on the way."""

    def __init__(self) -> None:
        self.problems: list[AudioError] = []
        self.passed_over: Counter[str] = Counter()
        self.unfollowed: list[Path] = []

    def files(self, argument: Path) -> list[AudioFile]:
        """Return the files that an argument leads to; the problems with it are kept."""
        if is_read_once(argument):
            return [AudioFile(argument, Path("stdin" if str(argument) == STDIN else argument.name))]
        if is_one_file(argument):
            return [AudioFile(path, Path(path.name)) for path in self._regular([argument])]
        before = len(self.problems)
        if argument.is_dir():
            root, found = argument, list(self._regular(self._audio_below(argument)))
            nothing = f"no audio files in this folder ({' '.join(sorted(RECORDING_SUFFIXES))})"
        else:
            root = Path(*takewhile(lambda part: not glob.has_magic(part), argument.parts))
            matches = set(self._matches(root, argument.parts[len(root.parts) :]))
            found = list(self._regular(sorted(matches, key=str)))
            nothing = "no file matches this pattern"
        if not found and len(self.problems) == before:
            self.problems.append(AudioError(f"{argument}: {nothing}"))
        return [AudioFile(path, path.relative_to(root)) for path in found]

    def _audio_below(self, folder: Path) -> Iterator[Path]:
        for _, files in self._walk(folder):
            for path in files:
                suffix = path.suffix.lower()
                if suffix in RECORDING_SUFFIXES:
                    yield path
                else:
                    self.passed_over[suffix] += 1

    def _matches(self, folder: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        """Yield the files that a pattern matches below a folder; one may come twice."""
        part, rest = parts[0], parts[1:]
        if part == "**":
            for inner, _ in self._walk(folder):
                yield from self._matches(inner, rest or ("*",))
            return
        if glob.has_magic(part):
            folders, files = self._inside(folder)
            found = [path for path in (folders if rest else files) if fnmatch.fnmatch(path.name, part)]
        else:
            found = [path for path in [folder / part] if os.path.exists(path) and os.path.isdir(path) == bool(rest)]
        for path in found:
            if rest:
                yield from self._matches(path, rest)
            else:
                yield path

    def _walk(self, folder: Path) -> Iterator[tuple[Path, list[Path]]]:
        """Yield a folder and all folders in it, each with its files; links to folders are kept apart."""
        waiting = [folder]
        while waiting:
            parent = waiting.pop()
            folders, files = self._inside(parent)
            yield parent, files
            self.unfollowed += [path for path in folders if path.is_symlink()]
            waiting += [path for path in reversed(folders) if not path.is_symlink()]

    def _inside(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Return the folders and the files in a folder, in the order of names, without the hidden ones."""
        folders: list[Path] = []
        files: list[Path] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        is_folder = os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()
                        (folders if is_folder else files).append(folder / entry.name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            self._note(f"{folder}: cannot be searched ({error.strerror})")
        return sorted(folders), sorted(files)

    def _regular(self, paths: Iterable[Path]) -> Iterator[Path]:
        """Yield the paths but for pipes and devices, whose reading may never end; a missing file is yielded too."""
        for path in paths:
            try:
                mode = path.stat().st_mode
            except OSError:
                mode = stat.S_IFREG
            if stat.S_ISFIFO(mode):
                self._note(f"{path}: is a pipe, not a file; `- < {path}` reads it")
            elif not stat.S_ISREG(mode):
                self._note(f"{path}: is a device, not a file")
            else:
                yield path

    def _note(self, problem: str) -> None:
        if problem not in map(str, self.problems):  # a pattern may come twice to a folder
            self.problems.append(AudioError(problem))
