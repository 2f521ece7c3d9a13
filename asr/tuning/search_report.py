"""What came of the trainings of a search → the best candidate and how sure that is: table, JSON, picture, settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, variance
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from asr.config import Config
from asr.files import to_json, write_text
from asr.plotting import BLUE, RED, save_figure, styled_figure
from asr.reading import counted
from asr.scoring.intervals import difference_margin, students_t
from asr.tuning.ranges import Range, Values, nested
from asr.tuning.trials import Outcome, Plan, Training, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TABLE, RESULTS, PICTURE, BEST = "candidates.tsv", "search.json", "search.png", "best.yaml"


@dataclass(frozen=True)
class Candidate:
    """Values that were tried, and what came of their trainings.

    Attributes:
        number: 0 has the settings that were given.
        values: by the dotted name of the setting.
        trials: the trainings that were begun, by epochs and seed.
    """

    number: int
    values: Values
    trials: dict[tuple[int, int], Trial]

    def outcomes(self, epochs: int) -> list[Outcome]:
        """Return the outcomes of the trainings with so many epochs, by seed."""
        found = (trial.outcome for (own, _), trial in sorted(self.trials.items()) if own == epochs)
        return [outcome for outcome in found if outcome is not None]

    def rate(self, epochs: int) -> float | None:
        """Return the mean error rate of the trainings with so many epochs; None if there is none."""
        rates = [outcome.rate for outcome in self.outcomes(epochs)]
        return mean(rates) if rates else None

    @property
    def failure(self) -> str | None:
        """Why a training failed; None if none did."""
        return next((trial.failure for trial in self.trials.values() if trial.failure is not None), None)


@dataclass(frozen=True)
class Sureness:
    """The error rate of one candidate minus that of another, and how far chance can explain it.

    Attributes:
        difference: negative if the first is better.
        margin: the true difference is at most this far from it, with a probability of 95 %.
        sample: the size of dev: its speakers, or its utterances where too few speakers are known, as `8 speakers`.
        seeds: number of trainings of each. With one, the margin knows nothing of the chance in training.
    """

    difference: float
    margin: float
    sample: str
    seeds: int

    @property
    def beyond_chance(self) -> bool:
        """Whether the difference is more than chance."""
        return abs(self.difference) > self.margin


@dataclass(frozen=True)
class SearchReport:
    """What a search found.

    Attributes:
        folder: that of the search.
        ranges: what was searched over.
        base: the settings that were given.
        plan: the rounds.
        trials: what came of each training.
        stopped: whether the search ended before its end; the same call continues it.
    """

    folder: Path
    ranges: Sequence[Range]
    base: Config
    plan: Plan
    trials: dict[Training, Trial]
    stopped: bool

    @cached_property
    def candidates(self) -> list[Candidate]:
        """All candidates, the best first: by the last round that they reached, then by their results there."""
        found: dict[int, Candidate] = {}
        for item, trial in self.trials.items():
            one = found.setdefault(item.candidate, Candidate(item.candidate, trial.values, {}))
            one.trials[item.epochs, item.seed] = trial
        return sorted(found.values(), key=self._order)

    def _order(self, candidate: Candidate) -> tuple[float, float, int]:
        for epochs in reversed(self.plan.epochs):
            if outcomes := candidate.outcomes(epochs):
                return -epochs, mean(outcome.merit for outcome in outcomes), candidate.number
        return 0.0, 0.0, candidate.number

    @property
    def finalists(self) -> list[Candidate]:
        """The candidates with results for all epochs, the best first."""
        return [one for one in self.candidates if one.outcomes(self.plan.epochs[-1])]

    @property
    def failed(self) -> list[Candidate]:
        """The candidates of which a training failed."""
        return [one for one in self.candidates if one.failure is not None]

    @property
    def best(self) -> Candidate | None:
        """The best candidate; None as long as the search is not finished."""
        return None if self.stopped or not self.finalists else self.finalists[0]

    def sureness(self, other: Candidate) -> Sureness:
        """Return how sure it is that the best candidate is better than another finalist."""
        assert self.best is not None
        epochs = self.plan.epochs[-1]
        return compare_outcomes(self.best.outcomes(epochs), other.outcomes(epochs))

    @property
    def rate_name(self) -> str:
        """What the figures are: WER, or CER in scripts without spaces."""
        outcomes = (trial.outcome for trial in self.trials.values() if trial.outcome is not None)
        return "CER" if any(outcome.by_characters for outcome in outcomes) else "WER"

    def rows(self) -> list[list[str]]:
        """Return the table, first its head: number, values, error rates on dev in % by round, minutes, remark."""
        last = self.plan.epochs[-1]
        head = ["candidate", *(one.name for one in self.ranges)]
        head += [f"{self.rate_name} {counted(epochs, 'epoch')}" for epochs in self.plan.epochs]
        rows = [[*head, "by seed", "minutes", "remark"]]
        for one in self.candidates:
            rates = [one.rate(epochs) for epochs in self.plan.epochs]
            outcomes = [trial.outcome for trial in one.trials.values() if trial.outcome is not None]
            remark = [] if one.failure is None else [f"failed: {one.failure}"]
            remark = ["as given", *remark] if one.number == 0 else remark
            row = [str(one.number), *(to_json(one.values[found.name]) for found in self.ranges)]
            row += ["" if rate is None else f"{100 * rate:.2f}" for rate in rates]
            row.append(" ".join(f"{100 * outcome.rate:.2f}" for outcome in one.outcomes(last)))
            row += [f"{sum(outcome.seconds for outcome in outcomes) / 60:.1f}", "; ".join(remark)]
            rows.append([" ".join(cell.split()) for cell in row])
        return rows

    def lines(self) -> list[str]:
        """Return in words what was found and how sure it is."""
        if self.best is None:
            done = sum(trial.finished for trial in self.trials.values())
            return [f"not finished, {counted(done, 'training')} so far; the same command continues the search"]
        best, given = self.best, next((one for one in self.finalists if one.number == 0), None)
        values = ", ".join(f"{name}={to_json(value)}" for name, value in best.values.items())
        lines = [f"candidate {best.number}: {values}", self._figure(best)]
        if best is given:
            lines.append("these are the settings that were given: the search found none that are better")
        elif given is not None:
            lines += [f"{self._figure(given)} with the settings that were given", self._words(given)]
        second = next((one for one in self.finalists if one is not best and one is not given), None)
        if second is not None:
            lines += [f"{self._figure(second)} of candidate {second.number}", self._words(second)]
        return lines

    def _figure(self, candidate: Candidate) -> str:
        outcomes = candidate.outcomes(self.plan.epochs[-1])
        rates = ", ".join(f"{100 * outcome.rate:.2f}" for outcome in outcomes)
        by_seed = f" (mean of {rates})" if len(outcomes) > 1 else ""
        return f"{100 * mean(outcome.rate for outcome in outcomes):.2f} % {self.rate_name} on dev{by_seed}"

    def _words(self, other: Candidate) -> str:
        sure = self.sureness(other)
        figures = f"{0 - 100 * sure.difference:.2f} ± {100 * sure.margin:.2f} % fewer"
        found = "more than chance" if sure.beyond_chance else "no more than chance"
        training = "" if sure.seeds > 1 else ", without the chance in training, of which one seed says nothing"
        return f"{figures}: {found} (95 %, over {sure.sample} of dev{training})"


def compare_outcomes(first: Sequence[Outcome], second: Sequence[Outcome]) -> Sureness:
    """Return the difference of two candidates' error rates, and how far chance can explain it.

    Chance is in dev, which another draw of speakers would give other errors, and in training, where another seed would.
    The variances of both are added: a jackknife over the speakers, of each speaker's mean errors over the seeds, and
    Welch's interval over the seeds. What the seeds change in single speakers counts in both, so the margin is rather
    too wide than too narrow.

    Args:
        first: one candidate's outcomes, by seed.
        second: the other one's, on the same dev set.
    """
    lengths = np.array(first[0].unit_lengths)
    errors = [np.mean([outcome.unit_errors for outcome in outcomes], axis=0) for outcomes in (first, second)]
    gains = errors[0] - errors[1]
    margin = math.hypot(difference_margin(gains, lengths), _seeds_margin(first, second))
    unit = "speakers" if len(lengths) < first[0].utterances else "utterances"
    seeds = min(len(first), len(second))
    return Sureness(float(gains.sum() / lengths.sum()), margin, f"{len(lengths)} {unit}", seeds)


def _seeds_margin(first: Sequence[Outcome], second: Sequence[Outcome]) -> float:
    """Return half of Welch's 95 % interval of the difference of two means; 0 where one seed says nothing."""
    if min(len(first), len(second)) < 2:
        return 0.0
    parts = [(variance(one.rate for one in several) / len(several), len(several) - 1) for several in (first, second)]
    total = sum(part for part, _ in parts)
    if total == 0:
        return 0.0
    degrees = total**2 / sum(part**2 / of for part, of in parts)
    return students_t(0.95, degrees) * math.sqrt(total)


