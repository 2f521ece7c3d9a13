"""A model folder and a dev set → the settings of the search and the calibration of confidences, in the folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from asr.bundle.files import TUNE_PLOT, TUNE_TRIALS
from asr.bundle.settings import save_calibration, save_decode_settings
from asr.config import DecodeSettings
from asr.corpus.manifest import load_manifest
from asr.errors import ConfigError, ModelError, ScoringError
from asr.files import to_json, write_text
from asr.inference.decoder import Decoder
from asr.machine import Accelerator, Progress, silent
from asr.plotting import RED, save_figure, styled_figure
from asr.scoring.calibration import CalibrationScore, score_calibration
from asr.text.units import words_of
from asr.transcript.confidence import Calibration, Evidence, evidence_features
from asr.tuning.dev_search import DevBatch, DevSearch, require_language_models, run_network, usual_jobs
from asr.tuning.weights import (
    BEAM_SIZES,
    CHOSEN,
    INSERTION_BONUS_STEP,
    LM_WEIGHT_STEP,
    WEIGHTS_BEAM_SIZE,
    Choice,
    Trial,
    choose_settings,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle


@dataclass(frozen=True)
class TuneReport:
    """What `tune` chose.

    Attributes:
        folder: the model folder, which now holds it.
        choice: the settings, and all that was tried.
        words: how many words the dev set's references have.
        calibration: of the confidences.
        confidences: how well they agree with the facts on dev; None if no word was recognised.
    """

    folder: Path
    choice: Choice
    words: int
    calibration: Calibration
    confidences: CalibrationScore | None

    @property
    def wer(self) -> float:
        """The word error rate on dev with the chosen settings."""
        best = self.choice.best
        return self.choice.errors(best.lm_weight, best.insertion_bonus, best.beam_size) / self.words

    @property
    def wer_without_lm(self) -> float:
        """The word error rate on dev without the n-gram and without an insertion bonus."""
        return self.choice.errors(0.0, 0.0, WEIGHTS_BEAM_SIZE) / self.words


def tune(
    model: str | os.PathLike[str],
    manifest: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    decode: Mapping[str, Any] | None = None,
    accelerator: Accelerator = "auto",
    progress: Progress = silent,
) -> TuneReport:
    """Choose the settings of a model's search by the word errors on a dev set, and calibrate its confidences there.

    Chosen are the LM weight, the insertion bonus and the beam size. `rnn_weight`, `rescore_weight` and, with lm=words,
    `oov_penalty` are chosen too if the settings give them a value. The results go into the model folder: settings,
    calibration, all that was tried, and a plot of it.

    Args:
        model: a model folder with a language model.
        manifest: the dev set.
        jobs: number of processes that search. Default: one a core, fewer for little audio, one on a GPU.
        decode: settings of the search in place of the folder's, e.g. `{"lm": "words"}`; they are kept too.
        accelerator: where the network runs; auto takes a GPU if there is one.
        progress: shows how far each step is.

    Raises:
        ConfigError: `decode` gives a setting that is chosen, an unknown one, or a value out of range.
        ModelError: the model folder cannot be used, or has no language model.
        ManifestError: the manifest is missing, malformed or empty.
        ScoringError: no transcript of the dev set holds a word.
        AsrError: a process died.
    """
    folder, decode = Path(model), decode or {}
    if chosen := [name for name in CHOSEN if name in decode]:
        raise ConfigError(f"decode: {', '.join(chosen)}: this is what tune chooses; leave it out")
    decoder = Decoder.load(folder, accelerator=accelerator, decode=decode)
    settings = decoder.bundle.config.decode
    if settings.lm == "tokens" and decoder.bundle.lm_path is None:
        raise ModelError(f"{folder}: no language model to weigh; `asr lm ngram TEXT --model {folder}` estimates one")
    require_language_models(decoder)

    cuts = load_manifest(Path(manifest))
    batches: list[DevBatch] = []
    with progress("log-posteriors", len(cuts)) as advance:
        for batch in run_network(decoder, cuts):
            batches.append(batch)
            advance(len(batch.references))
    words = sum(len(words_of(reference)) for batch in batches for reference in batch.references)
    if words == 0:
        raise ScoringError(f"{manifest}: no transcript holds a word, so there are no errors to choose by")
    with DevSearch(decoder, batches, jobs or usual_jobs(decoder, sum(cut.duration for cut in cuts))) as dev:
        choice = _choose(dev, settings, len(batches), progress)
        evidence, right = dev.evidence(choice.best)
    calibration = fit_calibration(evidence, right)
    confidences = [calibration.confidence(item) for item in evidence]
    report = TuneReport(
        folder, choice, words, calibration, score_calibration(confidences, right) if confidences else None
    )
    _write(report)
    return report


def _choose(dev: DevSearch, settings: DecodeSettings, batches: int, progress: Progress) -> Choice:
    def count_errors(what: str, several: Sequence[DecodeSettings]) -> list[int]:
        with progress(what, len(several) * batches) as advance:
            return dev.count_errors(several, advance)

    return choose_settings(count_errors, settings)


def _write(report: TuneReport) -> None:
    save_decode_settings(report.choice.best, report.folder)
    save_calibration(report.calibration, report.folder)
    trials = to_json(report.choice.to_json(report.words), indent=2)
    write_text(report.folder / TUNE_TRIALS, f"{trials}\n")
    draw_tuning(report.choice, report.words, report.folder / TUNE_PLOT)


# Ridge: with few errors on dev, extreme coefficients would fit them by chance.
_RIDGE = 1.0
_NEWTON_STEPS = 50


def fit_calibration(evidence: Sequence[Evidence], right: Sequence[bool]) -> Calibration:
    """Return the calibration under which these words are most probably right and the others wrong.

    It is a logistic regression with a ridge, solved by Newton's method.

    Args:
        evidence: of the words of a dev set; words without a posterior are left out.
        right: whether each word is right.

    Returns:
        The defaults if no word is wrong, or none is right: then there is nothing to learn from.
    """
    pairs = [pair for pair in zip(evidence, right, strict=True) if pair[0].posterior is not None]
    y = np.array([is_right for _, is_right in pairs], np.float64)
    if not 0 < y.sum() < len(y):
        return Calibration()
    x = evidence_features([item for item, _ in pairs])
    ridge = np.diag([1e-6, _RIDGE, _RIDGE])
    coefficients = np.zeros(3)
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-x @ coefficients))
        gradient = x.T @ (y - p) - ridge @ coefficients
        coefficients += np.linalg.solve((x.T * (p * (1 - p))) @ x + ridge, gradient)
    return Calibration(*coefficients.tolist())


Colour: TypeAlias = tuple[float, float, float, float]  # red, green, blue, opacity: 0 to 1

# The darkest colour is three times the best rate and everything above. Otherwise one very bad rate would take up the
# colours, and good could not be told from better.
WORST_TOLD = 3.0
# Inches: a column and a row of the coarse grid, the axes with the beam sizes, labels and titles.
COLUMN_IN, ROW_IN, BEAMS_IN, MARGIN_IN = 0.95, 0.66, 3.2, 1.3
COLOURS = "viridis_r"


def draw_tuning(result: Choice, words: int, path: Path) -> None:
    """Write a plot of the rate over LM weight and insertion bonus, and beside it over the beam size.

    Args:
        result: what was tried and chosen.
        words: number of words in the references.
        path: where to write, e.g. `tune.png`.
    """
    coarse = [trial for trial in result.surface if _is_coarse(trial)]
    width_in = COLUMN_IN * len({trial.lm_weight for trial in coarse}) + MARGIN_IN
    height_in = ROW_IN * len({trial.insertion_bonus for trial in coarse}) + MARGIN_IN
    with styled_figure(width_in + BEAMS_IN, height_in) as figure:
        surface, beams = figure.subplots(1, 2, width_ratios=(width_in, BEAMS_IN))
        _draw_surface(surface, result, words)
        _draw_beams(beams, result, words)
        title = f"word error rate on dev, in % of {words} words"
        framed = "framed: chosen, the most usual of those that differ from the best by no more than chance"
        figure.suptitle(f"{title}\n{framed}", fontsize="large")
        save_figure(figure, path)


def _draw_surface(axes: Axes, result: Choice, words: int) -> None:
    """Draw a cell for each trial. The cells of the finer grid are half as wide and high, and cover the coarse ones."""
    trials = result.surface
    fine = [trial for trial in trials if not _is_coarse(trial)]
    near = {trial.lm_weight for trial in fine}, {trial.insertion_bonus for trial in fine}
    coarse = [trial for trial in trials if _is_coarse(trial)]
    covering = [trial for trial in trials if trial.lm_weight in near[0] and trial.insertion_bonus in near[1]]
    colour = _colouring([100 * trial.errors / words for trial in trials])
    for trial, steps in [*((trial, 2) for trial in coarse), *((trial, 1) for trial in covering)]:
        cell = _cell(trial, steps)
        cell.set(facecolor=colour(100 * trial.errors / words), edgecolor="white", linewidth=0.5)
        axes.add_patch(cell)
    for trial in trials:
        rate, small = 100 * trial.errors / words, trial in covering
        axes.annotate(
            _digits(rate),
            trial[:2],
            color=_readable_on(colour(rate)),
            fontsize=8 if small else 10,
            ha="center",
            va="center",
        )
    chosen = next(trial for trial in trials if trial[:2] == (result.best.lm_weight, result.best.insertion_bonus))
    frame = _cell(chosen, 1 if chosen in covering else 2)
    frame.set(fill=False, edgecolor=RED, linewidth=2.5)
    axes.add_patch(frame)
    axes.margins(0.01)
    axes.autoscale_view()
    axes.set_xticks(sorted({trial.lm_weight for trial in coarse}))
    axes.set_yticks(sorted({trial.insertion_bonus for trial in coarse}))
    axes.set_xlabel("LM weight")
    axes.set_ylabel("insertion bonus, natural log per token")
    others = [f"{name} {getattr(result.best, name):g}" for name in result.chosen[3:]]
    axes.set_title(", ".join([f"beam size {WEIGHTS_BEAM_SIZE}", *others]))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _colouring(rates: Sequence[float]) -> Callable[[float], Colour]:
    """Return what gives each rate its colour, from the lowest of these rates on."""
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    lowest, highest = min(rates), max(rates)
    darkest = min(highest, WORST_TOLD * lowest) if lowest > 0 else highest
    scale = Normalize(lowest, darkest if darkest > lowest else lowest + 1, clip=True)
    return lambda rate: colormaps[COLOURS](float(scale(rate)))


def _readable_on(colour: Colour) -> str:
    """Return the colour of text on a coloured cell."""
    red, green, blue, _ = colour
    return "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.45 else "white"


def _cell(trial: Trial, steps: int) -> Rectangle:
    """Return a rectangle that is `steps` wide and high, around the trial's weights."""
    from matplotlib.patches import Rectangle

    width, height = steps * LM_WEIGHT_STEP, steps * INSERTION_BONUS_STEP
    return Rectangle((trial.lm_weight - width / 2, trial.insertion_bonus - height / 2), width, height)


