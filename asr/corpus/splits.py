"""One set of utterances → train, dev and test that have no speaker in common."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from asr.corpus.manifest import SPLITS, cut_speaker
from asr.errors import ManifestError

if TYPE_CHECKING:
    from lhotse.cut import Cut


def split_by_speaker(cuts: Iterable[Cut], *, dev_share: float, test_share: float, seed: int) -> dict[str, list[Cut]]:
    """Divide cuts into "train", "dev" and "test" so that no speaker is in two of them.

    Speakers are taken in an order drawn from `seed`; dev and test each get whole speakers until they hold
    about their share of the audio. A share of 0 gives an empty split.

    Raises:
        ManifestError: there are fewer speakers than splits, or the shares leave nothing for training.
    """
    return _split(cuts, cut_speaker, "speaker", dev_share, test_share, seed)


def split_by_utterance(cuts: Iterable[Cut], *, dev_share: float, test_share: float, seed: int) -> dict[str, list[Cut]]:
    """Divide cuts like `split_by_speaker`, but whoever speaks: error rates will be those of known speakers.

    Raises:
        ManifestError: there are fewer utterances than splits, or the shares leave nothing for training.
    """
    return _split(cuts, lambda cut: str(cut.id), "utterance", dev_share, test_share, seed)


def _split(
    cuts: Iterable[Cut],
    group_of: Callable[[Cut], str],
    noun: str,
    dev_share: float,
    test_share: float,
    seed: int,
) -> dict[str, list[Cut]]:
    if dev_share < 0 or test_share < 0 or dev_share + test_share >= 1:
        raise ManifestError(f"shares of {dev_share:g} (dev) and {test_share:g} (test) leave nothing for training")
    shares = {split: share for split, share in (("dev", dev_share), ("test", test_share)) if share > 0}
    groups: dict[str, list[Cut]] = {}
    for cut in cuts:
        groups.setdefault(group_of(cut), []).append(cut)
    if len(groups) < len(shares) + 1:
        raise ManifestError(
            f"{len(groups)} {noun}(s) cannot be divided into {' and '.join(['train', *shares])} without "
            f"sharing one; name the splits in the data, add {noun}s"
            + (", or use --split-by utterance" if noun == "speaker" else "")
        )
    seconds = {name: sum(cut.duration for cut in group) for name, group in groups.items()}
    total_s = sum(seconds.values())
    left = sorted(groups)
    random.Random(seed).shuffle(left)
    split_of: dict[str, str] = {}
    for still_to_come, (split, share) in zip(range(len(shares), 0, -1), shares.items(), strict=True):
        # Train, and each split after this one, needs at least one.
        for name in _take(left, seconds, share * total_s, at_most=len(left) - still_to_come):
            split_of[name] = split
            left.remove(name)
    result: dict[str, list[Cut]] = {split: [] for split in SPLITS}
    for name, group in groups.items():
        result[split_of.get(name, "train")].extend(group)
    return result


def _take(names: Sequence[str], seconds: dict[str, float], target_s: float, at_most: int) -> list[str]:
    """Take, in order, what brings the audio taken nearer to the target; at least the shortest one."""
    taken: list[str] = []
    taken_s = 0.0
    for name in names:
        if len(taken) < at_most and abs(taken_s + seconds[name] - target_s) < abs(taken_s - target_s):
            taken.append(name)
            taken_s += seconds[name]
    return taken or [min(names, key=lambda name: seconds[name])]
