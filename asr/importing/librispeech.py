"""A corpus laid out like LibriSpeech (SPEAKER/CHAPTER/*.trans.txt) → manifests.

Source: openslr.org/12, README.TXT.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from asr.corpus.names import SPLIT_NAMES
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing.material import Material, Utterance
from asr.importing.utterances import ImportReport, write_splits
from asr.machine import Progress, silent
from asr.paths import walk
from asr.reading import read_lines

_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".opus")  # the published one, and those people convert it to


def import_librispeech(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    split: SplitRule | None = None,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write the manifests of a corpus that is laid out like LibriSpeech into the folder `out`.

    Args:
        source: a folder that holds SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt, at any depth. A line is `ID text`. The
            audio is ID.flac beside it. What is in a folder train-…, dev-… or test-… is of that split.
        out: the folder for train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        split: how splits are drawn that the source does not give; None: dev and test get a tenth each, by speaker.
        language: noted in the manifests, e.g. "en".
        progress: shows how far the import is.

    Raises:
        ManifestError: there are no such files, or nothing is left for training.
    """
    material = read_librispeech(Path(source))
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_librispeech(source: Path) -> Material:
    """Return what is in a corpus that is laid out like LibriSpeech.

    Raises:
        ManifestError: there are no *.trans.txt, or no line can be used.
    """
    material = Material()
    below = walk(source, material.unsearched)
    paths = sorted(folder / name for folder, names in below for name in names if name.endswith(".trans.txt"))
    if not paths:
        material.or_refuse(f"{source}: no *.trans.txt, as they are in SPEAKER/CHAPTER/ of LibriSpeech")
    for path in paths:
        speaker, split = path.absolute().parent.parent.name or None, _split(path, source)
        lines: list[str] = []
        with material.at(str(path)):  # which may be no text
            lines = list(read_lines(path, ManifestError, "the transcripts"))
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            with material.at(where := f"{path}:{number}"):
                name, _, text = line.strip().partition(" ")
                audio = _audio(path.parent, name)
                material.utterances.append(Utterance(name, audio, text, where, speaker=speaker, split=split))
    return material.or_refuse(f"{source}: the *.trans.txt in it hold no utterances")


def _split(path: Path, source: Path) -> str | None:
    """Return the split that the nearest folder names, e.g. train-clean-100 or dev; the source is the farthest one."""
    names = [source.absolute().name, *path.relative_to(source).parts[:-1]]
    splits = [SPLIT_NAMES.get(re.split(r"[-_.]", name.lower())[0]) for name in names]
    return next(filter(None, reversed(splits)), None)


def _audio(folder: Path, name: str) -> Path:
    """Return the audio file of an utterance; the one of the published form, if there is none."""
    if "/" in name:
        raise ManifestError(f"{name!r} is no utterance id; each line is an id and its text")
    paths = [folder / f"{name}{suffix}" for suffix in _SUFFIXES]
    return next((path for path in paths if os.path.exists(path)), paths[0])
