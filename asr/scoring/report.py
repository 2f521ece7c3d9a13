"""Score a decode folder: `ref.trn` and `hyp.trn` in, `wer.json`, `wer.txt` and `report.html` out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from asr.files import write_text
from asr.scoring.bootstrap import Interval
from asr.scoring.calibration import render_calibration
from asr.scoring.errors_count import ErrorCounts, Unit
from asr.scoring.page import to_html
from asr.scoring.rendering import LISTED_ERRORS, render_confusions, render_rates, render_utterance
from asr.scoring.score import CorpusScore, read_score

REPORTS = ("wer.json", "wer.txt", "report.html")


def score_folder(folder: Path) -> CorpusScore:
    """Score a decode folder and write `wer.json` (figures), `wer.txt` and `report.html` (for reading) into it.

    Raises:
        ScoringError: see `read_score`.
    """
    score = read_score(folder)
    contents = (
        json.dumps(to_json(score), indent=2, ensure_ascii=False) + "\n",
        to_text(score),
        to_html(score, str(folder)),
    )
    for name, content in zip(REPORTS, contents, strict=True):
        write_text(folder / name, content)
    return score


def summary(score: CorpusScore) -> str:
    """Return the error rates as a small table, columns aligned, without a line break at the end."""
    rates: dict[Unit, tuple[ErrorCounts, Interval]] = {
        "word": (score.word_total, score.word_interval),
        "character": (score.character_total, score.character_interval),
    }
    share = len(score.wrong) / len(score.words)
    lines = [
        render_rates(rates),
        f"{len(score.words)} utterances, {len(score.wrong)} with errors ({100 * share:.1f} %)",
    ]
    if score.calibration is not None:
        auc = "" if score.calibration.auc is None else f", AUC {score.calibration.auc:.3f}"
        lines.append(f"confidences: ECE {score.calibration.ece:.3f}{auc}")
    return "\n".join(lines)


def to_text(score: CorpusScore) -> str:
    """Return the content of `wer.txt`: the rates, each utterance with errors aligned, the frequent errors."""
    sections = [summary(score)]
    if score.calibration is not None:
        sections.append(render_calibration(score.calibration))
    if score.wrong:
        sections.append("UTTERANCES WITH ERRORS, most errors first")
        sections += [render_utterance(utterance) for utterance in score.wrong]
        sections.append(render_confusions(score.confusions))
    return "\n\n".join(sections) + "\n"


def to_json(score: CorpusScore) -> dict[str, Any]:
    """Return the content of `wer.json`; rates are fractions, not per cent."""
    words, characters, confusions = score.word_total, score.character_total, score.confusions
    return {
        "wer": words.rate,
        "wer_interval": asdict(score.word_interval),
        "cer": characters.rate,
        "cer_interval": asdict(score.character_interval),
        "words": _counts(words),
        "characters": _counts(characters),
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
