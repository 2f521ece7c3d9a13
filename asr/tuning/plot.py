"""The picture of a tuning: the dev set's word error rate over what was tried."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from asr.files import atomic_path
from asr.tuning.tune import BEAM_SIZES, INSERTION_BONUS_STEP, LM_WEIGHT_STEP, WEIGHTS_BEAM_SIZE, Trial, TuneResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Worse than so many times the best rate is dark, however much worse: else the colours would not tell good from better.
WORST_TOLD = 3.0
# Inches: of a column and a row of the coarse grid, of the axes with the beam sizes, and of labels and titles.
COLUMN_IN, ROW_IN, BEAMS_IN, MARGIN_IN = 0.95, 0.66, 3.2, 1.3
COLOURS, MARK = "viridis_r", "tab:red"


def draw_tuning(result: TuneResult, words: int, path: Path) -> None:
    """Write the picture as PNG: the rate over LM weight and insertion bonus, and beside it over the beam size.

    Args:
        result: of `tune`.
        words: how many the references hold.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    coarse = [trial for trial in result.surface if _is_coarse(trial)]
    width_in = COLUMN_IN * len({trial.lm_weight for trial in coarse}) + MARGIN_IN
    height_in = ROW_IN * len({trial.insertion_bonus for trial in coarse}) + MARGIN_IN
    figure = Figure(figsize=(width_in + BEAMS_IN, height_in), layout="constrained")
    surface, beams = figure.subplots(1, 2, width_ratios=(width_in, BEAMS_IN))
    _draw_surface(surface, result, words)
    _draw_beams(beams, result, words)
    title = f"word error rate on dev, in % of {words} words\nframed: chosen, the most usual within chance of the best"
    figure.suptitle(title, fontsize="x-large")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw_surface(axes: Axes, result: TuneResult, words: int) -> None:
    """Draw a cell for each trial; those of the finer grid lie over those of the coarse one, at half the size."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    trials = result.surface
    rates = [100 * trial.errors / words for trial in trials]
    lowest, highest = min(rates), max(rates)
    told = min(highest, WORST_TOLD * lowest) if lowest > 0 else highest
    colours, scale = colormaps[COLOURS], Normalize(lowest, told if told > lowest else lowest + 1, clip=True)

    def cell(trial: Trial, size: int) -> Rectangle:
        """Return a rectangle as wide and high as so many steps, around the trial's weights."""
        width, height = size * LM_WEIGHT_STEP, size * INSERTION_BONUS_STEP
        return Rectangle((trial.lm_weight - width / 2, trial.insertion_bonus - height / 2), width, height)

    fine = [trial for trial in trials if not _is_coarse(trial)]
    near = {trial.lm_weight for trial in fine}, {trial.insertion_bonus for trial in fine}
    coarse_cells = [(trial, 2) for trial in trials if _is_coarse(trial)]
    fine_cells = [(trial, 1) for trial in trials if trial.lm_weight in near[0] and trial.insertion_bonus in near[1]]
    laid_over = {trial for trial, _ in fine_cells}
    for trial, size in (*coarse_cells, *fine_cells):
        rate = 100 * trial.errors / words
        colour = colours(float(scale(rate)))
        patch = cell(trial, size)
        patch.set(facecolor=colour, edgecolor="white", linewidth=0.5)
        axes.add_patch(patch)
        if size == 1 or trial not in laid_over:
            light = 0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2]
            axes.annotate(
                _digits(rate),
                trial[:2],
                color="black" if light > 0.45 else "white",
                fontsize=10 if size == 2 else 8,
                ha="center",
                va="center",
            )
    chosen = next(trial for trial in trials if trial[:2] == (result.best.lm_weight, result.best.insertion_bonus))
    frame = cell(chosen, 1 if chosen in laid_over else 2)
    frame.set(fill=False, edgecolor=MARK, linewidth=2.5)
    axes.add_patch(frame)
    axes.margins(0.01)
    axes.autoscale_view()
    axes.set_xticks(sorted({trial.lm_weight for trial, _ in coarse_cells}))
    axes.set_yticks(sorted({trial.insertion_bonus for trial, _ in coarse_cells}))
    axes.set_xlabel("LM weight")
    axes.set_ylabel("insertion bonus, natural log per token")
    others = [f"{name} {getattr(result.best, name):g}" for name in result.chosen[3:]]
    axes.set_title(", ".join([f"beam size {WEIGHTS_BEAM_SIZE}", *others]))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_beams(axes: Axes, result: TuneResult, words: int) -> None:
    best = result.best
    rates = [100 * result.errors(best.lm_weight, best.insertion_bonus, size) / words for size in BEAM_SIZES]
    axes.plot(BEAM_SIZES, rates, "o-", color="tab:grey", clip_on=False)  # whole also at 0, where the axis begins
    for size, rate in zip(BEAM_SIZES, rates, strict=True):
        axes.annotate(_digits(rate), (size, rate), xytext=(0, 12), textcoords="offset points", ha="center")
    chosen = rates[BEAM_SIZES.index(best.beam_size)]
    (frame,) = axes.plot([best.beam_size], [chosen], "s", markersize=14, fillstyle="none", clip_on=False)
    frame.set(color=MARK, markeredgewidth=2.5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(BEAM_SIZES, [str(size) for size in BEAM_SIZES])
    axes.set_xlim(BEAM_SIZES[0] / 1.5, BEAM_SIZES[-1] * 1.5)
    highest = max(*rates, 1.0)
    axes.set_ylim(0, 1.2 * highest)
    axes.set_xlabel("beam size, prefixes kept at a frame")
    axes.set_ylabel("word error rate, %")
    axes.set_title(f"LM weight {best.lm_weight:g}, bonus {best.insertion_bonus:g}")
    axes.grid(alpha=0.3)


def _is_coarse(trial: Trial) -> bool:
    """Whether the weights lie on the coarse grid, which has twice the steps of the fine one."""
    steps = trial.lm_weight / (2 * LM_WEIGHT_STEP), trial.insertion_bonus / (2 * INSERTION_BONUS_STEP)
    return all(abs(value - round(value)) < 1e-6 for value in steps)


def _digits(rate: float) -> str:
    return f"{rate:.2f}" if rate < 10 else f"{rate:.1f}"
