"""One set of utterances → train, dev and test that have no speaker in common; their manifests, written together."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from asr.corpus.manifest import SPLITS, cut_speaker, distinct, write_manifest
from asr.errors import ManifestError
from asr.files import atomic_path
from asr.reading import counted

if TYPE_CHECKING:
    from lhotse.cut import Cut


@dataclass(frozen=True)
class SplitRule:
    """How utterances are divided into train, dev and test.

    Attributes:
        by: what no two splits share. With "utterance", a speaker may be in several splits, so error rates are those of
            known voices.
        dev_share: share of the audio for dev; 0: no dev split. 1: all of it, and there are no other splits.
        test_share: likewise for test; 1 makes a test set of its own.
        seed: decides which speakers, or utterances, go where.
    """

    by: Literal["speaker", "utterance"] = "speaker"
    dev_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0


def write_manifests(manifests: Mapping[Path, Iterable[Cut]]) -> list[Path]:
    """Write the manifests of a data folder together, and remove a former one that would now hold nothing.

    A mixture of two runs could have a speaker in two splits. So if the process is killed, or the disk is full, all are
    the former ones, or the first one, without which nothing trains, is missing.

    Args:
        manifests: cuts by where their manifest is; that of train comes first.

    Returns:
        Those that were written.

    Raises:
        ManifestError: two utterances of one have the same id.
    """
    written: list[Path] = []
    with ExitStack() as together:  # which renames the last one first
        for path, cuts in manifests.items():
            rest = distinct(cuts, path)
            if (first := next(rest, None)) is not None:
                temporary = together.enter_context(atomic_path(path))
                write_manifest(chain([first], rest), temporary)
                written.append(path)
        for path in manifests.keys() - {*written[1:]}:
            path.unlink(missing_ok=True)
    return written


def require_others(originals: Iterable[str | os.PathLike[str]], written: Iterable[Path]) -> None:
    """Refuse to replace the files that something is made of.

    Raises:
        ManifestError: a file that is to be written is one of them.
    """
    places = {os.path.realpath(path) for path in written}
    for original in originals:
        if os.path.realpath(original) in places:
            raise ManifestError(f"{original}: the original stays as it is; choose another folder to write to")


def divide(cuts: Iterable[Cut], rule: SplitRule) -> dict[str, list[Cut]]:
    """Divide cuts into "train", "dev" and "test" so that no speaker, or only no utterance, is in two of them.

    Speakers are taken in an order drawn from the rule's seed. Dev and test each get whole speakers until they hold
    about their share of the audio. A share of 0 gives an empty split.

    Raises:
        ManifestError: there are fewer speakers than splits, or the shares leave nothing for training.
    """
    dev_share, test_share = rule.dev_share, rule.test_share
    for whole in [split for split, share in (("test", test_share), ("dev", dev_share)) if share == 1]:
        return {split: list(cuts) if split == whole else [] for split in SPLITS}
    if dev_share < 0 or test_share < 0 or dev_share + test_share >= 1:
        raise ManifestError(
            f"shares of {dev_share:g} (dev) and {test_share:g} (test) leave nothing for training; "
            "each is 0 or more, and their sum is below 1; a share of 1 takes all utterances for that split"
        )
    shares = {split: share for split, share in (("dev", dev_share), ("test", test_share)) if share > 0}
    groups: dict[str, list[Cut]] = {}
    for cut in cuts:
        groups.setdefault(cut_speaker(cut) if rule.by == "speaker" else str(cut.id), []).append(cut)
    if len(groups) < len(shares) + 1:
        raise ManifestError(
            f"{counted(len(groups), rule.by)} cannot be divided into {' and '.join(['train', *shares])} without "
            f"sharing one; name the splits in the data, add {rule.by}s"
            + (", or use --split-by utterance" if rule.by == "speaker" else "")
        )
    split_of = _draw(groups, shares, rule.seed)
    result: dict[str, list[Cut]] = {split: [] for split in SPLITS}
    for name, group in groups.items():
        result[split_of.get(name, "train")].extend(group)
    return result


def complete(given: dict[str, list[Cut]], rule: SplitRule) -> tuple[dict[str, list[Cut]], list[str]]:
    """Draw the splits that a source does not give from its training utterances.

    Returns:
        All splits, and notes for the user.

    Raises:
        ManifestError: as `divide`.
    """
    if not given["train"]:
        return given, []
    whole = next((split for split, share in (("test", rule.test_share), ("dev", rule.dev_share)) if share == 1), None)
    if whole is not None and not given["dev"] and not given["test"]:
        return divide(given["train"], rule), [f"all utterances are of {whole}, because its share is 1"]
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
    return {**drawn, **kept}, [note, *_other_shares(drawn, {split: shares[split] for split in missing}, rule)]


def _other_shares(drawn: dict[str, list[Cut]], shares: dict[str, float], rule: SplitRule) -> Iterator[str]:
    """Yield a note for each drawn split whose share of the audio became quite another than was asked for."""
    seconds = {split: sum(cut.duration for cut in cuts) for split, cuts in drawn.items()}
    for split, share in shares.items():
        became = seconds[split] / sum(seconds.values())
        if share < 1 and abs(became - share) > 0.25 * share:
            groups = {cut_speaker(cut) if rule.by == "speaker" else cut.id for cut in drawn[split]}
            yield (
                f"{split} became {100 * became:.0f} % of the audio in place of {100 * share:.0f} %: "
                f"{seconds[split] / 3600:.2f} h of {counted(len(groups), rule.by)}; each is in one split only"
            )


def _draw(groups: dict[str, list[Cut]], shares: dict[str, float], seed: int) -> dict[str, str]:
    """Return the split of each group that is not of train."""
    seconds = {name: sum(cut.duration for cut in group) for name, group in groups.items()}
    total_s = sum(seconds.values())
    left = sorted(groups)
    random.Random(seed).shuffle(left)
    split_of: dict[str, str] = {}
    for still_to_come, (split, share) in zip(range(len(shares), 0, -1), shares.items(), strict=True):
        # Train, and each split after this one, needs at least one.
        split_of |= dict.fromkeys(_take(left, seconds, share * total_s, at_most=len(left) - still_to_come), split)
        left = [name for name in left if name not in split_of]
    return split_of


def _take(names: Sequence[str], seconds: dict[str, float], target_s: float, at_most: int) -> list[str]:
    """Take, in order, the names that bring the audio taken nearer to the target; at least the shortest one."""
    taken: list[str] = []
    taken_s = 0.0
    for name in names:
        if len(taken) < at_most and abs(taken_s + seconds[name] - target_s) < abs(taken_s - target_s):
            taken.append(name)
            taken_s += seconds[name]
    return taken or [min(names, key=lambda name: seconds[name])]
