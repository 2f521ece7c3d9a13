"""A model folder and a dev set → the settings of the search and the calibration of confidences, in the folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr.bundle.files import TUNE_PLOT, TUNE_TRIALS
from asr.bundle.settings import save_calibration, save_decode_settings
from asr.corpus.manifest import known_speakers, load_manifest
from asr.errors import ConfigError, ModelError, ScoringError
from asr.files import to_json, write_text
from asr.inference.decoder import Decoder
from asr.machine import Accelerator, Progress, silent
from asr.plotting import RED, save_figure, styled_figure
from asr.scoring.calibration import CalibrationScore, score_calibration
from asr.scoring.error_counts import main_unit
from asr.scoring.expected_errors import ExpectedErrors, fit_expected_errors
from asr.scoring.intervals import speakers_of
from asr.search_config import DecodeSettings
from asr.sharing.names import own_folder
from asr.text.units import words_of
from asr.transcript.confidence import Calibration, Evidence, evidence_features
from asr.tuning.dev_search import (
    DevBatch,
    DevSearch,
    UtteranceFigures,
    require_language_models,
    run_network,
    usual_jobs,
)
from asr.tuning.weights import (
    CHOSEN,
    INSERTION_BONUS_STEP,
    LM_WEIGHT_STEP,
    Choice,
    DevSet,
    Measured,
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
        calibration: of the confidences.
        confidences: how well they agree with the facts on dev; None if no word was recognised.
        expected_errors: how `asr.label` and `asr.choose` guess the errors of an utterance; None likewise.
    """

    folder: Path
    choice: Choice
    calibration: Calibration
    confidences: CalibrationScore | None
    expected_errors: ExpectedErrors | None

    @property
    def rate(self) -> float:
        """The error rate on dev with the chosen settings: of words, or in scripts without spaces of characters."""
        best = self.choice.best
        return self.choice.errors(best.lm_weight, best.insertion_bonus, best.beam_size) / self.choice.dev.length

    @property
    def rate_without_lm(self) -> float:
        """The same without the n-gram and without an insertion bonus."""
        return self.choice.errors(0.0, 0.0, self.choice.best.beam_size) / self.choice.dev.length


def tune(
    model: str | os.PathLike[str],
    manifest: str | os.PathLike[str],
    *,
    jobs: int | None = None,
    decode: Mapping[str, Any] | None = None,
    accelerator: Accelerator = "auto",
    progress: Progress = silent,
) -> TuneReport:
    """Choose the settings of a model's search that suit a dev set, and calibrate its confidences there.

    Chosen are the LM weight and the insertion bonus. `rnn_weight`, `rescore_weight` and, with lm=words, `oov_penalty`
    are chosen too if the settings give them a value. Usual weights stay unless others are better by more than chance,
    see `asr/tuning/weights.py`. The results go into the model folder: settings, calibration, all that was tried, and a
    plot of it.

    Args:
        model: a model folder with a language model.
        manifest: the dev set.
        jobs: number of processes that search. Default: one a core, fewer for little audio.
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
    folder, decode = own_folder(model), decode or {}
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
    measured_on, group_of = _dev_set(batches, known_speakers(cuts))
    if measured_on.length == 0:
        raise ScoringError(f"{manifest}: no transcript holds a word, so there are no errors to choose by")
    with DevSearch(decoder, batches, jobs or usual_jobs(sum(cut.duration for cut in cuts))) as dev:

        def measure(what: str, several: Sequence[DecodeSettings]) -> list[Measured]:
            with progress(what, len(several) * len(batches)) as advance:
                found = dev.figures(several, measured_on.unit, advance)
            return [_measured(figures, group_of) for figures in found]

        choice = choose_settings(measure, settings, measured_on)
        heard = dev.evidence(choice.best)
    evidence, right = [item for one in heard for item in one.evidence], [item for one in heard for item in one.right]
    calibration = fit_calibration(evidence, right)
    confidences = [calibration.confidence(item) for item in evidence]
    score = score_calibration(confidences, right) if confidences else None
    expected = fit_expected_errors([one.seen_by(calibration) for one in heard]) if confidences else None
    report = TuneReport(folder, choice, calibration, score, expected)
    _write(report)
    return report


def _dev_set(batches: Sequence[DevBatch], speakers: Mapping[str, str]) -> tuple[DevSet, NDArray[np.int64]]:
    """Return what is measured on, and the number of each utterance's speaker or of the utterance itself."""
    references = {name: text for batch in batches for name, text in zip(batch.ids, batch.references, strict=True)}
    unit = main_unit(references.values())
    groups = speakers_of(list(references), speakers)
    _, group_of = np.unique(groups or list(references), return_inverse=True)
    lengths = np.zeros(group_of.max() + 1, np.int64)
    np.add.at(lengths, group_of, [len(words_of(text) if unit == "word" else text) for text in references.values()])
    return DevSet(unit, lengths, "utterances" if groups is None else "speakers"), group_of


def _measured(figures: Sequence[UtteranceFigures], group_of: NDArray[np.int64]) -> Measured:
    """Return the errors of a dev set and the losses of its speakers or utterances."""
    losses = np.zeros(group_of.max() + 1)
    np.add.at(losses, group_of, [utterance.loss for utterance in figures])
    return Measured(sum(utterance.errors for utterance in figures), losses)