def _draw_beams(axes: Axes, result: Choice, words: int) -> None:
    best = result.best
    rates = [100 * result.errors(best.lm_weight, best.insertion_bonus, size) / words for size in BEAM_SIZES]
    axes.plot(BEAM_SIZES, rates, "o-", color="tab:grey", clip_on=False)  # whole at 0 too
    for size, rate in zip(BEAM_SIZES, rates, strict=True):
        axes.annotate(_digits(rate), (size, rate), xytext=(0, 12), textcoords="offset points", ha="center")
    chosen = rates[BEAM_SIZES.index(best.beam_size)]
    (frame,) = axes.plot([best.beam_size], [chosen], "s", markersize=14, fillstyle="none", clip_on=False)
    frame.set(color=RED, markeredgewidth=2.5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(BEAM_SIZES, [str(size) for size in BEAM_SIZES])
    axes.set_xlim(BEAM_SIZES[0] / 1.5, BEAM_SIZES[-1] * 1.5)
    highest = max(*rates, 1.0)
    axes.set_ylim(0, 1.2 * highest)
    axes.set_xlabel("beam size (prefixes kept per frame)")
    axes.set_ylabel("word error rate, %")
    axes.set_title(f"LM weight {best.lm_weight:g}, bonus {best.insertion_bonus:g}")
    axes.grid()


def _is_coarse(trial: Trial) -> bool:
    """Return whether the weights are on the coarse grid, whose steps are twice those of the fine one."""
    steps = trial.lm_weight / (2 * LM_WEIGHT_STEP), trial.insertion_bonus / (2 * INSERTION_BONUS_STEP)
    return all(abs(value - round(value)) < 1e-6 for value in steps)


def _digits(rate: float) -> str:
    return f"{rate:.2f}" if rate < 10 else f"{rate:.1f}"
