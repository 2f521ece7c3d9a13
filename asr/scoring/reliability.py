"""The reliability diagram as SVG: how often the words of a confidence are right.

Sources: DeGroot & Fienberg 1983, "The comparison and evaluation of forecasters" (the diagram); Wilson 1927, "Probable
inference, the law of succession, and statistical inference" (the interval of a share).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from asr.scoring.calibration import CalibrationScore, ReliabilityBin

# Pixels: a square of shares over confidences, and below it the bars of how many words there are.
SIDE, LEFT, TOP = 320, 56, 16
BARS_TOP, BARS_HEIGHT = TOP + SIDE + 40, 50
WIDTH, HEIGHT = LEFT + SIDE + 16, BARS_TOP + BARS_HEIGHT + 26
NORMAL_95 = 1.96  # standard deviations of the normal distribution, within which 95 % lie


def reliability_svg(score: CalibrationScore) -> str:
    """Return the diagram as an `<svg>` element in the colour of the text around it.

    A dot is a bin's words: across, the mean confidence; up, the share that is right, with its 95 % interval. On the
    dashed line confidences mean what they say. Below stand the numbers of words.
    """
    most = max(item.count for item in score.bins)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        ' role="img" aria-label="reliability diagram" font-family="sans-serif" font-size="12" fill="currentColor">',
        *_axes(),
    ]
    for item in score.bins:
        parts += _bin(item, most)
    return "\n".join([*parts, "</svg>"])


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a probability, of which a share of so many cases was seen."""
    z2 = NORMAL_95**2 / count
    middle = (share + z2 / 2) / (1 + z2)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def _axes() -> Iterator[str]:
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x, y = _x(tick), _y(tick)
        yield f'<path d="M{x} {_y(0)}V{_y(1)}M{_x(0)} {y}H{_x(1)}" stroke="currentColor" stroke-opacity="0.15"/>'
        yield f'<text class="x" x="{x}" y="{_y(0) + 17}" text-anchor="middle">{tick:.1f}</text>'
        yield f'<text class="y" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{tick:.1f}</text>'
    yield f'<path d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}" stroke="currentColor" stroke-dasharray="5 4"/>'
    middle_x, middle_y = _x(0.5), _y(0.5)
    yield f'<text x="{middle_x}" y="{HEIGHT - 6}" text-anchor="middle">confidence, and number of words</text>'
    yield (
        f'<text x="14" y="{middle_y}" text-anchor="middle" transform="rotate(-90 14 {middle_y})">'
        "share of words that are right</text>"
    )


def _bin(item: ReliabilityBin, most: int) -> Iterator[str]:
    x, y = _x(item.mean_confidence), _y(item.share_right)
    low, high = share_interval(item.share_right, item.count)
    what = (
        f"{item.low:.1f} to {item.high:.1f}: {item.count} words, mean confidence {item.mean_confidence:.3f}, "
        f"right {item.share_right:.3f}"
    )
    yield f'<path d="M{x} {_y(low)}V{_y(high)}" stroke="#4878cf" stroke-width="2"/>'
    yield f'<circle cx="{x}" cy="{y}" r="5" fill="#4878cf"><title>{what}</title></circle>'
    height = round(BARS_HEIGHT * item.count / most, 1)
    left, width = _x(item.low) + 2, round(SIDE * (item.high - item.low), 1) - 4
    bottom = BARS_TOP + BARS_HEIGHT
    yield f'<rect x="{left}" y="{bottom - height}" width="{width}" height="{height}" fill="#4878cf" opacity="0.5"/>'
    count = f"{item.count}" if item.count < 100_000 else f"{item.count / 1000:.0f}k"
    yield (
        f'<text x="{left + width / 2}" y="{round(bottom - height - 3, 1)}" text-anchor="middle" font-size="10">'
        f"{count}</text>"
    )


def _x(value: float) -> float:
    return round(LEFT + SIDE * value, 1)


def _y(value: float) -> float:
    return round(TOP + SIDE * (1 - value), 1)