def _write(report: TuneReport) -> None:
    save_decode_settings(report.choice.best, report.folder)
    save_calibration(report.calibration, report.folder)
    if report.expected_errors is not None:
        report.expected_errors.save(report.folder)
    trials = to_json(report.choice.to_json(), indent=2)
    write_text(report.folder / TUNE_TRIALS, f"{trials}\n")
    draw_tuning(report.choice, report.folder / TUNE_PLOT)


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


def draw_tuning(result: Choice, path: Path) -> None:
    """Write a plot of the error rate over LM weight and insertion bonus, and beside it over the beam size."""
    coarse = [trial for trial in result.surface if _is_coarse(trial)]
    width_in = COLUMN_IN * len({trial.point.lm_weight for trial in coarse}) + MARGIN_IN
    height_in = ROW_IN * len({trial.point.insertion_bonus for trial in coarse}) + MARGIN_IN
    with styled_figure(width_in + BEAMS_IN, height_in) as figure:
        surface, beams = figure.subplots(1, 2, width_ratios=(width_in, BEAMS_IN))
        _draw_surface(surface, result)
        _draw_beams(beams, result)
        title = f"{result.dev.unit} error rate on dev, in % of {result.dev.length} {result.dev.unit}s"
        framed = f"framed: chosen, the most usual of those within chance of the lowest loss, over {result.dev.drawn}"
        figure.suptitle(f"{title}\n{framed}", fontsize="large")
        save_figure(figure, path)


def _draw_surface(axes: Axes, result: Choice) -> None:
    """Draw a cell for each trial. The cells of the finer grid are half as wide and high, and cover the coarse ones."""
    trials, length = result.surface, result.dev.length
    fine = [trial for trial in trials if not _is_coarse(trial)]
    weights, bonuses = {trial.point.lm_weight for trial in fine}, {trial.point.insertion_bonus for trial in fine}
    coarse = [trial for trial in trials if _is_coarse(trial)]
    covering = [
        trial for trial in trials if trial.point.lm_weight in weights and trial.point.insertion_bonus in bonuses
    ]
    colour = _colouring([100 * trial.errors / length for trial in trials])
    for trial, steps in [*((trial, 2) for trial in coarse), *((trial, 1) for trial in covering)]:
        cell = _cell(trial, steps)
        cell.set(facecolor=colour(100 * trial.errors / length), edgecolor="white", linewidth=0.5)
        axes.add_patch(cell)
    for trial in trials:
        rate, small = 100 * trial.errors / length, trial in covering
        axes.annotate(
            _digits(rate),
            trial.point[:2],
            color=_readable_on(colour(rate)),
            fontsize=8 if small else 10,
            ha="center",
            va="center",
        )
    chosen = next(trial for trial in trials if trial.point[:2] == (result.best.lm_weight, result.best.insertion_bonus))
    frame = _cell(chosen, 1 if chosen in covering else 2)
    frame.set(fill=False, edgecolor=RED, linewidth=2.5)
    axes.add_patch(frame)
    axes.margins(0.01)
    axes.autoscale_view()
    axes.set_xticks(sorted({trial.point.lm_weight for trial in coarse}))
    axes.set_yticks(sorted({trial.point.insertion_bonus for trial in coarse}))
    axes.set_xlabel("LM weight")
    axes.set_ylabel("insertion bonus, natural log per token")
    others = [f"{name} {getattr(result.best, name):g}" for name in result.chosen[len(CHOSEN) :]]
    axes.set_title(", ".join([f"beam size {result.best.beam_size}", *others]))
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
    return Rectangle((trial.point.lm_weight - width / 2, trial.point.insertion_bonus - height / 2), width, height)


def _draw_beams(axes: Axes, result: Choice) -> None:
    best = result.best
    sizes = [trial.point.beam_size for trial in result.beams]
    rates = [100 * trial.errors / result.dev.length for trial in result.beams]
    axes.plot(sizes, rates, "o-", color="tab:grey", clip_on=False)  # whole at 0 too
    for size, rate in zip(sizes, rates, strict=True):
        axes.annotate(_digits(rate), (size, rate), xytext=(0, 12), textcoords="offset points", ha="center")
    used = rates[sizes.index(best.beam_size)]
    (frame,) = axes.plot([best.beam_size], [used], "s", markersize=14, fillstyle="none", clip_on=False)
    frame.set(color=RED, markeredgewidth=2.5)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
    highest = max(*rates, 1.0)
    axes.set_ylim(0, 1.2 * highest)
    axes.set_xlabel("beam size (prefixes kept per frame)")
    axes.set_ylabel(f"{result.dev.unit} error rate, %")
    axes.set_title(f"LM weight {best.lm_weight:g}, bonus {best.insertion_bonus:g}")
    axes.grid()


def _is_coarse(trial: Trial) -> bool:
    """Return whether the weights are on the coarse grid, whose steps are twice those of the fine one."""
    steps = trial.point.lm_weight / (2 * LM_WEIGHT_STEP), trial.point.insertion_bonus / (2 * INSERTION_BONUS_STEP)
    return all(abs(value - round(value)) < 1e-6 for value in steps)


def _digits(rate: float) -> str:
    return f"{rate:.2f}" if rate < 10 else f"{rate:.1f}"
