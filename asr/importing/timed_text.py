"""What subtitles, TextGrids and ELAN's files have in common: texts with times, and recordings of the same name.

Such a file belongs to the recording beside it that has its stem. Its texts become utterances, which are parts of that
recording.
"""

from __future__ import annotations

import math
import os
import re
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from asr.audio.sound_file import AUDIO_SUFFIXES, RECORDING_SUFFIXES, audio_files
from asr.corpus.line import MOST_S
from asr.corpus.names import id_from_path, id_of_part, name_in_id
from asr.errors import ManifestError
from asr.importing.material import Material, Utterance
from asr.reading import counted

# Texts of one file that overlap by no more are neighbours whose times are rounded, some to a picture of a video.
OVERLAP_S = 0.05


class TimedText(NamedTuple):
    """A text with the times at which it is said."""

    where: str  # the file and line that hold it
    start_s: float
    end_s: float
    text: str
    speaker: str | None = None
    part: str = ""  # of the file, e.g. the name of a tier; ids contain it


def find_files(source: Path, suffixes: frozenset[str], what: str, material: Material) -> list[Path]:
    """Return the file that `source` is, or the files below it that have one of the suffixes, in the order of names.

    Args:
        source: a file with one of the suffixes, or a folder.
        suffixes: with their dot, in lower case.
        what: what the files are, for errors, e.g. "TextGrid".
        material: gets what cannot be searched.

    Raises:
        ManifestError: the source does not exist, or has no such file.
    """
    names = ", ".join(sorted(suffixes))
    if not source.is_dir():
        if not source.is_file():
            raise ManifestError(f"{source}: no such file or folder; expected a {what} file ({names}) or a folder")
        if source.suffix.lower() not in suffixes:
            raise ManifestError(f"{source}: a {what} file's name ends in {names}")
        return [source]
    found = list(audio_files(source, material.unsearched, suffixes))
    if not found:
        raise ManifestError(f"{source}: no {what} file ({names}) in this folder, nor in its sub-folders")
    return found


