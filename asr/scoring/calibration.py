"""Confidences × facts → whether confidences mean what they say: ECE, AUC and the reliability diagram.

Sources: DeGroot & Fienberg 1983, "The comparison and evaluation of forecasters" (the diagram); Guo et al. 2017,
arXiv:1706.04599 (ECE); Hanley & McNeil 1982, "The meaning and use of the area under a ROC curve" (the area as a
probability); Wilson 1927, "Probable inference, the law of succession, and statistical inference" (the interval of a
share).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asr.errors import ScoringError
from asr.plotting import BLUE, styled_figure, svg_element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 10
_BAR_CHARACTERS = 40
_NORMAL_95 = 1.96  # 95 % of a normal distribution are within this many standard deviations of its mean


@dataclass(frozen=True)
class ReliabilityBin:
    """The words whose confidence is at least `low` and below `high`; the last bin includes 1."""

    low: float
    high: float
    count: int
    mean_confidence: float
    share_right: float


@dataclass(frozen=True)
class CalibrationScore:
    """How well confidences agree with the facts.

    Attributes:
        ece: expected calibration error: mean over all words of |mean confidence - share right| of the word's bin.
        auc: probability that a right word has a higher confidence than a wrong one; ties count half. None if all words
            are right or all are wrong.
        bins: the bins that have words, in rising order.
    """

    ece: float
    auc: float | None
    bins: tuple[ReliabilityBin, ...]


def score_calibration(confidences: Sequence[float], right: Sequence[bool]) -> CalibrationScore:
    """Return how well the confidences of recognised words, 0 to 1, agree with whether each word is right.

    Raises:
        ScoringError: there are no words, the two differ in length, or a confidence is not from 0 to 1.
    """
    p, y = np.asarray(confidences, np.float64), np.asarray(right, bool)
    if p.shape != y.shape or p.ndim != 1 or len(p) == 0:
        raise ScoringError(f"{len(p)} confidences of {len(y)} words: each word needs one, and there must be a word")
    if not ((p >= 0) & (p <= 1)).all():
        raise ScoringError("a confidence must be between 0 and 1; not all of these are")
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


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a probability, given the share of `count` cases in which it came true."""
    z2 = _NORMAL_95**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def render_calibration(score: CalibrationScore) -> str:
    """Return the figures and the reliability diagram as text, one line per bin.

    The number of `#` is the share of right words; `|` marks the mean confidence.
    """
    auc = "-" if score.auc is None else f"{score.auc:.3f}"
    lines = [f"CONFIDENCES of recognised words: ECE {score.ece:.3f}, AUC {auc}"]
    lines.append("confidence     words    mean   right")
    for item in score.bins:
        bar = list(("#" * round(_BAR_CHARACTERS * item.share_right)).ljust(_BAR_CHARACTERS + 1))
        bar[round(_BAR_CHARACTERS * item.mean_confidence)] = "|"
        figures = f"{item.count:8d}   {item.mean_confidence:.3f}   {item.share_right:.3f}"
        lines.append(f"{item.low:.1f} to {item.high:.1f} {figures}  {''.join(bar)}".rstrip())
    return "\n".join(lines)


def reliability_svg(score: CalibrationScore) -> str:
    """Return the reliability diagram as an `<svg>` element in the colour of the text around it."""
    description = "; ".join(
        f"confidence {item.low:.1f} to {item.high:.1f}: {item.count} words, "
        f"mean confidence {item.mean_confidence:.3f}, share right {item.share_right:.3f}"
        for item in score.bins
    )
    with styled_figure(4.4, 5.0, in_a_page=True) as figure:
        draw_reliability(figure, score)
        return svg_element(figure, "Reliability diagram", description)


def draw_reliability(figure: Figure, score: CalibrationScore) -> None:
    """Draw the reliability diagram, and below it the number of words in each bin.

    A dot is a bin: its words' mean confidence across, and up the share that is right with its 95 % interval. On the
    dashed line confidences mean what they say.
    """
    reliability, counts = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    _draw_shares(reliability, score.bins)
    _draw_counts(counts, score.bins)
    counts.set_xlabel("confidence")


def _draw_shares(axes: Axes, bins: Sequence[ReliabilityBin]) -> None:
    axes.plot([0, 1], [0, 1], linestyle=(0, (5, 4)), linewidth=1, color=axes.xaxis.label.get_color())
    intervals = [share_interval(item.share_right, item.count) for item in bins]
    for item, (low, high) in zip(bins, intervals, strict=True):
        axes.plot([item.mean_confidence] * 2, [low, high], color=BLUE, linewidth=2)
    axes.plot(
        [item.mean_confidence for item in bins],
        [item.share_right for item in bins],
        "o",
        color=BLUE,
        markersize=8,
        zorder=3,  # above the axes
        clip_on=False,  # a dot at 1 is whole
    )
    axes.set_ylabel("share of words that are right")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.grid()


def _draw_counts(axes: Axes, bins: Sequence[ReliabilityBin]) -> None:
    middles = [(item.low + item.high) / 2 for item in bins]
    bars = axes.bar(middles, [item.count for item in bins], width=0.8 / BINS, color=BLUE, alpha=0.6)
    axes.bar_label(bars, [_short(item.count) for item in bins], padding=2, fontsize="small")
    axes.set_ylabel("words")
    axes.set_yticks([])
    axes.margins(y=0.35)  # room for the numbers
    axes.spines["left"].set_visible(False)


def _short(count: int) -> str:
    return f"{count}" if count < 100_000 else f"{count / 1000:.0f}k"
