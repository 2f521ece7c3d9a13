"""A decode folder → its error rates, the reports inside it, and the model card around it. No torch.

This is here and not in `asr/scoring/` because a scored folder also changes the card of its model folder, and the room
`bundle`, which writes cards, comes after `scoring`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from asr.bundle.card import is_model_folder, write_card
from asr.scoring.intervals import PairedComparison
from asr.scoring.report import write_reports
from asr.scoring.score import CorpusScore, compare_scores, read_score


@dataclass(frozen=True)
class Scored:
    """What `score` found.

    Attributes:
        folder: the decode folder, which now has the reports.
        figures: all figures of the folder, e.g. `figures.wer`.
        other: the figures of the folder it was compared with; None if there was none.
        difference: this folder's word error rate minus the other's, with interval and p-value.
        card: the model card that was written again; None if the folder is not in a model folder.
    """

    folder: Path
    figures: CorpusScore
    other: CorpusScore | None = None
    difference: PairedComparison | None = None
    card: Path | None = None


def score(folder: str | os.PathLike[str], *, against: str | os.PathLike[str] | None = None) -> Scored:
    """Return the error rates of a decode folder and write `wer.json`, `wer.txt` and `report.html` into it.

    If the decode folder is inside a model folder, the rates also go into the model card there.

    Args:
        folder: as `asr.decode` wrote it.
        against: another system's decode folder of the same utterances, to compare with; nothing is written there.

    Raises:
        ScoringError: a file is missing or malformed, or the two folders have different references.
        ModelError: the model folder around it is damaged.
    """
    folder = Path(folder)
    if folder.name in ("", ".."):  # the current folder or the one above: the model folder is found by the full path
        folder = folder.resolve()
    figures = read_score(folder)
    other = None if against is None else read_score(Path(against))
    difference = None if other is None else compare_scores(other, figures)
    write_reports(figures, folder)
    card = write_card(folder.parent) if is_model_folder(folder.parent) else None
    return Scored(folder, figures, other, difference, card)


def compare(folder: str | os.PathLike[str], against: str | os.PathLike[str]) -> PairedComparison:
    """Return how the word error rate of one decode folder differs from another's; write nothing.

    Args:
        folder: system B; the difference is negative if it is the better one.
        against: system A, on the same utterances.

    Raises:
        ScoringError: a file is missing or malformed, or the two folders have different references.
    """
    return compare_scores(read_score(Path(against)), read_score(Path(folder)))
