"""A folder of audio files with their transcripts in text files beside them → manifests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from asr.audio.sound_file import RECORDING_SUFFIXES
from asr.corpus.names import id_from_path, top_folder_split
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing.material import LeftOut, Material, Utterance
from asr.importing.utterances import ImportReport, write_splits
from asr.machine import Progress, silent
from asr.paths import walk
from asr.reading import read_text

_TEXT_SUFFIXES = (".txt", ".lab")  # if both are there, the first
_ABOUT = ("readme", "license", "licence", "copying", "changelog")  # texts that are no transcripts


def import_folder(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    speaker_from: Literal["parent", "none"] = "none",
    split: SplitRule | None = None,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write the manifests of a folder of audio files, each with its transcript beside it, into the folder `out`.

    Args:
        source: the folder. The transcript of a.wav is a.txt or a.lab in the same folder, at any depth. Folders train,
            dev (valid) and test (eval) at the top are splits.
        out: the folder for train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        speaker_from: "parent": the speaker is the name of the folder that holds the audio file. "none": no speaker is
            known.
        split: how splits are drawn that the source does not give; None: dev and test get a tenth each, by speaker.
        language: noted in the manifests, e.g. "en".
        progress: shows how far the import is.

    Raises:
        ManifestError: the folder cannot be read, or nothing is left for training.
    """
    material = read_folder(Path(source), speaker_from)
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_folder(source: Path, speaker_from: Literal["parent", "none"] = "none") -> Material:
    """Return what is in a folder of audio files with .txt or .lab files beside them, in the order of names.

    An utterance's id is its path within the folder without the suffix.

    Raises:
        ManifestError: the folder cannot be read, or no utterance can be used.
    """
    if not source.is_dir():
        raise ManifestError(f"{source}: no such folder; expected one with audio files and their .txt or .lab files")
    material = Material()
    for parent, names in walk(source, material.unsearched):
        _read_one(source, parent, names, speaker_from == "parent", material)
    material.or_refuse(f"{source}: no audio files with their .txt or .lab files beside them")
    if speaker_from == "parent":
        material.note_speakers(f"{source}: the path of the audio")
    else:
        material.notes.append(f"{source}: no speakers are taken from it; --speaker-from parent takes folders' names")
    return material


def _read_one(source: Path, folder: Path, names: list[str], parent_speaks: bool, material: Material) -> None:
    """Add what is in one folder."""
    within = folder.relative_to(source).parts
    split = top_folder_split(folder, source)
    named = len(within) > (split is not None)  # whether the folder can be that of a speaker
    audio: list[tuple[str, str]] = []
    texts: dict[str, list[str]] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        if suffix.lower() in RECORDING_SUFFIXES:
            audio.append((stem, name))
        elif suffix.lower() in _TEXT_SUFFIXES:
            texts.setdefault(stem, []).append(name)
    for stem, name in audio:
        found = sorted(texts.get(stem, []), key=lambda text: _TEXT_SUFFIXES.index(os.path.splitext(text)[1].lower()))
        where = str(folder / (found[0] if found else name))
        with material.at(where):
            if not found:
                raise ManifestError(f"no transcript beside it, neither {stem}.txt nor {stem}.lab")
            material.utterances.append(
                Utterance(
                    id=id_from_path("/".join((*within, name))),
                    audio_path=folder / name,
                    text=read_text(Path(where), ManifestError, "the transcript"),
                    where=where,
                    speaker=folder.name if parent_speaks and named else None,
                    split=split,
                )
            )
    heard = {stem for stem, _ in audio}
    for stem, found in texts.items():
        if stem not in heard:
            is_fault = not stem.lower().startswith(_ABOUT)
            material.left_out.append(LeftOut(str(folder / found[0]), "no audio file of this name beside it", is_fault))