def write_report(report: SearchReport) -> None:
    """Write the table, the same as JSON, the picture and, if the search is finished, the best settings."""
    rows = "".join("\t".join(row) + "\n" for row in report.rows())
    write_text(report.folder / TABLE, rows)
    write_text(report.folder / RESULTS, to_json(_as_json(report), indent=2) + "\n")
    if any(trial.outcome is not None for trial in report.trials.values()):
        draw_search(report, report.folder / PICTURE)
    if report.best is not None:
        comment = "".join(f"# {line}\n" for line in ("Chosen by `asr search`:", *report.lines()))
        settings = nested(report.base.model_dump(mode="json", exclude_unset=True), report.best.values)
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        write_text(report.folder / BEST, comment + text)


def _as_json(report: SearchReport) -> dict[str, Any]:
    best, given = report.best, next((one for one in report.finalists if one.number == 0), None)
    compared = None if best is None or given is None or best is given else asdict(report.sureness(given))
    return {
        "finished": best is not None,
        "best": None if best is None else best.number,
        "against_given": compared,
        "rounds": [{"epochs": epochs} for epochs in report.plan.epochs],
        "seeds": list(report.plan.seeds),
        "ranges": {one.name: one.written() for one in report.ranges},
        "rate": report.rate_name,
        "candidates": [
            {
                "number": one.number,
                "values": one.values,
                "trainings": [
                    {"epochs": epochs, "seed": seed, "failure": trial.failure, **_figures(trial.outcome)}
                    for (epochs, seed), trial in sorted(one.trials.items())
                ],
            }
            for one in report.candidates
        ],
    }


