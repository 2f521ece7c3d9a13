"""What a user names as audio without transcripts → utterances: those of manifests, or recordings cut at pauses.

A recording is cut by the rule that cuts it for the recogniser (`asr/audio/segment.py`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from asr.audio.audio_files import find_audio
from asr.audio.blocks import audio_blocks
from asr.audio.segment import segments
from asr.corpus.cut_audio import seekable_copies
from asr.corpus.line import require_path
from asr.corpus.manifest import find_split, make_cut, write_manifest
from asr.corpus.names import id_from_path, id_of_part
from asr.errors import AsrError, AudioError
from asr.files import printable
from asr.machine import Progress, cores, in_order, silent

if TYPE_CHECKING:
    from lhotse.cut import Cut

AnyPath: TypeAlias = str | os.PathLike[str]
Times: TypeAlias = tuple[float, float]  # start and end of a part of a recording, in seconds

UTTERANCES = "utterances.jsonl.gz"  # the manifest of cut recordings
_MANIFESTS = (".jsonl", ".jsonl.gz")
_RATE_HZ = 16000  # at which speech is found


@dataclass(frozen=True)
class Untranscribed:
    """Where utterances are whose transcripts do not matter.

    Attributes:
        manifests: manifests and Shar folders, whose utterances belong together.
        dev: the split that is kept apart; None if the data name none.
        left_out: recordings that gave no utterance, each with the reason.
    """

    manifests: tuple[Path, ...]
    dev: Path | None
    left_out: dict[str, str]


def find_untranscribed(
    data: AnyPath | Iterable[AnyPath], folder: Path, *, keep: bool = False, progress: Progress = silent
) -> Untranscribed:
    """Return where the utterances of data folders, manifests and recordings are; recordings are cut first.

    Args:
        data: one or several of these: a data folder, whose splits train and dev are taken; a manifest or a Shar
            folder; an audio or video file; a folder to search for such files, or a pattern.
        folder: gets `utterances.jsonl.gz` with the utterances of recordings. Recordings that can only be decoded from
            their start are copied to `folder`/audio, as FLAC.
        keep: take `utterances.jsonl.gz` as it is if it exists.
        progress: shows how far it is.

    Raises:
        AudioError: a folder or a pattern leads to no recording, or no recording can be used.
        ManifestError: a data folder has no split train.
    """
    paths = [Path(data)] if isinstance(data, str | os.PathLike) else [Path(one) for one in data]
    manifests: list[Path] = []
    dev: Path | None = None
    for path in paths:
        if _is_data_folder(path):
            manifests.append(find_split(path, "train"))
            dev = dev or _split_dev(path)
        elif _is_manifest(path):
            manifests.append(path)
    recordings = [path for path in paths if not _is_data_folder(path) and not _is_manifest(path)]
    left_out: dict[str, str] = {}
    if recordings:
        target = folder / UTTERANCES
        if not (keep and target.is_file()):
            left_out = cut_recordings(recordings, target, progress)
        manifests.append(target)
    return Untranscribed(tuple(manifests), dev, left_out)


def _is_data_folder(path: Path) -> bool:
    return (path / "train.jsonl.gz").is_file() or _is_shar(path / "train")


def _is_manifest(path: Path) -> bool:
    return path.name.endswith(_MANIFESTS) or _is_shar(path)


def _is_shar(path: Path) -> bool:
    return next(path.glob("cuts*.jsonl*"), None) is not None


def _split_dev(path: Path) -> Path | None:
    return find_split(path, "dev") if (path / "dev.jsonl.gz").is_file() or _is_shar(path / "dev") else None


def cut_recordings(data: Iterable[Path], manifest: Path, progress: Progress = silent) -> dict[str, str]:
    """Write a manifest of the stretches of recordings in which somebody speaks; return what was left out, and why.

    Each recording counts as a speaker of its own. Copies are made as `find_untranscribed` says, beside the manifest.

    Raises:
        AudioError: a folder or a pattern leads to no recording, or no recording can be used.
    """
    found = find_audio(data)
    if found.problems:
        raise found.problems[0]
    spoken: dict[Path, list[Times]] = {}
    left_out: dict[str, str] = {}
    with progress("cut", len(found.files)) as advance:
        paths = [file.path for file in found.files]
        for path, times in zip(paths, in_order(_spoken, paths, min(cores(), len(paths))), strict=True):
            if isinstance(times, str) or not times:
                left_out[printable(path)] = times if isinstance(times, str) else "nobody speaks"
            else:
                spoken[path] = times
            advance(1)
    if not spoken:
        first = next(iter(left_out.items()), ("", "there is none"))
        raise AudioError(f"no recording can be used; the first is {first[0]}: {first[1]}")
    copies = seekable_copies([path for path, times in spoken.items() if len(times) > 1], manifest.parent / "audio")
    names = _names({file.path: str(file.place) for file in found.files if file.path in spoken})
    write_manifest(_cuts(spoken, names, copies), manifest)
    return left_out


def _spoken(path: Path) -> list[Times] | str:
    """Return where somebody speaks in a recording, or why it cannot be used."""
    try:
        require_path(os.path.abspath(path))
        return [
            (segment.start / _RATE_HZ, (segment.start + len(segment.waveform)) / _RATE_HZ)
            for segment in segments(audio_blocks(path, _RATE_HZ), _RATE_HZ, name=str(path))
        ]
    except AsrError as error:
        return str(error)


def _names(places: dict[Path, str]) -> dict[Path, str]:
    """Return a name for each recording, by its place; places that occur twice are numbered."""
    count: Counter[str] = Counter()
    names = {}
    for path, place in places.items():
        name = id_from_path(place) or "recording"
        count[name] += 1
        names[path] = name if count[name] == 1 else f"{name}-{count[name]}"
    return names


def _cuts(spoken: dict[Path, list[Times]], names: dict[Path, str], copies: dict[Path, Path]) -> Iterator[Cut]:
    for path, times in spoken.items():
        for start_s, end_s in times:
            name, audio = names[path], copies.get(path, path)
            part = id_of_part(name, start_s, end_s)
            yield make_cut(part, audio, "", name, start_s=start_s, duration_s=end_s - start_s)
