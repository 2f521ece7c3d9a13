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
from asr.corpus.limits import Limits, low_rate_note, training_limits
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
    sample_rates_hz: dict[int, int] = field(default_factory=dict)  # number of utterances by rate, lowest rate first


@dataclass(frozen=True)
class Problem:
    """What is wrong with one utterance, or with one speaker."""

    split: str
    name: str
    reason: str
    place: int | None = None  # of the utterance in its manifest, counted from 0
    stays: bool = False  # the utterance is written all the same, as a fair test set needs it


@dataclass(frozen=True)
class DataReport:
    """What manifests hold, what is wrong with them, and the manifests of sound utterances that were written."""

    splits: dict[str, SplitSummary]
    characters: dict[str, int]  # of all normalised transcripts, most frequent first
    problems: tuple[Problem, ...]
    written: dict[str, Path] = field(default_factory=dict)  # by split
    warnings: tuple[str, ...] = ()  # what to know about the data as a whole; nothing is left out because of it

    @property
    def unmended(self) -> tuple[Problem, ...]:
        """The problems that the written manifests do not solve: all of them where nothing was written."""
        left_out = {split: self.left_out(split) for split in self.written}
        return tuple(p for p in self.problems if p.place not in left_out.get(p.split, ()))

    def left_out(self, split: str) -> set[int]:
        """Return the places of the utterances that `check` does not write.

        All those with a fault; but of test only those whose audio is unusable, or whose id occurred before. Without
        utterances that are merely hard, the error rate would be flattered.
        """
        return {p.place for p in self.problems if p.split == split and p.place is not None and not p.stays}


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
            utterance is not written. Of test, only utterances with unusable audio or a repeated id are left out.
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
    settings = config or Config()
    report = check_cuts(manifests, training_limits(settings), progress=progress)
    rates = {rate for summary in report.splits.values() for rate in summary.sample_rates_hz}
    low_rate = low_rate_note(rates, settings.features.sample_rate_hz)
    if low_rate:
        report = replace(report, warnings=(*report.warnings, low_rate))
    if out is None:
        return report
    written = {}
    for split, cuts in manifests.items():
        if len(report.left_out(split)) < report.splits[split].utterances:
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
    """Yield the cuts of a split that the report does not leave out; see `DataReport.left_out`."""
    left_out = report.left_out(split)
    return (cut for place, cut in enumerate(cuts) if place not in left_out)


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
        self._rates_hz: dict[str, Counter[int]] = {}
        self._with_unseen: Counter[str] = Counter()  # utterances that hold a character that train does not have
        self._unseen: dict[str, set[str]] = {}

    def add(self, split: str, place: int, cut: Cut) -> None:
        limits = self._training_limits if split == "train" else self._other_limits
        transcript = normalise(cut_text(cut), limits.text)
        stays = split == "test"
        unfit = list(limits.faults(cut.duration, transcript))
        self._problems += [Problem(split, cut.id, reason, place, stays=stays) for reason in unfit]
        unusable = [*_audio_faults(cut), *self._repeated_id(cut)]
        self._problems += [Problem(split, cut.id, reason, place) for reason in unusable]
        self._find_unseen(split, transcript)
        self._split_of_id.setdefault(cut.id, split)
        self._durations_s.setdefault(split, []).append(cut.duration)
        self._words[split] += len(transcript.split())
        speakers = {str(supervision.speaker) for supervision in cut.supervisions if supervision.speaker}
        self._speakers.setdefault(split, set()).update(speakers)
        self._characters.setdefault(split, Counter()).update(transcript)
        if cut.has_recording:
            self._rates_hz.setdefault(split, Counter())[cut.sampling_rate] += 1

    def _repeated_id(self, cut: Cut) -> Iterator[str]:
        if cut.id in self._split_of_id:
            yield f"its id occurs already in {self._split_of_id[cut.id]}"

    def _find_unseen(self, split: str, transcript: str) -> None:
        """Count an utterance that holds characters that train does not have."""
        unseen = set(transcript) - self._characters["train"].keys() if "train" in self._characters else set()
        if split != "train" and unseen:
            self._with_unseen[split] += 1
            self._unseen.setdefault(split, set()).update(unseen)

    def report(self, splits: Iterable[str]) -> DataReport:
        return DataReport(
            {split: self._summary(split) for split in splits},
            dict(sum(self._characters.values(), Counter()).most_common()),
            (*self._problems, *self._shared_speakers()),
            warnings=tuple(self._warnings()),
        )

    def _warnings(self) -> Iterator[str]:
        for split, count in self._with_unseen.items():
            total = len(self._durations_s[split])
            names = " ".join(map(character_name, sorted(self._unseen[split])))
            yield (
                f"{count} of {total} utterances of {split} ({100 * count / total:.1f} %) hold characters that train "
                f"does not have: {names}. A model of these data cannot write them, so each is an error; the utterances "
                "stay"
            )
        characters = set().union(*self._characters.values())
        if characters and " " not in characters:
            yield ("no transcript holds a space, so words cannot be told apart; go by the CER, not the WER")

    def _summary(self, split: str) -> SplitSummary:
        durations_s = self._durations_s.get(split, [])
        return SplitSummary(
            utterances=len(durations_s),
            speakers=len(self._speakers.get(split, ())),
            audio_s=sum(durations_s),
            shortest_s=min(durations_s, default=0.0),
            longest_s=max(durations_s, default=0.0),
            words=self._words[split],
            sample_rates_hz=dict(sorted(self._rates_hz.get(split, {}).items())),
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