def _figures(outcome: Outcome | None) -> dict[str, Any]:
    return {} if outcome is None else {name: getattr(outcome, name) for name in ("rate", "cer", "loss", "seconds")}


def draw_search(report: SearchReport, path: Path) -> None:
    """Write a picture: error rates by round, and beside it those of the first round over each setting's values."""
    columns = 1 + len(report.ranges)
    with styled_figure(3.0 * columns + 1.0, 3.6) as figure:
        widths = (1.4, *[1.0] * len(report.ranges))
        rounds, *settings = figure.subplots(1, columns, width_ratios=widths, squeeze=False)[0]
        _draw_rounds(rounds, report)
        for axes, one in zip(settings, report.ranges, strict=True):
            _draw_setting(axes, one, report)
        colours = "red: the best candidate, dashed: the settings that were given"
        figure.suptitle(f"{report.rate_name} on dev, in %; {colours}")
        save_figure(figure, path)


def _colour(report: SearchReport, candidate: Candidate) -> dict[str, Any]:
    is_best = candidate is report.best
    style = "--" if candidate.number == 0 else "-"
    return {"color": RED if is_best else BLUE, "zorder": 3 if is_best else 2, "linestyle": style}


def _draw_rounds(axes: Axes, report: SearchReport) -> None:
    last = report.plan.epochs[-1]
    for one in report.candidates:
        found = [(epochs, one.rate(epochs)) for epochs in report.plan.epochs]
        epochs = [number for number, rate in found if rate is not None]
        rates = [100 * rate for _, rate in found if rate is not None]
        axes.plot(epochs, rates, marker="o", markersize=4, **_colour(report, one))
        seeds = [100 * outcome.rate for outcome in one.outcomes(last)]
        axes.plot([last] * len(seeds), seeds, "_", markersize=12, color=_colour(report, one)["color"])
    axes.set_xscale("log")
    axes.set_xticks(report.plan.epochs, [str(epochs) for epochs in report.plan.epochs], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("epochs of the training")
    axes.set_title("each candidate, round by round")
    axes.grid()


def _draw_setting(axes: Axes, one: Range, report: SearchReport) -> None:
    first = report.plan.epochs[0]
    found = [(item, item.values[one.name], item.rate(first)) for item in report.candidates]
    shown = [(item, value, 100 * rate) for item, value, rate in found if rate is not None]
    labels = [to_json(choice) for choice in one.choices]
    strange = sorted({to_json(value) for _, value, _ in shown if value not in one} if one.choices else set())
    labels += strange
    for item, value, rate in shown:
        place = labels.index(to_json(value)) if one.choices else value
        axes.plot([place], [rate], "o", markersize=5, color=_colour(report, item)["color"])
    if one.choices:
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)
    elif one.log:
        axes.set_xscale("log")
    axes.set_title(f"after {counted(first, 'epoch')}")
    axes.set_xlabel(one.name)
    axes.grid()
