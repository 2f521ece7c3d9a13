"""The errors of a corpus by what its utterances have in common: speaker, length, any field of the manifest. No torch.

A field is a name with a value for each utterance that has it, e.g. `{"speaker": "anna", "snr_db": 14.5}`. Texts are
groups as they are. Numbers with many values become up to five groups of about as many utterances each.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeGuard

from asr.errors import ScoringError
from asr.reading import shown
from asr.scoring.error_counts import RATE_NAMES, ErrorCounts
from asr.scoring.score import CorpusScore, Fields, FieldValue

SPEAKER, LENGTH = "speaker", "length"  # fields that need no manifest
UNKNOWN = "(unknown)"  # the group of the utterances without the field
LENGTHS = (2, 5, 10, 20, 40)  # the longest of each group, in units of the main figure; more is the last group
_MOST_NUMBERS = 8  # a number with more values falls into ranges
_RANGES = 5


def by_field(score: CorpusScore, fields: Fields) -> dict[str, dict[str, ErrorCounts]]:
    """Return the errors of each group of each field, counted in the unit of the main figure.

    The groups of a field have all utterances, so their sum is that of the corpus.

    Args:
        score: the figures of the corpus.
        fields: values by utterance id and name; of utterances that are not in the corpus they are not used. The
            speakers that the score knows count as the field `speaker`.

    Returns:
        Errors by name of the field, then by group. First are `speaker`, if any is known, and `length`: the length of
        the reference in words, or in characters where they are the main unit. Ranges are in rising order; other groups
        have most errors first. Utterances without the field are the last group, `(unknown)`.
    """
    known: dict[str, dict[str, FieldValue]] = {}
    for name, speaker in score.speakers.items():
        known.setdefault(SPEAKER, {})[name] = speaker
    for utterance in score.words:
        for field, value in fields.get(utterance, {}).items():
            if value is not None and field != LENGTH:
                known.setdefault(field, {})[utterance] = value
    groups = {field: _groups(score, values) for field, values in known.items()}
    ordered = {SPEAKER: groups.pop(SPEAKER)} if SPEAKER in groups else {}
    return {**ordered, LENGTH: _by_length(score), **groups}


def with_groups(score: CorpusScore, names: Sequence[str]) -> CorpusScore:
    """Return figures with the groups of some fields, for the reports.

    Args:
        score: the figures; they know the fields.
        names: `speaker`, `length`, or the names of fields.

    Raises:
        ScoringError: no utterance has such a field.
    """
    found = by_field(score, score.fields)
    for name in names:
        if name not in found:
            raise ScoringError(f"no utterance has a field {shown(name)}; there are: {', '.join(map(shown, found))}")
    return replace(score, groups={name: found[name] for name in names})


def group_rows(score: CorpusScore, field: str, most: int | None = None) -> list[list[str]]:
    """Return the groups of a field as a table of texts: a head, and a row for each of the first `most` groups."""
    groups = list(score.groups[field].items())
    rows = [[field, RATE_NAMES[score.unit], "errors", "sub", "del", "ins", f"{score.unit}s"]]
    for name, counts in groups[:most]:
        figures = (counts.errors, counts.substitutions, counts.deletions, counts.insertions, counts.reference_length)
        rate = f"{100 * counts.rate:.2f} %" if counts.reference_length else "-"
        rows.append([name, rate, *map(str, figures)])
    return rows


def _groups(score: CorpusScore, values: Mapping[str, FieldValue]) -> dict[str, ErrorCounts]:
    """Return the errors of each group of one field, from the values of the utterances that have it."""
    numbers = {name: float(value) for name, value in values.items() if _is_number(value)}
    if len(numbers) == len(values) and len(set(numbers.values())) > _MOST_NUMBERS:
        return _in_ranges(score, numbers, _range_ends(numbers.values()))
    sums: dict[str, ErrorCounts] = {}
    for utterance, counts in score.by_unit.items():
        value = values.get(utterance)
        group = UNKNOWN if value is None else shown_value(value)
        sums[group] = sums.get(group, ErrorCounts()) + counts
    places = {}
    if len(numbers) == len(values):
        places = {
            shown_value(values[name]): place for place, name in enumerate(sorted(numbers, key=lambda n: numbers[n]))
        }
    return dict(
        sorted(sums.items(), key=lambda item: (item[0] == UNKNOWN, places.get(item[0], 0), -item[1].errors, item[0]))
    )


def _by_length(score: CorpusScore) -> dict[str, ErrorCounts]:
    sums: dict[int, ErrorCounts] = {}
    for counts in score.by_unit.values():
        place = bisect.bisect_left(LENGTHS, counts.reference_length)
        sums[place] = sums.get(place, ErrorCounts()) + counts
    names = [f"{low + 1} to {high}" for low, high in zip((-1, *LENGTHS), LENGTHS, strict=False)]
    names.append(f"more than {LENGTHS[-1]}")
    return {names[place]: sums[place] for place in sorted(sums)}


def _range_ends(values: Iterable[float]) -> list[float]:
    """Return the greatest value of each range but the last; a value is never in two ranges."""
    ordered = sorted(values)
    ends = {ordered[len(ordered) * place // _RANGES - 1] for place in range(1, _RANGES)} - {ordered[-1]}
    return sorted(ends) or [max(value for value in ordered if value < ordered[-1])]


def _in_ranges(score: CorpusScore, values: Mapping[str, float], ends: list[float]) -> dict[str, ErrorCounts]:
    between = [f"above {low:g} to {high:g}" for low, high in itertools.pairwise(ends)]
    names = [f"at most {ends[0]:g}", *between, f"above {ends[-1]:g}", UNKNOWN]
    sums = dict.fromkeys(names, ErrorCounts())  # by name, because very close ends can look the same
    for utterance, counts in score.by_unit.items():
        place = bisect.bisect_left(ends, values[utterance]) if utterance in values else -1
        sums[names[place]] += counts
    if all(name in values for name in score.by_unit):
        del sums[UNKNOWN]
    return sums


def _is_number(value: FieldValue) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown_value(value: FieldValue) -> str:
    """Return the name of the group of a value, unless it falls into a range."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
