"""A scored decode folder → `report.html`: figures, curves, and each utterance to be heard and seen. No torch.

The page is one file that needs nothing from elsewhere. Its template, script and style are `report.*` in
`asr/reporting/templates/`; the player and the pictures of sound are shared, in `asr/pages/templates/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.bundle.card import is_model_folder
from asr.bundle.files import POSTERIORS, SCORES_PAGE, TRAINING_LOG
from asr.bundle.training_log import read_epochs
from asr.errors import AsrError
from asr.files import printable
from asr.pages.page import render
from asr.reading import counted
from asr.reporting.report_utterances import PageAudio, page_audio, utterance_data, worst_first
from asr.reporting.training_curves import Curve, training_curves
from asr.scoring.calibration import reliability_svg
from asr.scoring.error_counts import (
    NO_SPACES,
    Confusions,
    ErrorCounts,
    FrequentErrors,
    align_characters,
    count_confusions,
    frequent_errors,
)
from asr.scoring.groups import LENGTH, SPEAKER, by_field, shown_value
from asr.scoring.intervals import FEWEST_SPEAKERS, rate_interval, speakers_of
from asr.scoring.score import CorpusScore
from asr.transcript.posteriors import PosteriorFile, read_posteriors

LISTED_GROUPS = 20  # rows in a table of groups


def report_page(score: CorpusScore, folder: Path, *, audio: bool = True, title: str | None = None) -> str:
    """Return the content of `report.html` of a decode folder.

    Args:
        score: the figures of the folder.
        folder: the decode folder; posteriors are read from it, and the training log from the model folder around it.
        audio: whether utterances can be played. Large test sets: those with the most errors, as far as there is room.
        title: what was scored; None names the folder.
    """
    names = worst_first(score)
    posteriors, no_posteriors = _posteriors(folder) if score.recognised else (PosteriorFile(), "")
    sound = page_audio(score, names) if audio else PageAudio({}, "There is no audio, as asked for by --no-audio.")
    curves, no_curves = _curves(folder)
    return render(
        "asr.reporting",
        f"{SCORES_PAGE}.jinja",
        {
            "title": title or str(folder),
            "score": score,
            "rates": _rates(score),
            "notes": _rate_notes(score),
            "odd": _odd(score),
            "curves": [(curve, curve.svg()) for curve in curves],
            "no_curves": no_curves,
            "diagram": None if score.calibration is None else reliability_svg(score.calibration),
            "groups": _groups(score),
            "frequent": _some(frequent_errors(score.confusions)),
            "frequent_characters": _some(frequent_errors(_character_confusions(score))) if score.unit == "word" else [],
            "utterance_notes": [note for note in (sound.note, no_posteriors) if note],
            "data": {
                "utterances": list(utterance_data(score, names, posteriors.utterances)),
                "models": [model.model_dump() for model in posteriors.models],
            },
            "audio": [(place, sound.files[name]) for place, name in enumerate(names) if name in sound.files],
        },
    )


def _posteriors(folder: Path) -> tuple[PosteriorFile, str]:
    """Return the posteriors of a folder, or none and why."""
    path = folder / POSTERIORS
    if not path.exists():
        return PosteriorFile(), f"There are no posteriors, because the folder has no {POSTERIORS}; decode again."
    try:
        return read_posteriors(path), ""
    except AsrError as error:
        return PosteriorFile(), f"There are no posteriors: {printable(str(error))}."


def _curves(folder: Path) -> tuple[Sequence[Curve], str]:
    """Return the curves of the training of the model folder around a decode folder, and what is missing and why."""
    around = folder.resolve().parent
    if not is_model_folder(around):
        return (), "There are no training curves, because the decode folder is not in a model folder."
    try:
        epochs = read_epochs(around)
        curves = training_curves(epochs)
    except AsrError as error:
        return (), f"There are no training curves: {printable(str(error))}."
    if not curves:
        return curves, f"There are no training curves, because the model folder has no {TRAINING_LOG}."
    has_rates = any(epoch.learning_rate is not None for epoch in epochs)
    return curves, "" if has_rates else f"An older version wrote {TRAINING_LOG}: it has no learning rates."


@dataclass(frozen=True)
class _Rate:
    """A row of the table of rates: an error rate with its intervals, in per cent; no interval is an empty text."""

    name: str
    rate: str
    over_utterances: str
    over_speakers: str
    counts: ErrorCounts
    unit: str


def _rates(score: CorpusScore) -> list[_Rate]:
    """Return the rows of WER and CER; CER is first in scripts without spaces."""
    groups = speakers_of(list(score.words), score.speakers)
    rows = []
    for name, by_utterance, unit in (("WER", score.words, "words"), ("CER", score.characters, "characters")):
        counts = list(by_utterance.values())
        total = sum(counts, ErrorCounts())
        over_speakers = "" if groups is None else _interval(counts, groups)
        rows.append(_Rate(name, f"{100 * total.rate:.2f} %", _interval(counts), over_speakers, total, unit))
    return rows if score.unit == "word" else rows[::-1]


def _interval(counts: Sequence[ErrorCounts], speakers: Sequence[str] | None = None) -> str:
    interval = rate_interval(counts, speakers=speakers)
    return f"{100 * interval.low:.2f} … {100 * interval.high:.2f} %"


def _rate_notes(score: CorpusScore) -> list[str]:
    """Return the size of the sample in words, and what the table of rates lacks."""
    wrong, utterances = len(score.wrong), len(score.words)
    speakers = len(set(score.speakers.values()))
    notes = [
        f"{utterances} utterances, {wrong} with errors ({100 * wrong / utterances:.1f} %)."
        f"{f' {speakers} speakers are known.' if speakers else ' No speaker is known.'}"
    ]
    if speakers < FEWEST_SPEAKERS:
        notes.append(
            f"There is no interval over speakers: it needs {FEWEST_SPEAKERS} known speakers or more. The interval "
            "over utterances is too narrow where speakers differ."
        )
    else:
        notes.append(
            "The interval over speakers says how far the rate would differ with other speakers. The other one takes "
            "each utterance for a speaker of its own, which is too narrow where speakers differ."
        )
    return notes if score.unit == "word" else [*notes, f"{NO_SPACES[0].upper()}{NO_SPACES[1:]}."]


def _odd(score: CorpusScore) -> list[tuple[str, Sequence[str]]]:
    """Return what is unusual about the texts that were compared: a sentence, and what it is about."""
    found: list[tuple[str, Sequence[str]]] = []
    if score.missing:
        said = f"{counted(len(score.missing), 'utterance')} without a hypothesis: all words count as deleted"
        found.append((said, score.missing))
    if score.surplus:
        said = f"{counted(len(score.surplus), 'recognised text')} without a reference: not counted"
        found.append((said, score.surplus))
    if score.respelled:
        used = [use for use in score.respelled if use.reference + use.hypothesis]
        uses = [
            f"{use.rule}: {use.reference} words of references, {use.hypothesis} of recognised texts" for use in used
        ]
        found.append(("Spellings that counted as the same", uses))
    if score.case_errors:
        said = f"{counted(score.case_errors, 'word error')} would be none without regard to capital letters"
        found.append((said, ()))
    return found


@dataclass(frozen=True)
class _Group:
    """A row of a table of groups; `value` is what the list of utterances can be filtered by, None if by nothing."""

    name: str
    counts: ErrorCounts
    value: str | None


@dataclass(frozen=True)
class _GroupTable:
    """The groups of one field: those listed, how many are not, and the highest rate among them."""

    field: str
    title: str
    groups: Sequence[_Group]
    others: int
    highest: float


def _groups(score: CorpusScore) -> list[_GroupTable]:
    """Return a table for each field that divides the utterances, unless each is a group of its own."""
    tables = []
    for field, groups in by_field(score, score.fields).items():
        if 1 < len(groups) < len(score.words):
            values = _values(score, field)
            rows = [_Group(name, counts, name if name in values else None) for name, counts in groups.items()]
            listed = rows[:LISTED_GROUPS]
            highest = max((row.counts.rate for row in listed if row.counts.reference_length), default=0.0)
            title = f"by length, in {score.unit}s" if field == LENGTH else f"by {field}"
            tables.append(_GroupTable(field, title, listed, len(rows) - len(listed), highest or 1.0))
    return tables


def _values(score: CorpusScore, field: str) -> set[str]:
    if field == SPEAKER:
        return set(score.speakers.values())
    return {shown_value(values[field]) for values in score.fields.values() if field in values}


def _some(kinds: Sequence[FrequentErrors]) -> list[FrequentErrors]:
    return [errors for errors in kinds if errors.total]


def _character_confusions(score: CorpusScore) -> Confusions:
    return count_confusions(
        align_characters(
            score.references[utterance.id],
            " ".join(pair.hypothesis for pair in utterance.alignment if pair.hypothesis is not None),
        )
        for utterance in score.wrong
    )
