"""Error rates, aligned utterances and confusions as plain text in columns, after sclite's reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len, set_cell_size

from asr.scoring.bootstrap import Interval, PairedComparison
from asr.scoring.errors_count import Confusions, ErrorCounts, Unit, WordPair
from asr.scoring.score import UtteranceErrors

WIDTH = 80
"""Characters in a line of an aligned utterance; a longer word still stands on one line."""
LISTED_ERRORS = 20
"""Entries in each list of frequent errors."""

_LABELS = ("REF: ", "HYP: ", "EVAL:")
_RATE_NAMES: dict[Unit, str] = {"word": "WER", "character": "CER"}


def render_rates(rates: Mapping[Unit, tuple[ErrorCounts, Interval]]) -> str:
    """Return a table with one line a rate: per cent, interval, counts of each kind of error."""
    level = next(iter(rates.values()))[1].level
    rows = [["", "rate", f"{100 * level:g} % interval", "errors", "sub", "del", "ins", "of"]]
    for unit, (counts, interval) in rates.items():
        figures = (counts.errors, counts.substitutions, counts.deletions, counts.insertions)
        rows.append(
            [
                _RATE_NAMES[unit],
                f"{100 * counts.rate:.2f} %",
                f"{100 * interval.low:.2f} … {100 * interval.high:.2f} %",
                *map(str, figures),
                f"{counts.reference_length} {unit}s",
            ]
        )
    return _columns(rows)


def render_utterance(utterance: UtteranceErrors) -> str:
    """Return reference, hypothesis and marks one above the other, wrapped into blocks of `WIDTH` columns."""
    counts = utterance.counts
    head = (
        f"{utterance.id}: {counts.errors} of {counts.reference_length} words"
        f" ({counts.substitutions} S, {counts.deletions} D, {counts.insertions} I)"
    )
    return "\n".join([head, *(_block(words) for words in _wrap(utterance.alignment))])


def render_confusions(confusions: Confusions) -> str:
    """Return the most frequent substitutions, deletions and insertions, each with its count."""
    pairs = [
        (f"{reference} → {hypothesis}", count)
        for (reference, hypothesis), count in confusions.substitutions.most_common()
    ]
    lists = [
        _frequent("SUBSTITUTIONS", pairs),
        _frequent("DELETIONS", confusions.deletions.most_common()),
        _frequent("INSERTIONS", confusions.insertions.most_common()),
    ]
    return "\n\n".join(lists)


def render_comparison(comparison: PairedComparison, name: str) -> str:
    """Return in words how system B, called `name`, compares with system A."""
    interval = comparison.interval
    if interval.low == interval.high == comparison.difference == 0:
        return "no difference in WER: the same number of errors in each utterance"
    return (
        f"WER difference {100 * comparison.difference:+.2f} % absolute"
        f" ({100 * interval.level:g} % interval {100 * interval.low:+.2f} … {100 * interval.high:+.2f} %)\n"
        f"{name} is better with a probability of {comparison.probability_b_better:.3f} (paired bootstrap)"
    )


def _frequent(title: str, entries: Sequence[tuple[str, int]]) -> str:
    total = sum(count for _, count in entries)
    lines = [f"{title}: {total}"]
    lines += [f"{count:6d}  {what}" for what, count in entries[:LISTED_ERRORS]]
    if len(entries) > LISTED_ERRORS:
        rest = total - sum(count for _, count in entries[:LISTED_ERRORS])
        others = len(entries) - LISTED_ERRORS
        lines.append(f"{rest:6d}  in {others} other{'s' if others > 1 else ''}")
    return "\n".join(lines)


def _cell(word: WordPair) -> tuple[str, str, str]:
    """One column: the words, padded to the same width, stars for a gap, and the mark of an error."""
    width = max(cell_len(word.reference or ""), cell_len(word.hypothesis or ""))
    gap = "*" * width
    mark = "" if word.mark == "C" else word.mark
    return (
        set_cell_size(gap if word.reference is None else word.reference, width),
        set_cell_size(gap if word.hypothesis is None else word.hypothesis, width),
        mark.ljust(width),
    )


def _wrap(words: Sequence[WordPair]) -> Iterator[list[tuple[str, str, str]]]:
    """Yield the columns of each block; a block holds at least one word."""
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
    """Right-align every column but the first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "   ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
