"""Files, folders and patterns given on the command line → audio files, and where the results of each belong."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from asr.audio.blocks import RECORDING_SUFFIXES
from asr.audio.sound_file import audio_files
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


def find_audio(arguments: Iterable[Path]) -> tuple[list[AudioFile], list[AudioError]]:
    """Return the files to read, each once, and what is wrong with folders and patterns that yield none.

    A file is taken as it is, whatever its suffix. A folder is searched recursively, in the order of names,
    for files with one of `RECORDING_SUFFIXES`; names that begin with a dot are passed over. Anything else with a `*`,
    `?` or `[` is a pattern, in which `**` stands for any folders; what it matches was found in the folder before the
    first.
    """
    files: dict[Path, AudioFile] = {}
    problems: list[AudioError] = []
    for argument in arguments:
        if not argument.is_dir():
            for file in _matches(argument, problems):
                files.setdefault(file.path.absolute(), file)
            continue
        before = len(problems)
        inside = list(_walk(argument, problems))
        if not inside and len(problems) == before:
            known = " ".join(sorted(RECORDING_SUFFIXES))
            problems.append(AudioError(f"{argument}: no audio files in this folder ({known})"))
        for path in inside:
            files.setdefault(path.absolute(), AudioFile(path, path.relative_to(argument)))
    return list(files.values()), problems


def is_one_file(argument: Path) -> bool:
    """Whether an argument names one file, whether or not that is there, and neither a folder nor a pattern."""
    return not argument.is_dir() and (argument.exists() or not glob.has_magic(str(argument)))


def output_paths(files: Iterable[AudioFile], folder: Path | None, suffix: str) -> dict[Path, Path]:
    """Return for each file's path where its result goes: its place in `folder`, or beside it, with another suffix.

    Raises:
        AsrError: two files would be written to the same path, or one onto itself.
    """
    sources: dict[Path, Path] = {}
    targets: dict[Path, Path] = {}
    for file in files:
        target = (file.path if folder is None else folder / file.place).with_suffix(suffix)
        if target.absolute() == file.path.absolute():
            raise AsrError(f"{file.path} would be replaced by its own transcript; rename it, or choose another folder")
        if target.absolute() in sources:
            raise AsrError(
                f"{sources[target.absolute()]} and {file.path} would both be written to {target}; "
                "rename one, or transcribe them into different folders"
            )
        sources[target.absolute()] = file.path
        targets[file.path] = target
    return targets


def _matches(argument: Path, problems: list[AudioError]) -> list[AudioFile]:
    """Return the file itself, or the files that match if it is a pattern, in the order of their names."""
    if is_one_file(argument):
        return [AudioFile(argument, Path("stdin" if str(argument) == "-" else argument.name))]
    literal = takewhile(lambda part: not glob.has_magic(part), argument.parts)
    root = Path(*literal)
    found = [path for path in map(Path, sorted(glob.glob(str(argument), recursive=True))) if path.is_file()]
    if not found:
        problems.append(AudioError(f"{argument}: no file matches this pattern"))
    return [AudioFile(path, path.relative_to(root)) for path in found]


def _walk(folder: Path, problems: list[AudioError]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        problems.append(AudioError(f"{error.filename}: cannot be searched ({error.strerror})"))

    return audio_files(folder, note, RECORDING_SUFFIXES)
