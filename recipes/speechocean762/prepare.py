"""speechocean762: Mandarin speakers, half of them children, reading English sentences. Corpus → manifests."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from asr.errors import ManifestError
from asr.importing.kaldi import read_kaldi
from asr.preparing.download import RemoteFile
from asr.preparing.recipes import Corpus, CorpusRequest, write_published
from asr.reading import read_lines

CORPUS = Corpus(
    recipe="speechocean762",
    title="speechocean762",
    source=(
        "get it with `git clone https://github.com/jimbozhang/speechocean762`, or from OpenSLR, resource 101 "
        "(openslr.org/101),"
    ),
    files=(RemoteFile("https://www.openslr.org/resources/101/speechocean762.tar.gz"),),
)
DEV_SPEAKERS_OF_A_GROUP = 4
YOUNGEST_ADULT = 16  # the corpus has nobody of 16 to 18 years


def prepare(request: CorpusRequest) -> list[str]:
    """Write the manifests of train, dev and test and return a line for each split.

    Test is as published. Dev is made of whole training speakers: four girls, four boys, four women and four men. The
    seed chooses them.

    Args:
        request: its corpus holds the Kaldi folders `train/` and `test/`, and `WAVE/`.

    Raises:
        ManifestError: the corpus is not there, a list is malformed, or a recording is missing or damaged.
    """
    corpus_dir = CORPUS.find(request.corpus_dir, "train/wav.scp")
    dev_speakers = choose_dev_speakers(corpus_dir / "train", request.seed)
    material = read_kaldi(corpus_dir, corpus_dir)
    material.utterances[:] = [
        replace(one, split="dev") if one.speaker in dev_speakers else one for one in material.utterances
    ]
    return write_published(material, request, CORPUS, "en")


def choose_dev_speakers(folder: Path, seed: int) -> set[str]:
    """Draw as many girls, boys, women and men of the speakers in `spk2age` and `spk2gender`.

    Raises:
        ManifestError: a list is missing or malformed, or a group is too small.
    """
    genders, ages = read_speakers(folder / "spk2gender"), read_speakers(folder / "spk2age")
    groups: dict[tuple[str, bool], list[str]] = {}
    for speaker in sorted(genders):
        if not ages.get(speaker, "").isdecimal():
            raise ManifestError(f"{folder / 'spk2age'}: no age of speaker {speaker}; {CORPUS.where}")
        groups.setdefault((genders[speaker], int(ages[speaker]) >= YOUNGEST_ADULT), []).append(speaker)
    rng = random.Random(seed)
    chosen: set[str] = set()
    for _, speakers in sorted(groups.items()):
        if len(speakers) <= DEV_SPEAKERS_OF_A_GROUP:
            raise ManifestError(f"{folder}: {len(speakers)} speakers of one sex and age: too few to make a dev set")
        chosen.update(rng.sample(speakers, DEV_SPEAKERS_OF_A_GROUP))
    return chosen


def read_speakers(path: Path) -> dict[str, str]:
    """Return what a list of lines `speaker value` says of each speaker."""
    values = {}
    for number, line in enumerate(read_lines(path, ManifestError, "the list of speakers"), 1):
        match line.split():
            case [speaker, value]:
                values[speaker] = value
            case []:
                pass
            case _:
                raise ManifestError(f"{path}:{number}: expected 'speaker value', found {line!r}")
    return values
