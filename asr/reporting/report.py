"""A decode folder → `wer.json`, `wer.txt` and `report.html` inside it, and what `asr score` prints. No torch.

Plain text is in columns, like sclite's reports. `report_page.py` makes the page.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size

from asr.bundle.card import is_model_folder, write_card
from asr.bundle.files import SCORES, SCORES_PAGE, SCORES_TEXT
from asr.files import printable, visible_json, write_text
from asr.reading import counted
from asr.reporting.report_page import report_page
from asr.scoring.calibration import render_calibration
from asr.scoring.error_counts import (
    LISTED_ERRORS,
    NO_SPACES,
    RATE_NAMES,
    ErrorCounts,
    FrequentErrors,
    WordPair,
    frequent_errors,
)
from asr.scoring.groups import group_rows, with_groups
from asr.scoring.intervals import Interval
from asr.scoring.score import CorpusScore, UtteranceErrors, read_score
from asr.scoring.spellings import RuleUse, read_rules

WIDTH = 80  # characters in a line of an aligned utterance; a longer word is still on one line

_LABELS = ("REF: ", "HYP: ", "EVAL:")


@dataclass(frozen=True)
class ScoreReport:
    """What `score` found.

    Attributes:
        folder: where the reports are: the decode folder; None if none were written.
        figures: all figures of the folder, e.g. `figures.wer`.
        card: the model card that was written again; None if the folder is not in a model folder.
    """

    folder: Path | None
    figures: CorpusScore
    card: Path | None = None


def score(
    folder: str | os.PathLike[str],
    *,
    by: Sequence[str] = (),
    equivalences: str | os.PathLike[str] | None = None,
    audio: bool = True,
) -> ScoreReport:
    """Return the error rates of a decode folder and write `wer.json`, `wer.txt` and `report.html` into it.

    If the decode folder is inside a model folder, the rates also go into the model card there.

    Args:
        folder: as `asr.decode` wrote it.
        by: fields by which errors are also counted in groups: `speaker`, `length`, or any of the manifest.
        equivalences: a file of spellings that count as the same, see `asr/scoring/spellings.py`.
        audio: whether the utterances can be played on the page. In large test sets those with the most errors can.

    Raises:
        ScoringError: a file is missing or malformed, or no utterance has such a field.
        ModelError: the model folder around it is damaged.
    """
    folder = Path(folder)
    if folder.name in ("", ".."):  # the current folder or the one above: the model folder is found by the full path
        folder = folder.resolve()
    rules = [] if equivalences is None else read_rules(Path(equivalences))
    figures = with_groups(read_score(folder, rules), by)
    write_reports(figures, folder, audio=audio)
    card = write_card(folder.parent) if is_model_folder(folder.parent) else None
    return ScoreReport(folder, figures, card)


def write_reports(score: CorpusScore, folder: Path, *, audio: bool = True, title: str | None = None) -> None:
    """Write figures into a folder: `wer.json`, and `wer.txt` and `report.html` to read.

    Args:
        score: the figures.
        folder: the decode folder.
        audio: whether the utterances can be played on the page.
        title: what was scored; None names the folder.
    """
    contents = {
        SCORES: visible_json(json.dumps(to_json(score), indent=2, ensure_ascii=False, allow_nan=False)) + "\n",
        SCORES_TEXT: to_text(score),
        SCORES_PAGE: report_page(score, folder, audio=audio, title=title),
    }
    for name, content in contents.items():
        write_text(folder / name, content)


def to_json(score: CorpusScore) -> dict[str, Any]:
    """Return the content of `wer.json`; rates are fractions, not per cent."""
    confusions = score.confusions
    return {
        "main": RATE_NAMES[score.unit].lower(),
        "wer": score.wer,
        "wer_interval": asdict(score.word_interval),
        "cer": score.cer,
        "cer_interval": asdict(score.character_interval),
        "words": _counts(score.word_total),
        "characters": _counts(score.character_total),
        "utterances": len(score.words),
        "utterances_with_errors": len(score.wrong),
        "confidences": None if score.calibration is None else asdict(score.calibration),
        "substitutions": [
            {"reference": reference, "hypothesis": hypothesis, "count": count}
            for (reference, hypothesis), count in confusions.substitutions.most_common(LISTED_ERRORS)
        ],
        "deletions": [
            {"word": word, "count": count} for word, count in confusions.deletions.most_common(LISTED_ERRORS)
        ],
        "insertions": [
            {"word": word, "count": count} for word, count in confusions.insertions.most_common(LISTED_ERRORS)
        ],
        "by": {
            field: {name: _counts(counts) for name, counts in groups.items()} for field, groups in score.groups.items()
        },
        "missing": list(score.missing),
        "surplus": list(score.surplus),
        "respelled": [asdict(use) for use in score.respelled],
    }


def _counts(counts: ErrorCounts) -> dict[str, int]:
    return {
        "reference": counts.reference_length,
        "hits": counts.hits,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
    }


def to_text(score: CorpusScore) -> str:
    """Return the content of `wer.txt`: the rates, each utterance with errors aligned, the frequent errors."""
    sections = [summary(score), *render_details(score)]
    if score.calibration is not None:
        sections.append(render_calibration(score.calibration))
    if score.wrong:
        sections.append("UTTERANCES WITH ERRORS, most errors first")
        sections += [render_utterance(utterance) for utterance in score.wrong]
        sections += [_render_list(errors) for errors in frequent_errors(score.confusions)]
    return "\n\n".join(sections) + "\n"


def summary(score: CorpusScore) -> str:
    """Return the error rates as a small table, columns aligned, without a line break at the end."""
    share = len(score.wrong) / len(score.words)
    lines = [
        columns(_rates(score)),
        *([] if score.unit == "word" else [NO_SPACES]),
        f"{counted(len(score.words), 'utterance')}, {len(score.wrong)} with errors ({100 * share:.1f} %); "
        f"intervals over {score.word_interval.sample}",
    ]
    if score.calibration is not None:
        auc = "" if score.calibration.auc is None else f", AUC {score.calibration.auc:.3f}"
        lines.append(f"confidences: ECE {score.calibration.ece:.3f}{auc}")
    return "\n".join(lines)


def render_details(score: CorpusScore, most: int | None = None) -> list[str]:
    """Return what was asked for or is unusual, a text each: missing utterances, replaced spellings, errors by group.

    Args:
        score: the figures.
        most: the most ids, rules and groups that are listed; None lists all.
    """
    sections = []
    if score.case_errors:
        said = f"{counted(score.case_errors, 'word error')} of {score.word_total.errors}"
        sections.append(f"CASE: {said} would be none with --ignore-case, or if both were written the same way")
    if score.missing:
        said = f"MISSING: {counted(len(score.missing), 'utterance')} without a hypothesis, counted as deleted"
        sections.append(f"{said}\n{_listed(score.missing, most)}")
    if score.surplus:
        said = f"SURPLUS: {counted(len(score.surplus), 'recognised text')} without a reference, not counted"
        sections.append(f"{said}\n{_listed(score.surplus, most)}")
    if score.respelled:
        sections.append(_respelled(score.respelled, most))
    for field, groups in score.groups.items():
        rows = [[*map(_shortened, row)] for row in group_rows(score, field, most)]
        sections.append(_with_rest(rows, len(groups)))
    return sections


def _respelled(rules: Sequence[RuleUse], most: int | None) -> str:
    """Return the rules that replaced words, most words first, and how many replaced nothing."""
    used = sorted((use for use in rules if use.reference + use.hypothesis), key=lambda u: -u.reference - u.hypothesis)
    rows = [["SPELLINGS: words replaced", "reference", "hypothesis"]]
    rows += [[_shortened(use.rule), str(use.reference), str(use.hypothesis)] for use in used[:most]]
    idle = len(rules) - len(used)
    return _with_rest(rows, len(used)) + (f"\n{counted(idle, 'rule')} replaced nothing" if idle else "")


def _listed(names: Sequence[str], most: int | None) -> str:
    lines = [f"  {printable(name)}" for name in names[:most]]
    return "\n".join([*lines, *([f"  and {len(names) - len(lines)} more"] if len(names) > len(lines) else [])])


def _shortened(text: str) -> str:
    """Return a text as a cell of a table, which is at most as wide as a line."""
    shown = printable(text)
    return shown if cell_len(shown) <= WIDTH else f"{set_cell_size(shown, WIDTH - 1).rstrip()}…"


def _with_rest(rows: list[list[str]], size: int) -> str:
    """Return a table, and below it how many rows of `size` are not in it."""
    rest = size - len(rows) + 1
    return columns(rows) + (f"\nand {rest} more" if rest else "")


def render_utterance(utterance: UtteranceErrors) -> str:
    """Return reference, hypothesis and marks one above the other, wrapped into blocks of `WIDTH` columns."""
    counts = utterance.counts
    head = (
        f"{printable(utterance.id)}: {counts.errors} of {counts.reference_length} words"
        f" ({counts.substitutions} S, {counts.deletions} D, {counts.insertions} I)"
    )
    return "\n".join([head, *(_block(words) for words in _wrap(utterance.alignment))])


def _rates(score: CorpusScore) -> list[list[str]]:
    """Return a table of texts: a head, and a row for each of WER and CER; CER is first in scripts without spaces."""
    rows = [["", "rate", f"{100 * score.word_interval.level:g} % interval", "errors", "sub", "del", "ins", "of"]]
    rates: Sequence[tuple[str, ErrorCounts, Interval, str]] = (
        ("WER", score.word_total, score.word_interval, "words"),
        ("CER", score.character_total, score.character_interval, "characters"),
    )
    for name, counts, interval, unit in rates if score.unit == "word" else reversed(rates):
        figures = (counts.errors, counts.substitutions, counts.deletions, counts.insertions)
        rows.append(
            [
                name,
                f"{100 * counts.rate:.2f} %",
                f"{100 * interval.low:.2f} … {100 * interval.high:.2f} %",
                *map(str, figures),
                f"{counts.reference_length} {unit}",
            ]
        )
    return rows


def _render_list(errors: FrequentErrors) -> str:
    lines = [f"{errors.name.upper()}: {errors.total}"]
    lines += [f"{count:6d}  {printable(' → '.join(words))}" for words, count in errors.listed]
    if errors.others:
        lines.append(f"{errors.others_total:6d}  in {counted(errors.others, 'other')}")
    return "\n".join(lines)


def _cell(word: WordPair) -> tuple[str, str, str]:
    """Return one column: the words, padded to the same width, stars for a gap, and the mark of an error."""
    reference = None if word.reference is None else printable(word.reference)
    hypothesis = None if word.hypothesis is None else printable(word.hypothesis)
    width = max(cell_len(reference or ""), cell_len(hypothesis or ""))
    gap = "*" * width
    mark = "" if word.mark == "C" else word.mark
    return (
        set_cell_size(gap if reference is None else reference, width),
        set_cell_size(gap if hypothesis is None else hypothesis, width),
        mark.ljust(width),
    )


def _wrap(words: Sequence[WordPair]) -> Iterator[list[tuple[str, str, str]]]:
    """Yield the columns of each block; a block has at least one word."""
    block: list[tuple[str, str, str]] = []
    used = len(_LABELS[0])
    for cell in map(_cell, words):
        width = len(cell[2])  # the mark's: a character of the words may be two columns wide, or none
        if block and used + 1 + width > WIDTH:
            yield block
            block, used = [], len(_LABELS[0])
        block.append(cell)
        used += 1 + width
    if block:
        yield block


def _block(cells: Sequence[tuple[str, str, str]]) -> str:
    rows = zip(*cells, strict=True)
    return "\n".join(f"{label} {' '.join(row)}".rstrip() for label, row in zip(_LABELS, rows, strict=True))


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return a table with its columns aligned to the right, but the first, and a last one without a head."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    to_the_left = {0} if rows[0][-1] else {0, len(widths) - 1}
    lines = []
    for row in rows:
        spaces = [" " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)]
        cells = [
            cell + space if column in to_the_left else space + cell
            for column, (cell, space) in enumerate(zip(row, spaces, strict=True))
        ]
        lines.append("   ".join(cells).rstrip())
    return "\n".join(lines)
