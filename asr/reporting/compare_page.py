"""A comparison → its page: tables, training curves over each other, and the utterances word by word. No torch.

The page is one file that needs nothing from elsewhere. Its template, script and style are `compare.*` in
`asr/reporting/templates/`; the player is shared, in `asr/pages/templates/`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from asr.bundle.training_log import EpochLine
from asr.files import printable
from asr.pages.page import render
from asr.reading import counted
from asr.reporting.compare_text import outcome_rows, pair_rows, sample_text, setting_rows, system_rows, test_lines
from asr.reporting.comparison import ComparedUtterance, Comparison
from asr.reporting.report_utterances import PageAudio, page_audio
from asr.reporting.systems import ComparedSystem
from asr.reporting.training_curves import Curve, line_style
from asr.scoring.error_counts import RATE_NAMES

MOST_UTTERANCES = 3000  # on the page: some 3 MB with four systems
_LONGEST_VALUE = 300  # characters of a setting


def comparison_page(comparison: Comparison, *, audio: bool = True) -> str:
    """Return the page of a comparison.

    Args:
        comparison: what is shown.
        audio: whether utterances can be played, as far as there is room: those first in which the systems differ most.
    """
    listed = _most_different(comparison.utterances)
    left_out = len(comparison.utterances) - len(listed)
    sound = _sound(comparison, listed) if audio else PageAudio({}, "There is no audio, as asked for by --no-audio.")
    places = {name: place for place, name in enumerate(sound.files)}
    notes = [f"{counted(left_out, 'utterance')} with errors that differ less are not on this page."] if left_out else []
    return render(
        "asr.reporting",
        "compare.html.jinja",
        {
            "title": "Comparison",
            "comparison": comparison,
            "sample": sample_text(comparison),
            "sampled": comparison.systems[0].score.word_interval.unit,
            "systems": _with_folders(comparison),
            "pairs": [[row[0], row[-1] or "verdict", *row[1:-1]] for row in pair_rows(comparison)],
            "tests": test_lines(comparison),
            "outcomes": outcome_rows(comparison),
            "settings": setting_rows(comparison, _LONGEST_VALUE) if comparison.settings else [],
            "curves": [curve.svg() for curve in _curves(comparison)],
            "lines": [(line, *line_style(place)) for place, line in enumerate(_trainings(comparison))],
            "utterance_notes": [*notes, sound.note],
            "data": {
                "letters": [system.letter for system in comparison.systems],
                "unit": comparison.unit,
                "utterances": [
                    _utterance(utterance, comparison.systems, places.get(utterance.id)) for utterance in listed
                ],
            },
            "audio": list(enumerate(sound.files.values())),
        },
    )


def _with_folders(comparison: Comparison) -> list[list[str]]:
    """Return the table of the systems, with their folders."""
    head, *rows = system_rows(comparison)
    folders = [printable(system.folder) for system in comparison.systems]
    return [[head[0], "system", *head[1:]]] + [
        [row[0], folder, *row[1:]] for row, folder in zip(rows, folders, strict=True)
    ]


def _most_different(utterances: Sequence[ComparedUtterance]) -> list[ComparedUtterance]:
    """Return as many utterances as a page holds: first those in which the systems differ most, then most errors."""
    ordered = sorted(utterances, key=lambda found: (min(found.errors) - max(found.errors), -sum(found.errors)))
    return ordered[:MOST_UTTERANCES]


@dataclass(frozen=True)
class _Training:
    """A training, the letters of the systems that have its model, and the model folder."""

    letters: str
    folder: str
    epochs: Sequence[EpochLine]


def _trainings(comparison: Comparison) -> list[_Training]:
    """Return the trainings whose logs are there; that of a model occurs once, however it was decoded."""
    by_model: dict[str, list[ComparedSystem]] = {}
    for system in comparison.systems:
        if system.model is not None and system.epochs:
            by_model.setdefault(os.path.realpath(system.model), []).append(system)
    return [
        _Training(", ".join(system.letter for system in systems), str(systems[0].model), systems[0].epochs)
        for systems in by_model.values()
    ]


def _curves(comparison: Comparison) -> list[Curve]:
    """Return loss and error rate on dev over the epochs, with a line for each training."""
    rate = RATE_NAMES[comparison.unit]
    trainings = _trainings(comparison)
    curves = [
        Curve("training loss, nats per token", _lines(trainings, "loss")),
        Curve("dev loss, nats per token", _lines(trainings, "dev_loss")),
        Curve(f"dev {rate}, %", _lines(trainings, f"dev_{rate.lower()}", 100)),
    ]
    return [curve for curve in curves if any(curve.lines.values())]


def _lines(trainings: Sequence[_Training], figure: str, times: float = 1) -> dict[str, list[tuple[int, float]]]:
    """Return the epochs and the values of a figure of the logs; without any where a log has none."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for training in trainings:
        values = ((epoch.number, getattr(epoch, figure)) for epoch in training.epochs)
        lines[training.letters] = [(epoch, times * value) for epoch, value in values if value is not None]
    return lines


def _sound(comparison: Comparison, listed: Sequence[ComparedUtterance]) -> PageAudio:
    """Return the audio of these utterances, from the decode folder that says of most where it is."""
    scores = [system.score for system in comparison.systems]
    knows_most = max(scores, key=lambda score: sum(found.audio is not None for found in score.recognised.values()))
    return page_audio(knows_most, [utterance.id for utterance in listed])


def _utterance(utterance: ComparedUtterance, systems: Sequence[ComparedSystem], audio: int | None) -> dict[str, Any]:
    """Return what the page's script needs of an utterance; see the head of compare.js, which reads it."""
    words = [[column.reference, *column.hypotheses] for column in utterance.columns]
    return {
        "id": printable(utterance.id),
        "speaker": None if utterance.speaker is None else printable(utterance.speaker),
        "length": utterance.reference_length,
        "errors": utterance.errors,
        "words": [[None if word is None else printable(word) for word in column] for column in words],
        "times": [[] if audio is None else _times(utterance, place, system) for place, system in enumerate(systems)],
        "audio": audio,
    }


def _times(utterance: ComparedUtterance, place: int, system: ComparedSystem) -> list[list[float]]:
    """Return begin and end of each word that a system recognised; nothing if they are not known of all."""
    found = system.score.recognised.get(utterance.id)
    words = sum(column.hypotheses[place] is not None for column in utterance.columns)
    # `text.replace` can make other words of those that have times.
    if found is None or len(found.words) != words:
        return []
    times = [
        [round(word.start_s, 3), round(word.end_s, 3)]
        for word in found.words
        if word.start_s is not None and word.end_s is not None
    ]
    return times if len(times) == words else []
