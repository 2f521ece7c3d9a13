"""Where all importers meet: described utterances → cuts → manifests of train, dev and test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from asr.corpus.manifest import SPLITS, make_cut, write_manifest
from asr.corpus.splits import split_by_speaker, split_by_utterance
from asr.errors import AudioError, ManifestError
from asr.text.normalise import is_utterance_id

if TYPE_CHECKING:
    from lhotse.cut import Cut

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
    duration_s: float | None = None


@dataclass(frozen=True)
class SplitRule:
    """How utterances whose source does not say so are divided."""

    by: Literal["speaker", "utterance"] = "speaker"
    dev_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote, and what it left out."""

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


def write_splits(
    utterances: Iterable[Utterance],
    out: Path,
    rule: SplitRule,
    *,
    language: str | None = None,
    on_utterance: Callable[[], None] = lambda: None,
) -> ImportReport:
    """Write `out`/{train,dev,test}.jsonl.gz without utterances that lack a transcript, readable audio or an own id.

    Splits that the source names stand. Those it does not name are drawn from its training utterances; one with a share
    of 0 is not written, and removed if an earlier import wrote it.

    Args:
        utterances: from one source.
        out: folder of the manifests.
        rule: how to draw splits.
        language: recorded in the manifests, e.g. "en".
        on_utterance: called after each utterance, to show progress.

    Raises:
        ManifestError: nothing is left for training, or the splits cannot be drawn.
    """
    given: dict[str, list[Cut]] = {split: [] for split in SPLITS}
    where_of: dict[str, str] = {}
    skipped: list[str] = []
    notes: list[str] = []
    unknown_speakers = 0
    for utterance in utterances:
        try:
            _check_id(utterance, where_of)
            given[utterance.split or "train"].append(_cut(utterance, language))
            unknown_speakers += utterance.speaker is None
        except (AudioError, ManifestError) as error:
            skipped.append(f"{utterance.where}: {error}")
        on_utterance()
    if not given["train"]:
        others = sum(map(len, given.values()))
        found = f"{others} are of dev or test, " if others else ""
        first = f"; the first reason: {skipped[0]}" if skipped else ""
        raise ManifestError(f"no utterance for training: {found}{len(skipped)} cannot be used{first}")
    if unknown_speakers:
        notes.append(
            f"{unknown_speakers} utterances name no speaker; each counts as a speaker of its own, so one "
            "person may be in two splits, and the error rate would then be that of known voices"
        )
    splits = _complete(given, rule, notes)
    for split in SPLITS:
        path = out / f"{split}.jsonl.gz"
        if splits[split]:
            write_manifest(splits[split], path)
        else:
            path.unlink(missing_ok=True)
    counts = {split: len(splits[split]) for split in SPLITS if splits[split]}
    return ImportReport(counts, tuple(skipped), tuple(notes))


def _cut(utterance: Utterance, language: str | None) -> Cut:
    text = " ".join(utterance.text.split())
    if not text:
        raise ManifestError(f"utterance {utterance.id}: its transcript is empty")
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


def _complete(given: dict[str, list[Cut]], rule: SplitRule, notes: list[str]) -> dict[str, list[Cut]]:
    """Draw the splits that the source does not give from its training utterances."""
    shares = {"dev": rule.dev_share, "test": rule.test_share}
    missing = [split for split, share in shares.items() if not given[split] and share > 0]
    if not missing:
        return given
    divide = split_by_speaker if rule.by == "speaker" else split_by_utterance
    drawn = divide(
        given["train"],
        dev_share=0.0 if given["dev"] else rule.dev_share,
        test_share=0.0 if given["test"] else rule.test_share,
        seed=rule.seed,
    )
    notes.append(f"{' and '.join(missing)} drawn from the training utterances, by {rule.by}, seed {rule.seed}")
    return {split: given[split] if split in ("dev", "test") and given[split] else drawn[split] for split in SPLITS}
