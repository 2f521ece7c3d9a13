"""The figures of a decode folder → `wer.json`, `wer.txt` and `report.html`, and what `asr score` prints.

Plain text is in columns, like sclite's reports. The page is one file without scripts that needs nothing from elsewhere;
its template and style are in `asr/scoring/templates/`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size

from asr.files import printable, write_text
from asr.scoring.calibration import reliability_svg, render_calibration
from asr.scoring.decode_folder import FIGURES, PAGE, TEXT_REPORT
from asr.scoring.error_counts import Confusions, ErrorCounts, WordPair
from asr.scoring.intervals import Interval, PairedComparison
from asr.scoring.score import CorpusScore, UtteranceErrors

WIDTH = 80
"""Characters in a line of an aligned utterance; a longer word is still on one line."""
LISTED_ERRORS = 20
"""Entries in each list of frequent errors."""
LISTED_UTTERANCES = 200
"""Utterances with errors on the page; all of them are in `wer.txt`."""

_LABELS = ("REF: ", "HYP: ", "EVAL:")


def write_reports(score: CorpusScore, folder: Path) -> None:
    """Write the figures of a decode folder into it: `wer.json`, and `wer.txt` and `report.html` to read."""
    contents = {
        FIGURES: json.dumps(to_json(score), indent=2, ensure_ascii=False) + "\n",
        TEXT_REPORT: to_text(score),
        PAGE: to_html(score, str(folder)),
    }
    for name, content in contents.items():
        write_text(folder / name, content)


def to_json(score: CorpusScore) -> dict[str, Any]:
    """Return the content of `wer.json`; rates are fractions, not per cent."""
    confusions = score.confusions
    return {
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
    }


def _counts(counts: ErrorCounts) -> dict[str, int]:
    return {
        "reference": counts.reference_length,
        "hits": counts.hits,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
    }


def to_html(score: CorpusScore, title: str) -> str:
    """Return the content of `report.html`; `title` names what was scored."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("asr.scoring"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["printable"] = printable
    return templates.get_template("report.html.jinja").render(
        title=title,
        score=score,
        table=_rates(score),
        diagram=None if score.calibration is None else reliability_svg(score.calibration),
        frequent=_frequent_errors(score.confusions),
        shown=score.wrong[:LISTED_UTTERANCES],
    )


def to_text(score: CorpusScore) -> str:
    """Return the content of `wer.txt`: the rates, each utterance with errors aligned, the frequent errors."""
    sections = [summary(score)]
    if score.calibration is not None:
        sections.append(render_calibration(score.calibration))
    if score.wrong:
        sections.append("UTTERANCES WITH ERRORS, most errors first")
        sections += [render_utterance(utterance) for utterance in score.wrong]
        sections += [_render_list(errors) for errors in _frequent_errors(score.confusions)]
    return "\n\n".join(sections) + "\n"


def summary(score: CorpusScore) -> str:
    """Return the error rates as a small table, columns aligned, without a line break at the end."""
    share = len(score.wrong) / len(score.words)
    lines = [
        _columns(_rates(score)),
        f"{len(score.words)} utterances, {len(score.wrong)} with errors ({100 * share:.1f} %); "
        f"intervals over {score.word_interval.sample}",
    ]
    if score.calibration is not None:
        auc = "" if score.calibration.auc is None else f", AUC {score.calibration.auc:.3f}"
        lines.append(f"confidences: ECE {score.calibration.ece:.3f}{auc}")
    return "\n".join(lines)


def render_comparison(comparison: PairedComparison, name: str) -> str:
    """Return in words how system B, called `name`, compares with system A."""
    interval = comparison.interval
    better = "better" if comparison.difference < 0 else "worse"
    verdict = f"{printable(name)} is {better}" if comparison.p_value < 0.05 else "no more than chance"
    if interval.low == interval.high == comparison.difference == 0:
        return "no difference in WER: both make the same number of errors in each utterance"
    return (
        f"WER difference {100 * comparison.difference:+.2f} % absolute"
        f" ({100 * interval.level:g} % interval {100 * interval.low:+.2f} … {100 * interval.high:+.2f} %)\n"
        f"p = {comparison.p_value:.3f} (randomisation test over {interval.sample}): {verdict}"
    )


def render_utterance(utterance: UtteranceErrors) -> str:
    """Return reference, hypothesis and marks one above the other, wrapped into blocks of `WIDTH` columns."""
    counts = utterance.counts
    head = (
        f"{printable(utterance.id)}: {counts.errors} of {counts.reference_length} words"
        f" ({counts.substitutions} S, {counts.deletions} D, {counts.insertions} I)"
    )
    return "\n".join([head, *(_block(words) for words in _wrap(utterance.alignment))])


def _rates(score: CorpusScore) -> list[list[str]]:
    """Return a table of texts: a head, and a row for each of WER and CER."""
    rows = [["", "rate", f"{100 * score.word_interval.level:g} % interval", "errors", "sub", "del", "ins", "of"]]
    rates: Sequence[tuple[str, ErrorCounts, Interval, str]] = (
        ("WER", score.word_total, score.word_interval, "words"),
        ("CER", score.character_total, score.character_interval, "characters"),
    )
    for name, counts, interval, unit in rates:
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


@dataclass(frozen=True)
class _FrequentErrors:
    """The most frequent errors of one kind, with the number of each; `others` counts the kinds that are not listed."""

    name: str
    listed: tuple[tuple[str, int], ...]
    total: int
    others: int

    @classmethod
    def of(cls, name: str, counter: Mapping[str, int]) -> _FrequentErrors:
        listed = tuple(Counter(counter).most_common(LISTED_ERRORS))
        return cls(name, listed, sum(counter.values()), len(counter) - len(listed))

    @property
    def others_total(self) -> int:
        return self.total - sum(count for _, count in self.listed)


def _frequent_errors(confusions: Confusions) -> list[_FrequentErrors]:
    pairs = {f"{reference} → {hypothesis}": n for (reference, hypothesis), n in confusions.substitutions.items()}
    return [
        _FrequentErrors.of("substitutions", pairs),
        _FrequentErrors.of("deletions", confusions.deletions),
        _FrequentErrors.of("insertions", confusions.insertions),
    ]


def _render_list(errors: _FrequentErrors) -> str:
    lines = [f"{errors.name.upper()}: {errors.total}"]
    lines += [f"{count:6d}  {printable(what)}" for what, count in errors.listed]
    if errors.others:
        lines.append(f"{errors.others_total:6d}  in {errors.others} other{'s' if errors.others > 1 else ''}")
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


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Return a table with every column but the first aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "   ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
