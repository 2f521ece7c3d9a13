"""A scored decode folder as a page for the browser: one file, without scripts, that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from asr.scoring.bootstrap import Interval
from asr.scoring.errors_count import ErrorCounts, WordPair
from asr.scoring.reliability import reliability_svg
from asr.scoring.rendering import LISTED_ERRORS

if TYPE_CHECKING:
    from asr.scoring.score import CorpusScore

LISTED_UTTERANCES = 200
"""Utterances with errors on the page; all of them are in `wer.txt`."""

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: right; font-weight: normal; }
th { opacity: .65; } td:first-child, th:first-child { text-align: left; }
.side { display: flex; flex-wrap: wrap; gap: 1rem 3rem; align-items: start; }
.side p { max-width: 24rem; }
.utterance { margin: 1.2rem 0; } .head { opacity: .65; font-size: .85rem; }
.word { display: inline-block; vertical-align: top; margin-right: .35em; }
.word span { display: block; min-height: 1.5em; }
.S, .D, .I { border-radius: 3px; padding: 0 .25em; }
.S { background: #e0a02055; } .D { background: #d0404055; } .I { background: #4878cf55; }
"""


def to_html(score: CorpusScore, title: str) -> str:
    """Return the content of `report.html`; `title` says what was decoded."""
    words, characters = score.word_total, score.character_total
    level = score.word_interval.level
    share = len(score.wrong) / len(score.words)
    parts = [
        "<!doctype html>",
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>',
        f"<style>{_STYLE}</style>",
        f"<h1>{escape(title)}</h1>",
        "<table>",
        _row(["", "rate", f"{100 * level:g} % interval", "errors", "sub", "del", "ins", "of"], "th"),
        _row(_rates("WER", words, score.word_interval, "words")),
        _row(_rates("CER", characters, score.character_interval, "characters")),
        "</table>",
        f"<p>{len(score.words)} utterances, {len(score.wrong)} with errors ({100 * share:.1f} %)</p>",
        *_confidences(score),
    ]
    if score.wrong:
        parts += _frequent(score)
        parts += _utterances(score)
    return "\n".join(parts) + "\n"


def _rates(name: str, counts: ErrorCounts, interval: Interval, unit: str) -> list[str]:
    figures = (counts.errors, counts.substitutions, counts.deletions, counts.insertions)
    return [
        name,
        f"{100 * counts.rate:.2f} %",
        f"{100 * interval.low:.2f} … {100 * interval.high:.2f} %",
        *map(str, figures),
        f"{counts.reference_length} {unit}",
    ]


def _confidences(score: CorpusScore) -> Iterator[str]:
    if score.calibration is None:
        return
    auc = "–" if score.calibration.auc is None else f"{score.calibration.auc:.3f}"
    yield "<h2>Confidences of the recognised words</h2>"
    yield f'<div class="side">{reliability_svg(score.calibration)}<div>'
    yield "<table>"
    yield _row(["ECE", f"{score.calibration.ece:.3f}"])
    yield _row(["AUC", auc])
    yield "</table>"
    yield (
        "<p>A dot stands for the words of a tenth of the scale. On the dashed line as many are right as they claim; "
        "the bar through a dot is the 95 % interval of that share. ECE is the mean distance to the line over all "
        "words, AUC the probability that a right word has a higher confidence than a wrong one.</p></div></div>"
    )


def _frequent(score: CorpusScore) -> Iterator[str]:
    confusions = score.confusions
    pairs = [
        (f"{reference} → {hypothesis}", n) for (reference, hypothesis), n in confusions.substitutions.most_common()
    ]
    yield '<h2>Frequent errors</h2><div class="side">'
    for name, entries in (
        ("substitutions", pairs),
        ("deletions", confusions.deletions.most_common()),
        ("insertions", confusions.insertions.most_common()),
    ):
        yield "<table>"
        yield _row([name, str(sum(count for _, count in entries))], "th")
        for what, count in entries[:LISTED_ERRORS]:
            yield _row([what, str(count)])
        yield "</table>"
    yield "</div>"


def _utterances(score: CorpusScore) -> Iterator[str]:
    shown = score.wrong[:LISTED_UTTERANCES]
    rest = len(score.wrong) - len(shown)
    yield f"<h2>Utterances with errors, most errors first{f'; {rest} more in wer.txt' if rest else ''}</h2>"
    yield (
        '<p>Above what was said, below what was recognised: <span class="S">substituted</span> '
        '<span class="D">deleted</span> <span class="I">inserted</span></p>'
    )
    for utterance in shown:
        counts = utterance.counts
        head = (
            f"{utterance.id}: {counts.errors} of {counts.reference_length} words"
            f" ({counts.substitutions} S, {counts.deletions} D, {counts.insertions} I)"
        )
        yield f'<div class="utterance" dir="auto"><div class="head">{escape(head)}</div>'
        yield " ".join(map(_word, utterance.alignment)) + "</div>"


def _word(word: WordPair) -> str:
    rows = "".join(f"<span>{escape(text or '')}</span>" for text in (word.reference, word.hypothesis))
    return f'<span class="word {word.mark}">{rows}</span>'


def _row(cells: Sequence[str], kind: str = "td") -> str:
    return "<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells) + "</tr>"
