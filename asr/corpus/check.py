"""Looks for everything in a data folder that would break training or falsify a result, and names it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.config import TextSettings
from asr.corpus.cut_audio import load_cut
from asr.corpus.limits import Limits, frames_and_need
from asr.corpus.manifest import SPLITS, cut_text, find_split, read_manifest
from asr.errors import AudioError, ManifestError
from asr.text.normalise import normalise
from asr.text.tokens import fewest_tokens

if TYPE_CHECKING:
    from lhotse import CutSet
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
    """What manifests hold and what is wrong with them."""

    splits: dict[str, SplitSummary]
    characters: dict[str, int]  # of all normalised transcripts, most frequent first
    problems: tuple[Problem, ...]


def data_manifests(path: Path) -> dict[str, CutSet]:
    """Return the manifests of a data folder by split, or the one manifest that `path` is.

    Raises:
        ManifestError: there is none, or it cannot be read.
    """
    if not path.is_dir() or next(path.glob("cuts*.jsonl*"), None):
        return {path.name.partition(".")[0]: read_manifest(path)}
    found = {}
    for split in SPLITS:
        with suppress(ManifestError):
            found[split] = find_split(path, split)
    if not found:
        names = ", ".join(f"{split}.jsonl.gz" for split in SPLITS)
        raise ManifestError(f"{path}: holds none of {names}, nor Shar folders of those names")
    return {split: read_manifest(file) for split, file in found.items()}


def check_data(
    manifests: Mapping[str, Iterable[Cut]],
    *,
    text: TextSettings,
    limits: Limits,
    on_utterance: Callable[[], None] = lambda: None,
) -> DataReport:
    """Read every utterance of some manifests, its audio included, and report what they hold.

    Args:
        manifests: cuts by split, "train" first if it is there.
        text: how transcripts will be normalised.
        limits: lengths that an utterance must keep to.
        on_utterance: called after each utterance, to show progress.

    Raises:
        ManifestError: a manifest's line is not a cut.
    """
    splits: dict[str, SplitSummary] = {}
    characters: Counter[str] = Counter()
    problems: list[Problem] = []
    split_of_id: dict[str, str] = {}
    splits_of_speaker: dict[str, list[str]] = {}
    trained: set[str] | None = None
    for split, cuts in manifests.items():
        durations: list[float] = []
        speakers: set[str] = set()
        split_characters: Counter[str] = Counter()
        words = 0
        pace = limits.pace if split == "train" else 1.0
        for place, cut in enumerate(cuts):
            transcript = normalise(cut_text(cut), text)
            reasons = [*_audio_faults(cut, limits), *_text_faults(cut.duration / pace, transcript, text, limits)]
            if cut.id in split_of_id:
                reasons.append(f"its id occurs already in {split_of_id[cut.id]}")
            unseen = set(transcript) - trained if trained is not None else set()
            if unseen:
                reasons.append(f"characters that train does not have: {' '.join(map(character_name, sorted(unseen)))}")
            problems += [Problem(split, cut.id, reason, place) for reason in reasons]
            split_of_id.setdefault(cut.id, split)
            speakers |= {str(supervision.speaker) for supervision in cut.supervisions if supervision.speaker}
            split_characters.update(transcript)
            words += len(transcript.split())
            durations.append(cut.duration)
            on_utterance()
        if split == "train":
            trained = set(split_characters)
        characters += split_characters
        for speaker in speakers:
            splits_of_speaker.setdefault(speaker, []).append(split)
        splits[split] = SplitSummary(
            utterances=len(durations),
            speakers=len(speakers),
            audio_s=sum(durations),
            shortest_s=min(durations, default=0.0),
            longest_s=max(durations, default=0.0),
            words=words,
        )
    problems += [
        Problem(shared[0], f"speaker {speaker}", f"is also in {' and '.join(shared[1:])}")
        for speaker, shared in sorted(splits_of_speaker.items())
        if len(shared) > 1
    ]
    return DataReport(splits, dict(characters.most_common()), tuple(problems))


def without_problems(cuts: Iterable[Cut], split: str, report: DataReport) -> Iterator[Cut]:
    """Yield the cuts of a split in which the report names no fault."""
    faulty = {problem.place for problem in report.problems if problem.split == split}
    return (cut for place, cut in enumerate(cuts) if place not in faulty)


def character_name(character: str) -> str:
    """Return a character as a person can tell it: those that show nothing of their own with their number."""
    if character == " ":
        return "space"
    if unicodedata.category(character)[0] in "MCZ":  # marks, control and format characters, separators
        shown = f"◌{character} " if unicodedata.category(character)[0] == "M" else ""
        return f"{shown}U+{ord(character):04X}"
    return character


def _audio_faults(cut: Cut, limits: Limits) -> list[str]:
    faults = []
    if cut.duration > limits.max_s:
        faults.append(f"too long: {cut.duration:.2f} s, the limit is {limits.max_s:g} s")
    if cut.duration < limits.min_s:
        faults.append(f"too short: {cut.duration:.3f} s, the limit is {limits.min_s:g} s")
    try:
        samples = load_cut(cut, cut.sampling_rate)
    except AudioError as error:
        faults.append(str(error).removeprefix(f"utterance {cut.id}: "))
    else:
        if not np.any(samples):
            faults.append("silent: every sample is 0")
    return faults


def _text_faults(duration_s: float, transcript: str, text: TextSettings, limits: Limits) -> list[str]:
    if not transcript:
        return ["its transcript is empty"]
    frames, needed = frames_and_need(duration_s, fewest_tokens(transcript, text), limits.frame_shift_s)
    if frames < needed:
        least = "" if text.tokens == "characters" else " at least"
        return [f"too short for its transcript: {frames} output frames, CTC needs {needed}{least}"]
    return []
