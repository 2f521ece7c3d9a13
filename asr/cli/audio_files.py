"""Files and folders given on the command line → audio files, and where the results of each belong."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.data.audio import AUDIO_SUFFIXES, audio_files
from asr.errors import AsrError, AudioError


@dataclass(frozen=True)
class AudioFile:
    """An audio file and its place: its name, below the sub-folders of the folder in which it was found."""

    path: Path
    place: Path


def find_audio(arguments: Iterable[Path]) -> tuple[list[AudioFile], list[AudioError]]:
    """Return the files to read, each once, and what is wrong with folders that yield none.

    A file is taken as it is, whatever its suffix. A folder is searched recursively, in the order of names,
    for files with one of `AUDIO_SUFFIXES`; names that begin with a dot are passed over.
    """
    files: dict[Path, AudioFile] = {}
    problems: list[AudioError] = []
    for argument in arguments:
        if not argument.is_dir():
            files.setdefault(argument.absolute(), AudioFile(argument, Path(argument.name)))
            continue
        before = len(problems)
        inside = list(_walk(argument, problems))
        if not inside and len(problems) == before:
            known = " ".join(sorted(AUDIO_SUFFIXES))
            problems.append(AudioError(f"{argument}: no audio files in this folder ({known})"))
        for path in inside:
            files.setdefault(path.absolute(), AudioFile(path, path.relative_to(argument)))
    return list(files.values()), problems


def output_paths(files: Iterable[AudioFile], folder: Path, suffix: str) -> dict[Path, Path]:
    """Return for each file's path where its result goes: its place in `folder`, with another suffix.

    Raises:
        AsrError: two files would be written to the same path.
    """
    sources: dict[Path, Path] = {}
    for file in files:
        target = folder / file.place.with_suffix(suffix)
        if target in sources:
            raise AsrError(
                f"{sources[target]} and {file.path} would both be written to {target}; "
                "rename one, or transcribe them into different folders"
            )
        sources[target] = file.path
    return {source: target for target, source in sources.items()}


def printable(path: Path) -> str:
    """Return a path as text; bytes of its name that are not UTF-8 become escapes such as `\\xe9`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _walk(folder: Path, problems: list[AudioError]) -> Iterator[Path]:
    def note(error: OSError) -> None:
        problems.append(AudioError(f"{error.filename}: cannot be searched ({error.strerror})"))

    return audio_files(folder, note)
