"""What the terminal shows of dev after an epoch: the course of the error rate, and three utterances with their errors.

Texts are shown as text: without markup, control characters are escaped, and lines are cut to the width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from asr.bundle.training_log import DevText
from asr.files import printable
from asr.scoring.error_counts import WordPair, align_words

_BARS = "▁▂▃▄▅▆▇█"
_MOST_BARS = 24
_LABEL = 10  # characters, as in the other lines of a training
_WRONG = "bold red"


def sparkline(figures: Sequence[float]) -> str:
    """Return the last 24 figures as a row of bars, the lowest as ▁ and the highest as █.

    Figures that are not finite are as high as the highest.
    """
    shown = figures[-_MOST_BARS:]
    finite = [figure for figure in shown if math.isfinite(figure)] or [0.0]
    lowest, highest = min(finite), max(finite)
    steps = (len(_BARS) - 1) / (highest - lowest) if highest > lowest else 0.0
    return "".join(_BARS[round(steps * (min(figure, highest) - lowest))] for figure in shown)


def text_lines(text: DevText, *, by_characters: bool, width: int) -> tuple[Text, Text]:
    """Return the reference and, below it, the hypothesis; both are aligned and cut to `width` columns.

    What differs is in brackets and red in the hypothesis, `[-]` where it lacks something.

    Args:
        text: both.
        by_characters: whether single characters are compared, as in scripts without spaces; else words.
        width: of the terminal.
    """
    reference, hypothesis = Text("ref".ljust(_LABEL)), Text("hyp".ljust(_LABEL))
    if not text.hypothesis.strip():
        reference.append(printable(text.reference))
        hypothesis.append("(nothing)", style=_WRONG)
    else:
        for right, above, below in _runs(text, by_characters=by_characters):
            columns = max(cell_len(above), cell_len(below))
            reference.append(set_cell_size(above, columns))
            hypothesis.append(set_cell_size(below, columns), style="" if right else _WRONG)
            if not by_characters:
                reference.append(" ")
                hypothesis.append(" ")
    for line in (reference, hypothesis):
        line.rstrip()
        line.truncate(width, overflow="ellipsis")
    return reference, hypothesis


def _runs(text: DevText, *, by_characters: bool) -> Iterator[tuple[bool, str, str]]:
    """Yield runs of right and of wrong words, or characters: whether right, what was said, what was recognised."""
    said, heard = text.reference, text.hypothesis
    if by_characters:
        said, heard = " ".join("".join(said.split())), " ".join("".join(heard.split()))
    gap = "" if by_characters else " "

    def is_right(pair: WordPair) -> bool:
        return pair.mark == "C"

    for right, pairs in groupby(align_words(said, heard), is_right):
        run = list(pairs)
        above = gap.join(printable(pair.reference) for pair in run if pair.reference is not None)
        below = gap.join(printable(pair.hypothesis) for pair in run if pair.hypothesis is not None)
        yield right, above, below if right else f"[{below or '-'}]"