class Recordings:
    """Finds the recording of a file of timed text by its stem; each folder is listed once."""

    def __init__(self, source: Path, audio_dir: Path | None) -> None:
        """Look beside the files.

        Args:
            source: the file or folder that is imported.
            audio_dir: where to look instead: in the same sub-folder of this folder, and in the folder itself.
        """
        self._root = source if source.is_dir() else source.parent
        self._audio_dir = audio_dir
        self._listed: dict[Path, dict[str, list[Path]]] = {}

    def of(self, path: Path, stem: str) -> Path | None:
        """Return the recording for a file, or None.

        If several have the stem, audio comes before video, and then the first name.
        """
        for folder in self.folders(path):
            if found := self._recordings(folder).get(stem):
                return min(found, key=lambda path: (path.suffix.lower() not in AUDIO_SUFFIXES, path.name))
        return None

    def of_media(self, path: Path, media: Sequence[Medium]) -> tuple[Path, float]:
        """Return the first recording that a file names and that exists, or else the one of its stem; and its beginning.

        Args:
            path: the file.
            media: what the file says of its recordings; their folder may be another one here.

        Returns:
            The recording, and at how many seconds of it the times of the file begin.

        Raises:
            ManifestError: there is no recording, or it is not known where the times of the file begin in it.
        """
        for medium in media:
            name = urllib.parse.unquote(re.sub(r"^file:/*(?=/|[A-Za-z]:)", "", medium.address)).replace("\\", "/")
            if Path(name).suffix.lower() not in RECORDING_SUFFIXES:
                continue
            beside = [folder / Path(name).name for folder in self.folders(path)]
            for candidate in [*beside, path.parent / name]:
                if os.path.isfile(candidate):  # of any name, also one that no file can have
                    return candidate, medium.begins_s
        recording = self.of(path, path.stem)
        if recording is None:
            raise ManifestError(self.missing(path, path.stem))
        if len(beginnings := {medium.begins_s for medium in media}) > 1:
            raise ManifestError(
                f"{path}: its times begin in each recording elsewhere, but it names none called {recording.name!r}"
            )
        return recording, next(iter(beginnings), 0.0)

    def missing(self, path: Path, stem: str) -> str:
        """Return the reason why a file is left out whose recording was not found."""
        places = " nor ".join(map(str, self.folders(path)))
        way_out = "" if self._audio_dir else "; --audio-dir names another folder"
        return f"no recording {stem}.* (wav, mp3, mp4 or the like) in {places}{way_out}"

    def folders(self, path: Path) -> list[Path]:
        """Return the folders in which a file's recording is looked for."""
        if self._audio_dir is None:
            return [path.parent]
        return list(dict.fromkeys([self._audio_dir / path.parent.relative_to(self._root), self._audio_dir]))

    def place(self, path: Path) -> str:
        """Return a file's path below the source, without suffix, as the beginning of ids."""
        return id_from_path(str(path.relative_to(self._root)))

    def _recordings(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self._listed:
            listed = self._listed[folder] = {}
            try:
                names = os.listdir(folder)
            except OSError:
                names = []
            for name in names:
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in RECORDING_SUFFIXES and not name.startswith("."):
                    listed.setdefault(stem, []).append(folder / name)
        return self._listed[folder]


def add_utterances(
    texts: Iterable[TimedText], recording: Path, place: str, material: Material, language: str | None = None
) -> None:
    """Add the utterances of a recording to the material, and leave out those whose times are impossible.

    An id is `place`, the text's part, and the times in milliseconds.
    """
    for text in texts:
        with material.at(text.where):
            material.utterances.append(_utterance(text, recording, place, language))


def _utterance(text: TimedText, recording: Path, place: str, language: str | None) -> Utterance:
    require_times(text.start_s, text.end_s)
    name = f"{place}-{name_in_id(text.part)}" if text.part else place
    return Utterance(
        id=id_of_part(name, text.start_s, text.end_s),
        audio_path=recording,
        text=text.text,
        where=text.where,
        speaker=text.speaker,
        start_s=text.start_s,
        duration_s=text.end_s - text.start_s,
        language=language,
    )


def require_times(start_s: float, end_s: float) -> None:
    """Refuse times between which nothing can be said.

    Raises:
        ManifestError: they are such.
    """
    if math.isnan(start_s) or math.isnan(end_s):
        raise ManifestError("its times are not known")
    if not 0 <= start_s < end_s <= MOST_S:
        fault = "lasts no time" if start_s == end_s else "ends before it begins" if end_s < start_s else "is impossible"
        raise ManifestError(f"from {start_s:g} s to {end_s:g} s {fault}")


def overlaps(texts: Iterable[TimedText]) -> dict[TimedText, TimedText]:
    """Return each text during which another one is said, with such another one."""
    found: dict[TimedText, TimedText] = {}
    last: TimedText | None = None  # of those so far, the one that ends last
    for text in sorted(texts, key=lambda text: (text.start_s, text.end_s)):
        if last and text.start_s < last.end_s - OVERLAP_S:
            found.setdefault(text, last)
            found.setdefault(last, text)
        if last is None or text.end_s > last.end_s:
            last = text
    return found


class Tier(NamedTuple):
    """A named row of a file, with texts; often what one speaker says."""

    name: str
    texts: list[TimedText]
    speaker: str = ""  # where the file names one
    fault: str = ""  # why it cannot hold utterances


class Medium(NamedTuple):
    """A recording as a file of tiers names it: its path, relative to the file's folder, or its address."""

    address: str
    begins_s: float = 0.0  # where in it the times of the file begin


class TierFile(NamedTuple):
    """What a file of tiers holds."""

    tiers: list[Tier]
    media: tuple[Medium, ...] = ()  # its recordings, best first


def read_tiers(
    source: Path,
    suffixes: frozenset[str],
    what: str,
    names: Sequence[str],
    audio_dir: Path | None,
    read: Callable[[Path], TierFile],
) -> Material:
    """Return what is in the tiers of files, whose recordings are beside them or in another folder.

    A text's speaker is the one that its tier names. If the tier names none, and several tiers are imported, it is the
    tier's name.

    Args:
        source: a file, or a folder of any depth.
        suffixes: of such files.
        what: what they are, for errors.
        names: of the tiers that are imported; none: the only one of each file.
        audio_dir: the folder of the recordings; None: they are beside the files.
        read: returns what a file holds.

    Raises:
        ManifestError: no file has a tier of one of the names.
    """
    material = Material()
    recordings = Recordings(source, audio_dir)
    there_are: set[str] = set()
    during = 0
    for path in find_files(source, suffixes, what, material):
        with material.at(str(path)):
            file = read(path)
            there_are.update(tier.name for tier in file.tiers)
            tiers = _chosen(path, file.tiers, names)
            recording, begins_s = recordings.of_media(path, file.media)
            texts = list(_texts(tiers, begins_s, several=len(names) > 1))
            during += len(overlaps(texts))
            add_utterances(texts, recording, recordings.place(path), material)
    if there_are and (unknown := [name for name in names if name not in there_are]):
        listed = ", ".join(map(repr, sorted(there_are)))
        raise ManifestError(f"{source}: no tier {' or '.join(map(repr, unknown))}; there are: {listed}")
    material.or_refuse(f"{source}: the tiers hold no text")
    material.note_speakers(f"{source}: {_described(names)}")
    if during:
        material.notes.append(f"{counted(during, 'utterance')} said while another one is")
    return material


def _texts(tiers: Sequence[Tier], begins_s: float, *, several: bool) -> Iterator[TimedText]:
    for tier in tiers:
        speaker = tier.speaker or (tier.name if several else None)
        for text in tier.texts:
            start_s, end_s = text.start_s + begins_s, text.end_s + begins_s
            yield text._replace(start_s=start_s, end_s=end_s, speaker=speaker, part=tier.name if several else "")


def _described(names: Sequence[str]) -> str:
    if not names:
        return "the only tier"
    return f"{'tier' if len(names) == 1 else 'tiers'} {', '.join(map(repr, names))}"


def _chosen(path: Path, tiers: Sequence[Tier], names: Sequence[str]) -> list[Tier]:
    """Return the tiers of these names, or the only one.

    Raises:
        ManifestError: none of the names is there, one cannot be used, or nothing is named and there are several tiers.
    """
    usable = [tier for tier in tiers if not tier.fault]
    listed = ", ".join(repr(tier.name) for tier in usable) or "none"
    chosen = [tier for tier in tiers if tier.name in names] if names else usable
    if not chosen:
        raise ManifestError(f"{path}: no tier {' or '.join(map(repr, names)) or 'with times'}; there are: {listed}")
    if not names and len(usable) > 1:
        raise ManifestError(
            f"{path}: which tier holds the texts? --tier names it, or several if repeated; there are: {listed}"
        )
    for place, tier in enumerate(chosen):
        if tier.fault:
            raise ManifestError(f"{path}: tier {tier.name!r} {tier.fault}; there are: {listed}")
        if tier.name in (other.name for other in chosen[:place]):
            raise ManifestError(f"{path}: two tiers have the name {tier.name!r}; rename one")
    return chosen
