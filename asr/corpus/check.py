"""A data folder → everything in it that would break training or falsify a result, by name."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.config import Config
from asr.corpus.cut_audio import load_cut
from asr.corpus.limits import Limits, training_limits
from asr.corpus.manifest import cut_text, entries, find_splits, read_manifest, write_manifest
from asr.errors import AudioError, ManifestError
from asr.machine import Progress, silent
from asr.text.normalise import normalise

if TYPE_CHECKING:
    from lhotse.cut import Cut


@dataclass(frozen=True)
class SplitSummary:
    """The size of one manifest, faulty utterances included."""

    utterances: int
    speakers: int
    audio_s: float
    shortest_s: float
    longest_s: float
    words: int


@dataclass(frozen=True)
class Problem:
    """What is wrong with one utterance, or with one speaker."""

    split: str
    name: str
    reason: str
    place: int | None = None  # of the utterance in its manifest, counted from 0


@dataclass(frozen=True)
class DataReport:
    """What manifests hold, what is wrong with them, and the manifests of sound utterances that were written."""

    splits: dict[str, SplitSummary]
    characters: dict[str, int]  # of all normalised transcripts, most frequent first
    problems: tuple[Problem, ...]
    written: dict[str, Path] = field(default_factory=dict)  # by split

    @property
    def unmended(self) -> tuple[Problem, ...]:
        """The problems that the written manifests do not solve: all of them where nothing was written."""
        return tuple(p for p in self.problems if p.place is None or p.split not in self.written)


def check(
    data: str | os.PathLike[str],
    *,
    config: Config | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress = silent,
) -> DataReport:
    """Read every utterance of a data folder, its audio included, and return what the folder holds and what is wrong.

    Args:
        data: a folder of manifests or Shar folders, or one of those.
        config: says how transcripts are normalised and which utterances can be trained on; None: the default settings.
        out: where to write manifests of the utterances without a fault; None: write nothing. A split without any such
            utterance is not written.
        progress: shows how far the check is.

    Raises:
        ManifestError: a manifest is missing or a line is malformed; or `out` is asked for of a Shar folder.
    """
    paths = find_splits(Path(data))
    for path in paths.values():
        if out is not None and path.is_dir():
            raise ManifestError(
                f"{path}: its audio is packed, so manifests of it cannot be written; check the folder that it was "
                "packed from, and pack what was written"
            )
    manifests = {split: read_manifest(path) for split, path in paths.items()}
    report = check_cuts(manifests, training_limits(config or Config()), progress=progress)
    if out is None:
        return report
    written = {}
    for split, cuts in manifests.items():
        faulty = {problem.place for problem in report.problems if problem.split == split} - {None}
        if len(faulty) < report.splits[split].utterances:
            written[split] = Path(out) / f"{split}.jsonl.gz"
            write_manifest(without_problems(cuts, split, report), written[split])
    return replace(report, written=written)


def check_cuts(manifests: Mapping[str, Iterable[Cut]], limits: Limits, *, progress: Progress = silent) -> DataReport:
    """Read every utterance of some manifests, its audio included, and return what they hold and what is wrong.

    Args:
        manifests: cuts by split, "train" first if there is one; they are read twice.
        limits: what training asks of an utterance. Only those of "train" must fit when they are sped up.
        progress: shows how far the check is.

    Raises:
        ManifestError: a line of a manifest is malformed.
    """
    findings = _Findings(limits)
    total = sum(1 for cuts in manifests.values() for _ in entries(cuts))
    with progress("check", total) as advance:
        for split, cuts in manifests.items():
            for place, cut in enumerate(cuts):
                findings.add(split, place, cut)
                advance(1)
    return findings.report(manifests)


def without_problems(cuts: Iterable[Cut], split: str, report: DataReport) -> Iterator[Cut]:
    """Yield the cuts of a split in which the report names no fault."""
    faulty = {problem.place for problem in report.problems if problem.split == split}
    return (cut for place, cut in enumerate(cuts) if place not in faulty)


class _Findings:
    """What is known after some utterances."""

    def __init__(self, limits: Limits) -> None:
        self._training_limits = limits
        self._other_limits = replace(limits, pace=1.0)
        self._problems: list[Problem] = []
        self._split_of_id: dict[str, str] = {}
        self._durations_s: dict[str, list[float]] = {}
        self._words: Counter[str] = Counter()
        self._speakers: dict[str, set[str]] = {}
        self._characters: dict[str, Counter[str]] = {}

    def add(self, split: str, place: int, cut: Cut) -> None:
        limits = self._training_limits if split == "train" else self._other_limits
        transcript = normalise(cut_text(cut), limits.text)
        reasons = [*limits.faults(cut.duration, transcript), *_audio_faults(cut)]
        reasons += self._faults_beside_others(split, cut, transcript)
        self._problems += [Problem(split, cut.id, reason, place) for reason in reasons]
        self._split_of_id.setdefault(cut.id, split)
        self._durations_s.setdefault(split, []).append(cut.duration)
        self._words[split] += len(transcript.split())
        speakers = {str(supervision.speaker) for supervision in cut.supervisions if supervision.speaker}
        self._speakers.setdefault(split, set()).update(speakers)
        self._characters.setdefault(split, Counter()).update(transcript)

    def _faults_beside_others(self, split: str, cut: Cut, transcript: str) -> Iterator[str]:
        """Yield what is wrong with an utterance because of those before it."""
        if cut.id in self._split_of_id:
            yield f"its id occurs already in {self._split_of_id[cut.id]}"
        if split != "train" and "train" in self._characters:
            unseen = sorted(set(transcript) - self._characters["train"].keys())
            if unseen:
                yield f"characters that train does not have: {' '.join(map(character_name, unseen))}"

    def report(self, splits: Iterable[str]) -> DataReport:
        return DataReport(
            {split: self._summary(split) for split in splits},
            dict(sum(self._characters.values(), Counter()).most_common()),
            (*self._problems, *self._shared_speakers()),
        )

    def _summary(self, split: str) -> SplitSummary:
        durations_s = self._durations_s.get(split, [])
        return SplitSummary(
            utterances=len(durations_s),
            speakers=len(self._speakers.get(split, ())),
            audio_s=sum(durations_s),
            shortest_s=min(durations_s, default=0.0),
            longest_s=max(durations_s, default=0.0),
            words=self._words[split],
        )

    def _shared_speakers(self) -> Iterator[Problem]:
        for speaker in sorted(set().union(*self._speakers.values())):
            first, *others = [split for split, speakers in self._speakers.items() if speaker in speakers]
            if others:
                yield Problem(first, f"speaker {speaker}", f"is also in {' and '.join(others)}")


def _audio_faults(cut: Cut) -> Iterator[str]:
    try:
        samples = load_cut(cut)
    except AudioError as error:
        yield str(error).removeprefix(f"utterance {cut.id}: ")
    else:
        if not np.any(samples):
            yield "silent: every sample is 0"


def character_name(character: str) -> str:
    """Return a character as a person can recognise it: with its number if it shows nothing by itself."""
    if character == " ":
        return "space"
    if unicodedata.category(character)[0] in "MCZ":  # marks, control and format characters, separators
        shown = f"◌{character} " if unicodedata.category(character)[0] == "M" else ""
        return f"{shown}U+{ord(character):04X}"
    return character
