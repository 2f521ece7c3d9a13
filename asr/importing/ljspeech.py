"""A folder as LJSpeech has it (metadata.csv without a header, wavs/) → manifests.

Source: keithito.com/LJ-Speech-Dataset.
"""

from __future__ import annotations

import os
from pathlib import Path

from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing.material import Material, Utterance
from asr.importing.utterances import ImportReport, write_splits
from asr.machine import Progress, silent
from asr.reading import read_lines

_AUDIO_FOLDER = "wavs"
_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")  # the published one, and those people convert it to


def import_ljspeech(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    split: SplitRule | None = None,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write the manifests of a folder that is laid out like LJSpeech into the folder `out`.

    Args:
        source: the folder with metadata.csv and wavs/, or such a file. A line is `ID|text|normalised text`, where the
            last may be missing. If it is there, it is the transcript. The audio is wavs/ID.wav.
        out: the folder for train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        split: how splits are drawn; None: dev and test get a tenth each. The format names no speakers, so each
            utterance counts as a speaker of its own.
        language: noted in the manifests, e.g. "en".
        progress: shows how far the import is.

    Raises:
        ManifestError: metadata.csv cannot be read, or nothing is left for training.
    """
    material = read_ljspeech(Path(source))
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_ljspeech(source: Path) -> Material:
    """Return what is in a folder with metadata.csv and wavs/, or in such a metadata.csv.

    Raises:
        ManifestError: metadata.csv cannot be read, or no line can be used.
    """
    path = source / "metadata.csv" if source.is_dir() else source
    material = Material()
    for number, line in enumerate(read_lines(path, ManifestError, "the metadata"), 1):
        if line.strip():
            with material.at(where := f"{path}:{number}"):
                name, text = _fields(line)
                material.utterances.append(Utterance(name, _audio(path.parent, name), text, where))
    material.or_refuse(f"{path}: no utterances; each line is ID|text|normalised text")
    material.notes.append(f"{path}: this format has no place for speakers")
    return material


def _fields(line: str) -> tuple[str, str]:
    """Return the id and the transcript."""
    name, *texts = (field.strip() for field in line.split("|"))
    if not 1 <= len(texts) <= 2:
        raise ManifestError(
            f"{len(texts) + 1} fields, but ID|text|normalised text has 2 or 3; a text holds no | itself"
        )
    if not Path(name).name:
        raise ManifestError(f"{name!r} is no ID, which names the audio file")
    return name, texts[-1] or texts[0]


def _audio(folder: Path, name: str) -> Path:
    """Return the audio file of an ID; the first where it would be, if there is none."""
    paths = [folder / _AUDIO_FOLDER / f"{name}{suffix}" for suffix in _SUFFIXES]
    return next((path for path in paths if os.path.exists(path)), paths[0])
