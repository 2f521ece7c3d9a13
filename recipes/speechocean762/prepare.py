"""speechocean762: Mandarin speakers, half of them children, reading English sentences. Corpus → manifests."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from asr.corpus.importers.kaldi import read_kaldi
from asr.corpus.importers.utterances import Utterance, write_splits
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.machine import Progress, silent
from asr.reading import read_lines

WHERE = (
    "get it with `git clone https://github.com/jimbozhang/speechocean762`, or from OpenSLR, resource 101 "
    "(openslr.org/101), and name that folder with --corpus-dir, or set ASR_CORPORA to the folder that holds it as "
    "speechocean762/"
)
DEV_SPEAKERS_OF_A_GROUP = 4
YOUNGEST_ADULT = 16  # the corpus has nobody of 16 to 18 years


def prepare(corpus_dir: Path | None, out: Path, seed: int = 0, progress: Progress = silent) -> list[str]:
    """Write `out`/{train,dev,test}.jsonl.gz and return a line for each split.

    Test is as published. Dev is made of whole training speakers: four girls, four boys, four women and four men.

    Args:
        corpus_dir: holds the Kaldi folders `train/` and `test/`, and `WAVE/`.
        out: where the manifests go.
        seed: chooses the dev speakers.
        progress: shows how many recordings have been looked at.

    Raises:
        ManifestError: the corpus is not there, a list is malformed, or a recording is missing or damaged.
    """
    if corpus_dir is None or not (corpus_dir / "train" / "wav.scp").is_file():
        raise ManifestError(f"no speechocean762 corpus {f'at {corpus_dir}' if corpus_dir else 'was named'}; {WHERE}")
    dev_speakers = choose_dev_speakers(corpus_dir / "train", seed)
    utterances = [
        replace(utterance, split="dev") if in_dev(utterance, dev_speakers) else utterance
        for utterance in read_kaldi(corpus_dir, corpus_dir)
    ]
    report = write_splits(utterances, out, SplitRule(), language="en", progress=progress)
    if report.skipped:
        raise ManifestError(f"{len(report.skipped)} utterances cannot be used; the first: {report.skipped[0]}; {WHERE}")
    return [
        f"{split:<6}{report.utterances[split]} utterances, {size.speakers} speakers, {size.audio_s / 3600:.2f} h"
        for split, size in report.sizes.items()
    ]


def in_dev(utterance: Utterance, dev_speakers: set[str]) -> bool:
    """Return whether an utterance of the published sets goes into dev."""
    return utterance.split == "train" and utterance.speaker in dev_speakers


def choose_dev_speakers(folder: Path, seed: int) -> set[str]:
    """Draw as many girls, boys, women and men of the speakers in `spk2age` and `spk2gender`.

    Raises:
        ManifestError: a list is missing or malformed, or a group is too small.
    """
    genders, ages = read_speakers(folder / "spk2gender"), read_speakers(folder / "spk2age")
    groups: dict[tuple[str, bool], list[str]] = {}
    for speaker in sorted(genders):
        if not ages.get(speaker, "").isdecimal():
            raise ManifestError(f"{folder / 'spk2age'}: no age of speaker {speaker}; {WHERE}")
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
