"""A comparison → the tables of it that `asr compare` prints, and that its page shows. No torch."""

from __future__ import annotations

from typing import Any

import yaml
from rich.cells import cell_len, set_cell_size

from asr.files import printable
from asr.reading import counted
from asr.reporting.comparison import ComparedPair, Comparison
from asr.reporting.report import columns
from asr.scoring.error_counts import RATE_NAMES
from asr.scoring.intervals import Interval

_WIDEST_VALUE = 30  # columns of a setting in the terminal
_UNKNOWN = "–"


def to_text(comparison: Comparison) -> str:
    """Return the tables for the terminal: systems, pairs, which utterances differ, settings."""
    sections = [
        "\n".join(f"{system.letter}   {printable(system.folder)}" for system in comparison.systems),
        f"{columns(system_rows(comparison))}\n{sample_text(comparison)}",
        "\n".join([columns(pair_rows(comparison)), *test_lines(comparison)]),
        f"{columns(outcome_rows(comparison))}\nutterances without and with errors",
    ]
    if comparison.settings:
        sections.append(columns(setting_rows(comparison, _WIDEST_VALUE)))
    sections += [f"note: {printable(note)}" for note in comparison.notes]
    return "\n\n".join(sections)


def system_rows(comparison: Comparison) -> list[list[str]]:
    """Return a table of texts: a head, and a row for each system; the main error rate is first."""
    rates = list(RATE_NAMES.values())[:: 1 if comparison.unit == "word" else -1]
    rows = [["", *(head for rate in rates for head in (rate, "95 % interval")), "size", "training"]]
    for system in comparison.systems:
        score = system.score
        figures = {"WER": (score.wer, score.word_interval), "CER": (score.cer, score.character_interval)}
        cells = [cell for rate in rates for cell in (_percent(figures[rate][0]), _range(figures[rate][1]))]
        rows.append([system.letter, *cells, _size(system.parameters), _duration(system.training_s)])
    return rows


def pair_rows(comparison: Comparison) -> list[list[str]]:
    """Return a table of texts: a head, and a row for each pair with its difference, interval, p-values and verdict."""
    several = len(comparison.pairs) > 1
    rows = [[RATE_NAMES[comparison.unit], "difference", "95 % interval", "p", *["p (Holm)"] * several, "MAPSSWE", ""]]
    for pair in comparison.pairs:
        difference = pair.difference
        rows.append(
            [
                f"{pair.second} − {pair.first}",
                f"{100 * difference.difference:+.2f} %",
                _range(difference.interval, signed=True),
                _probability(difference.p_value),
                *[_probability(pair.p_corrected)] * several,
                _UNKNOWN if difference.matched_pairs is None else _probability(difference.matched_pairs.p_value),
                _verdict(pair),
            ]
        )
    return rows


def outcome_rows(comparison: Comparison) -> list[list[str]]:
    """Return a table of texts: a head, and a row for each pair with how many utterances each got right."""
    rows = [["", "both right", "only first right", "only second right", "both wrong"]]
    for pair in comparison.pairs:
        counts = (pair.both_right, pair.only_first_right, pair.only_second_right, pair.both_wrong)
        rows.append([f"{pair.first}, {pair.second}", *map(str, counts)])
    return rows


def setting_rows(comparison: Comparison, longest: int) -> list[list[str]]:
    """Return a table of texts: a head, and a row for each setting that differs, with the value in each system."""
    rows = [["setting", *(system.letter for system in comparison.systems)]]
    for setting in comparison.settings:
        values = (
            _shortened(_as_yaml(value), longest) if known else _UNKNOWN
            for value, known in zip(setting.values, setting.known, strict=True)
        )
        rows.append([_shortened(printable(setting.name), longest), *values])
    return rows


def sample_text(comparison: Comparison) -> str:
    """Return on what the systems are compared, in a sentence."""
    sample = comparison.systems[0].score.word_interval.sample
    text = f"{counted(comparison.compared, 'utterance')}; intervals over {sample}"
    if comparison.left_out:
        names = ", ".join(map(printable, comparison.left_out[:3])) + ", …" * (len(comparison.left_out) > 3)
        text += f"; {counted(len(comparison.left_out), 'utterance')} not in all systems: {names}"
    return text


def test_lines(comparison: Comparison) -> list[str]:
    """Return how pairs are tested, in lines."""
    lines = [f"p: randomisation test over {comparison.pairs[0].difference.interval.sample}"]
    if len(comparison.pairs) > 1:
        lines[0] += f"; p (Holm): corrected for {len(comparison.pairs)} pairs"
    return [*lines, "MAPSSWE: p of NIST's matched pairs test, over stretches with errors"]


def _verdict(pair: ComparedPair) -> str:
    return "not sure" if pair.better is None else f"{pair.better} better"


def _probability(p: float) -> str:
    return f"{p:.3f}" if p >= 0.0005 else "<0.001"


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f} %"


def _range(interval: Interval, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    return f"{100 * interval.low:{sign}.2f} … {100 * interval.high:{sign}.2f} %"


def _size(parameters: int | None) -> str:
    if parameters is None:
        return _UNKNOWN
    return f"{parameters / 1e6:.1f} M" if parameters >= 1e6 else f"{parameters / 1e3:.0f} k"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return _UNKNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _as_yaml(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=float("inf"))
    return printable(text.removesuffix("\n...\n").strip())


def _shortened(text: str, longest: int) -> str:
    return text if cell_len(text) <= longest else set_cell_size(text, longest - 1).rstrip() + "…"
