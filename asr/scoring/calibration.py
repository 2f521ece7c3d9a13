"""Whether confidences mean what they say: reliability, expected calibration error, and how well they tell right words
from wrong ones.

Sources: Guo et al. 2017, arXiv:1706.04599 (reliability diagram, ECE); Hanley & McNeil 1982, "The meaning and use of the
area under a ROC curve" (the area as a probability).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asr.errors import ScoringError

BINS = 10
_DIAGRAM_WIDTH = 40


@dataclass(frozen=True)
class ReliabilityBin:
    """The words whose confidence lies from `low` to `high` (exclusive, but for 1)."""

    low: float
    high: float
    count: int
    mean_confidence: float
    share_right: float


@dataclass(frozen=True)
class CalibrationScore:
    """How confidences and facts agree.

    Attributes:
        ece: expected calibration error: mean over words of |mean confidence - share right| of the word's bin.
        auc: probability that a right word has a higher confidence than a wrong one, ties counted half; None if all
            words are right or all are wrong.
        bins: those that hold words, in rising order.
    """

    ece: float
    auc: float | None
    bins: tuple[ReliabilityBin, ...]


def score_calibration(confidences: Sequence[float], right: Sequence[bool]) -> CalibrationScore:
    """Compare the confidences of recognised words, 0 to 1, with whether each is right.

    Raises:
        ScoringError: there are no words, the numbers of both differ, or a confidence is not from 0 to 1.
    """
    p, y = np.asarray(confidences, np.float64), np.asarray(right, bool)
    if p.shape != y.shape or p.ndim != 1 or len(p) == 0:
        raise ScoringError(f"{len(p)} confidences of {len(y)} words: there must be as many, and at least one")
    if not ((p >= 0) & (p <= 1)).all():
        raise ScoringError("a confidence lies between 0 and 1; not all of these do")
    index = np.minimum((p * BINS).astype(int), BINS - 1)
    bins = []
    for place in range(BINS):
        inside = index == place
        if inside.any():
            count, mean, share = int(inside.sum()), float(p[inside].mean()), float(y[inside].mean())
            bins.append(ReliabilityBin(place / BINS, (place + 1) / BINS, count, mean, share))
    ece = sum(item.count * abs(item.mean_confidence - item.share_right) for item in bins) / len(p)
    return CalibrationScore(ece, _auc(p[y], p[~y]), tuple(bins))


def _auc(right: np.ndarray, wrong: np.ndarray) -> float | None:
    if len(right) == 0 or len(wrong) == 0:
        return None
    ordered = np.sort(wrong)
    below, not_above = np.searchsorted(ordered, right, "left"), np.searchsorted(ordered, right, "right")
    return float((below + not_above).mean() / 2 / len(wrong))


def render_calibration(score: CalibrationScore) -> str:
    """Return the figures and a reliability diagram, one line a bin: as many `#` as are right, `|` where claimed."""
    auc = "-" if score.auc is None else f"{score.auc:.3f}"
    lines = [f"CONFIDENCES of recognised words: ECE {score.ece:.3f}, AUC {auc}"]
    lines.append("confidence     words    mean   right")
    for item in score.bins:
        bar = list(("#" * round(_DIAGRAM_WIDTH * item.share_right)).ljust(_DIAGRAM_WIDTH + 1))
        bar[round(_DIAGRAM_WIDTH * item.mean_confidence)] = "|"
        figures = f"{item.count:8d}   {item.mean_confidence:.3f}   {item.share_right:.3f}"
        lines.append(f"{item.low:.1f} to {item.high:.1f} {figures}  {''.join(bar)}".rstrip())
    return "\n".join(lines)
