"""Where all importers meet: utterances as a source describes them → manifests of train, dev and test."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from asr.corpus.manifest import SPLITS, make_cut, write_manifest
from asr.corpus.splits import SplitRule, divide
from asr.errors import AudioError, ManifestError
from asr.machine import Progress, silent
from asr.text.normalise import is_utterance_id

if TYPE_CHECKING:
    from lhotse.cut import Cut

# What sources call the splits.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "testing": "test",
    "eval": "test",
}

_UNKNOWN_SPEAKERS = (
    "utterances name no speaker; each counts as a speaker of its own. So one person may be in two splits, and the "
    "error rate is then that of known voices"
)


@dataclass(frozen=True)
class Utterance:
    """One utterance as its source describes it."""

    id: str
    audio_path: Path
    text: str
    where: str  # the file and line that describe it, for errors
    speaker: str | None = None  # None: unknown, counted as a speaker of its own
    split: str | None = None  # "train", "dev" or "test"; None: to be drawn
    start_s: float = 0.0
    duration_s: float | None = None  # None: up to the end of the file


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote, and what it left out."""

    manifests: dict[str, Path]  # by split
    utterances: dict[str, int]  # by split
    skipped: tuple[str, ...]  # one line each: where, and the reason
    notes: tuple[str, ...]  # what the user should know about the splits


def split_name(name: str, where: str) -> str:
    """Return "train", "dev" or "test" for a split's name in the source.

    Raises:
        ManifestError: the name means none of them.
    """
    split = SPLIT_NAMES.get(name.strip().lower())
    if split is None:
        raise ManifestError(f"{where}: {name!r} is not a split; known: {', '.join(SPLIT_NAMES)}")
    return split


def read_parts(
    read: Callable[[Path], list[Utterance]],
    source: str | os.PathLike[str],
    dev: str | os.PathLike[str] | None,
    test: str | os.PathLike[str] | None,
) -> list[Utterance]:
    """Return the utterances of a source, and those of the files that hold its dev and its test split."""
    utterances = read(Path(source))
    for split, path in (("dev", dev), ("test", test)):
        if path is not None:
            utterances += [replace(utterance, split=split) for utterance in read(Path(path))]
    return utterances


def write_splits(
    utterances: Sequence[Utterance],
    out: Path,
    rule: SplitRule,
    *,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write `out`/{train,dev,test}.jsonl.gz and return what was written.

    Left out are utterances without a transcript, without readable audio or without an id of their own. A split that the
    source names is kept. A split that it does not name is drawn from its training utterances. With a share of 0 that
    split is not written, and is removed if an earlier import wrote it.

    Args:
        utterances: from one source.
        out: folder of the manifests.
        rule: how to draw splits.
        language: recorded in the manifests, e.g. "en".
        progress: shows how far the import is.

    Raises:
        ManifestError: nothing is left for training, or the splits cannot be drawn.
    """
    given: dict[str, list[Cut]] = {split: [] for split in SPLITS}
    where_of: dict[str, str] = {}
    skipped: list[str] = []
    unknown_speakers = 0
    with progress("import", len(utterances)) as advance:
        for utterance in utterances:
            try:
                _check_id(utterance, where_of)
                given[utterance.split or "train"].append(_cut(utterance, language))
                unknown_speakers += utterance.speaker is None
            except (AudioError, ManifestError) as error:
                skipped.append(f"{utterance.where}: {error}")
            advance(1)
    if not given["train"]:
        others = sum(map(len, given.values()))
        found = f"{others} are of dev or test, " if others else ""
        first = f"; the first reason: {skipped[0]}" if skipped else ""
        raise ManifestError(f"no utterance for training: {found}{len(skipped)} cannot be used{first}")
    splits, notes = _complete(given, rule)
    if unknown_speakers:
        notes.insert(0, f"{unknown_speakers} {_UNKNOWN_SPEAKERS}")
    manifests = {split: out / f"{split}.jsonl.gz" for split in SPLITS}
    for split, path in manifests.items():
        if splits[split]:
            write_manifest(splits[split], path)
        else:
            path.unlink(missing_ok=True)
    counts = {split: len(splits[split]) for split in SPLITS if splits[split]}
    return ImportReport({split: manifests[split] for split in counts}, counts, tuple(skipped), tuple(notes))


def _cut(utterance: Utterance, language: str | None) -> Cut:
    text = " ".join(utterance.text.split())
    if not text:
        raise ManifestError(f"utterance {utterance.id}: its transcript is empty")
    if "\0" in str(utterance.audio_path):
        raise ManifestError(f"utterance {utterance.id}: {str(utterance.audio_path)!r} cannot be the path of a file")
    return make_cut(
        utterance.id,
        utterance.audio_path,
        text,
        utterance.speaker or utterance.id,
        start_s=utterance.start_s,
        duration_s=utterance.duration_s,
        language=language,
    )


def _check_id(utterance: Utterance, where_of: dict[str, str]) -> None:
    name = utterance.id
    if not is_utterance_id(name):
        raise ManifestError(
            f"{name!r} cannot be an utterance id; ids hold no parentheses, line breaks or doubled spaces"
            if name
            else "its id is empty"
        )
    if name in where_of:
        raise ManifestError(f"the utterance id {name!r} occurs already at {where_of[name]}")
    where_of[name] = utterance.where


def _complete(given: dict[str, list[Cut]], rule: SplitRule) -> tuple[dict[str, list[Cut]], list[str]]:
    """Draw the splits that the source does not give from its training utterances; return all splits, and a note."""
    shares = {"dev": rule.dev_share, "test": rule.test_share}
    missing = [split for split, share in shares.items() if not given[split] and share > 0]
    if not missing:
        return given, []
    to_draw = replace(
        rule,
        dev_share=0.0 if given["dev"] else rule.dev_share,
        test_share=0.0 if given["test"] else rule.test_share,
    )
    drawn = divide(given["train"], to_draw)
    note = f"{' and '.join(missing)} drawn from the training utterances, by {rule.by}, seed {rule.seed}"
    kept = {split: given[split] for split in ("dev", "test") if given[split]}
    return {**drawn, **kept}, [note]
