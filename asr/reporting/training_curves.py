"""The epochs of a training → its curves as `<svg>` elements for a page. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from asr.bundle.training_log import EpochLine
from asr.plotting import BLUE, RED, styled_figure, svg_element
from asr.scoring.error_counts import RATE_NAMES, Unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points: TypeAlias = Sequence[tuple[int, float]]
"""Epoch and value."""

# Colours that differ on white and on black; the first two are those of training and dev.
COLOURS = (BLUE, RED, "#3a9a50", "#d07020", "#8a60c0", "#9a7048", "#c060a8", "#2a98a8")
# Drawn and free lengths in points, for those who do not see the colours.
DASHES: tuple[tuple[float, ...], ...] = ((), (6, 2), (2, 1.5))
_LOG_FROM = 10.0  # curves whose highest value is this many times the lowest have a logarithmic scale


@dataclass(frozen=True)
class Curve:
    """A figure of a training over its epochs.

    Attributes:
        title: what it is, e.g. "dev WER, %".
        lines: points by the name of each line; without any it is not drawn, and the others keep their colours.
    """

    title: str
    lines: Mapping[str, Points]

    @property
    def description(self) -> str:
        """What the lines show, in words."""
        said = []
        for name, points in self._drawn():
            (first, start), (last, end) = points[0], points[-1]
            least_at, least = min(points, key=lambda point: (point[1], point[0]))
            course = f"{start:.4g} in epoch {first}, {end:.4g} in epoch {last}"
            said.append(f"{name}: {course}, least {least:.4g} in epoch {least_at}")
        return "; ".join(said)

    def svg(self) -> str:
        """Return the curve as an `<svg>` element in the colour of the text around it."""
        with styled_figure(4.4, 2.8, in_a_page=True) as figure:
            axes = figure.subplots()
            for place, (name, points) in enumerate(self.lines.items()):
                if points:
                    colour, dashes = line_style(place)
                    axes.plot(
                        *zip(*points, strict=True), color=colour, linewidth=1.5, label=name, marker=_marker(points)
                    )
                    axes.lines[-1].set_linestyle((0, dashes) if dashes else "-")
            values = [value for _, points in self._drawn() for _, value in points]
            if min(values) > 0 and max(values) > _LOG_FROM * min(values):
                _scale_by_ratios(axes)
            elif min(values) >= 0:
                axes.set_ylim(bottom=0)
            axes.set_title(self.title, loc="left")
            axes.set_xlabel("epoch")
            axes.grid()
            if len(self._drawn()) > 1:
                figure.legend(fontsize="small", ncols=4, loc="outside lower center")
            return svg_element(figure, f"Training: {self.title}", self.description)

    def _drawn(self) -> list[tuple[str, Points]]:
        return [(name, points) for name, points in self.lines.items() if points]


def line_style(place: int) -> tuple[str, tuple[float, ...]]:
    """Return the colour and the dashes of a line by its place among the others."""
    return COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]


def _scale_by_ratios(axes: Axes) -> None:
    """Let equal ratios have equal heights, and name values such as 20 and 50, not only powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _marker(points: Points) -> str:
    return "o" if len(points) == 1 else ""


def training_curves(epochs: Sequence[EpochLine]) -> list[Curve]:
    """Return loss, dev error rate, learning rate and gradient norms over the epochs; those that the log has."""
    unit: Unit = "character" if any(epoch.dev_by_characters for epoch in epochs) else "word"
    parts = dict.fromkeys(part for epoch in epochs for part in epoch.gradient_norms)
    curves = [
        Curve(
            "loss, nats per token",
            {
                "training": [(epoch.number, epoch.loss) for epoch in epochs],
                "dev": _known((epoch.number, epoch.dev_loss) for epoch in epochs),
            },
        ),
        Curve(
            f"dev {RATE_NAMES[unit]}, %",
            {"dev": _known((e.number, None if e.main_rate is None else 100 * e.main_rate) for e in epochs)},
        ),
        Curve("learning rate", {"rate": _known((epoch.number, epoch.learning_rate) for epoch in epochs)}),
        Curve(
            "gradient norms before clipping",
            {part: _known((epoch.number, epoch.gradient_norms.get(part)) for epoch in epochs) for part in parts},
        ),
    ]
    filled = [Curve(curve.title, {name: line for name, line in curve.lines.items() if line}) for curve in curves]
    return [curve for curve in filled if curve.lines]


def _known(points: Iterable[tuple[int, float | None]]) -> Points:
    """Return the points whose value is known."""
    return [(epoch, value) for epoch, value in points if value is not None]
