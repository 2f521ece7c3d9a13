"""The picture of a diagnosis: gradients over distance in frames, and over layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.files import atomic_path
from asr.errors import DependencyError
from asr.training.diagnostics import Diagnosis, StateGradients

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What has shrunk below this is gone for any purpose; the axis ends here, or where the curves end before.
LOWEST_SHARE = 1e-12
LINES = {"forward": "-", "backward": "--"}
MARKERS = {"forward": ">", "backward": "<"}
ARROWS = {"forward": "→", "backward": "←"}


def draw(diagnosis: Diagnosis, path: Path) -> None:
    """Write the picture as PNG: a fresh model, the trained one, and both over layers.

    Raises:
        DependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyError(f"drawing needs matplotlib ({error}); `pip install matplotlib`") from None

    figure = Figure(figsize=(14, 4.5), layout="constrained")
    fresh, trained, layers = figure.subplots(1, 3, width_ratios=(5, 5, 3.4))
    trained.sharey(fresh)
    _over_distance(fresh, diagnosis.fresh, diagnosis.frame_shift_s)
    fresh.set_title("freshly initialised")
    fresh.set_ylabel("norm of ∂loss / ∂(hidden state), relative to distance 0")
    _over_distance(trained, diagnosis.trained, diagnosis.frame_shift_s)
    trained.set_title("trained")
    fresh.legend(title="layer (1 is the lowest)", ncols=2 if len(diagnosis.fresh) > 3 else 1, fontsize="small")
    shares = [share for item in diagnosis.fresh + diagnosis.trained for share in item.by_distance if share > 0]
    fresh.set_ylim(max(LOWEST_SHARE, 0.5 * min(shares)), 2 * max(shares))
    _over_layers(layers, diagnosis)
    figure.suptitle(f"{diagnosis.cell}: how far the loss's gradient reaches", fontsize="x-large")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _over_distance(axes: Axes, gradients: Sequence[StateGradients], frame_shift_s: float) -> None:
    from matplotlib import colormaps

    colours = colormaps["viridis"]
    top = max(item.layer for item in gradients)
    for item in gradients:
        axes.semilogy(
            item.by_distance,
            LINES[item.direction],
            color=colours(0.85 * (item.layer - 1) / max(1, top - 1)),
            label=f"{item.layer} {ARROWS[item.direction]}",
        )
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set_xlim(left=0, right=max(1, len(gradients[0].by_distance) - 1))
    axes.set_xlabel(f"distance in frames of {1000 * frame_shift_s:g} ms")
    axes.grid(alpha=0.3)


def _over_layers(axes: Axes, diagnosis: Diagnosis) -> None:
    for name, side, colour in (("fresh", diagnosis.fresh, "tab:grey"), ("trained", diagnosis.trained, "tab:red")):
        for direction in dict.fromkeys(item.direction for item in side):
            items = [item for item in side if item.direction == direction]
            axes.semilogy(
                [item.layer for item in items],
                [item.whole for item in items],
                LINES[direction],
                marker=MARKERS[direction],
                color=colour,
                label=f"{name} {ARROWS[direction]}",
            )
    axes.set_xticks(sorted({item.layer for item in diagnosis.trained}))
    axes.set_xlabel("layer (1 is the lowest)")
    axes.set_ylabel("norm of ∂loss / ∂(hidden state), mean of frames")
    axes.set_title("over layers")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
