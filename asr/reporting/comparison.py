"""Several systems on the same utterances → how they differ: in error rates, word by word, in settings. No torch.

Each pair is tested. Of many pairs some differ by chance, so Holm's correction makes the p-values greater: the
probability that it calls any pair different that is not is then at most 5 %, whichever pairs are.

Source: Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr.reporting.systems import LETTERS, ComparedSystem, common_utterances, read_system, require_same
from asr.scoring.error_counts import RATE_NAMES, Unit, WordPair
from asr.scoring.intervals import PairedComparison
from asr.scoring.score import compare_scores, read_score
from asr.text.units import words_of

SIGNIFICANT = 0.05
_CHOSEN_ON = ("dev", "train")  # splits by which a model is made; a manifest has the name of its split


@dataclass(frozen=True)
class ComparedPair:
    """Two systems of a comparison.

    Attributes:
        first, second: their letters.
        difference: the main error rate of the second minus that of the first, with interval and p-value.
        p_corrected: the p-value after Holm's correction for the number of pairs.
        both_right, only_first_right, only_second_right, both_wrong: number of utterances without errors, or with.
    """

    first: str
    second: str
    difference: PairedComparison
    p_corrected: float
    both_right: int
    only_first_right: int
    only_second_right: int
    both_wrong: int

    @property
    def better(self) -> str | None:
        """The letter of the better system; None if the difference is no more than chance."""
        if self.p_corrected >= SIGNIFICANT:
            return None
        return self.second if self.difference.difference < 0 else self.first


@dataclass(frozen=True)
class AlignedColumn:
    """One place of an utterance: the reference's word, and the word of each system; None for a gap."""

    reference: str | None
    hypotheses: tuple[str | None, ...]


@dataclass(frozen=True)
class ComparedUtterance:
    """What the systems made of one utterance.

    Attributes:
        id: the utterance's.
        speaker: None if it is not known.
        reference_length: in the unit of the main figure.
        errors: of each system, in that unit.
        columns: all texts, aligned word by word with the reference.
    """

    id: str
    speaker: str | None
    reference_length: int
    errors: tuple[int, ...]
    columns: tuple[AlignedColumn, ...]


@dataclass(frozen=True)
class SettingDifference:
    """A setting that is not the same in all systems; a system without it has None in `values` and False in `known`."""

    name: str
    values: tuple[Any, ...]
    known: tuple[bool, ...]


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        systems: in the order in which they were given.
        pairs: each system with each later one.
        settings: those that differ, by name.
        utterances: those in which a system has errors, in the order of the references.
        compared: number of utterances that were compared.
        left_out: ids of the utterances that are not in all systems, or with another reference there.
        notes: what a reader must know, such as a comparison on dev.
        page: the page that was written; None if none was asked for.
    """

    systems: tuple[ComparedSystem, ...]
    pairs: tuple[ComparedPair, ...]
    settings: tuple[SettingDifference, ...]
    utterances: tuple[ComparedUtterance, ...]
    compared: int
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    page: Path | None = None

    @property
    def unit(self) -> Unit:
        """In what the errors of the main figure are counted: words, or in scripts without spaces characters."""
        return self.systems[0].score.unit

    def to_json(self) -> dict[str, Any]:
        """Return all figures as JSON has them; rates are fractions, not per cent."""
        return {
            "main": RATE_NAMES[self.unit].lower(),
            "utterances": self.compared,
            "left_out": list(self.left_out),
            "notes": list(self.notes),
            "systems": [_system_to_json(system) for system in self.systems],
            "pairs": [asdict(pair) | {"better": pair.better} for pair in self.pairs],
            "settings": [asdict(setting) for setting in self.settings],
            "differing": [asdict(utterance) for utterance in self.utterances],
        }


def _system_to_json(system: ComparedSystem) -> dict[str, Any]:
    return {
        "letter": system.letter,
        "folder": str(system.folder),
        "model": None if system.model is None else str(system.model),
        "wer": system.score.wer,
        "wer_interval": asdict(system.score.word_interval),
        "cer": system.score.cer,
        "cer_interval": asdict(system.score.character_interval),
        "words": asdict(system.score.word_total),
        "characters": asdict(system.score.character_total),
        "parameters": system.parameters,
        "training_s": system.training_s,
    }


def compared(folders: Sequence[Path], *, common: bool = False) -> Comparison:
    """Return how the systems of decode folders differ.

    Args:
        folders: two or more, at most as many as there are letters.
        common: leave out the utterances that are not in all systems, or with another reference there.

    Raises:
        ScoringError: a file is missing or malformed, or the references differ.
    """
    scores = {folder: read_score(folder) for folder in folders}
    references = {folder: score.references for folder, score in scores.items()}
    names = common_utterances(references)
    if not common or not names:
        require_same(references, len(names))
    systems = tuple(
        read_system(letter, folder, score, names)
        for letter, (folder, score) in zip(LETTERS, scores.items(), strict=False)
    )
    return Comparison(
        systems=systems,
        pairs=_pairs(systems),
        settings=_differing_settings(systems),
        utterances=tuple(_utterances(systems)),
        compared=len(names),
        left_out=tuple(sorted(set().union(*references.values()) - set(names))),
        notes=tuple(_notes(systems)),
    )


def _pairs(systems: Sequence[ComparedSystem]) -> tuple[ComparedPair, ...]:
    pairs = list(itertools.combinations(systems, 2))
    differences = [compare_scores(first.score, second.score) for first, second in pairs]
    corrected = holm([difference.p_value for difference in differences])
    return tuple(map(_pair, pairs, differences, corrected))


def _pair(pair: tuple[ComparedSystem, ComparedSystem], difference: PairedComparison, p: float) -> ComparedPair:
    first, second = pair
    found = Counter(
        (counts.errors == 0, second.score.by_unit[name].errors == 0) for name, counts in first.score.by_unit.items()
    )
    rights = [found[outcome] for outcome in ((True, True), (True, False), (False, True), (False, False))]
    return ComparedPair(first.letter, second.letter, difference, p, *rights)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number, in the same order; each is at least what it was.

    Source: Holm 1979.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = largest
    return corrected


def align_systems(alignments: Sequence[Sequence[WordPair]]) -> tuple[AlignedColumn, ...]:
    """Return the texts of several systems aligned word by word with one reference.

    Args:
        alignments: of each system with that reference. What they insert at the same place is in the same columns.
    """
    # By system: the word in place of each of the reference's, and what is inserted before each, and at the end.
    taken: list[list[WordPair]] = []
    inserted: list[list[list[str]]] = []
    for alignment in alignments:
        mine: list[WordPair] = []
        added: list[list[str]] = [[]]
        for pair in alignment:
            if pair.reference is None:
                added[-1].append(pair.hypothesis or "")
            else:
                mine.append(pair)
                added.append([])
        taken.append(mine)
        inserted.append(added)
    columns: list[AlignedColumn] = []
    for place in range(len(inserted[0])):
        gaps = itertools.zip_longest(*(added[place] for added in inserted))
        columns += [AlignedColumn(None, gap) for gap in gaps]
        if place < len(taken[0]):
            columns.append(AlignedColumn(taken[0][place].reference, tuple(mine[place].hypothesis for mine in taken)))
    return tuple(columns)


def _utterances(systems: Sequence[ComparedSystem]) -> Iterator[ComparedUtterance]:
    """Yield the utterances in which a system has errors."""
    speakers = {name: speaker for system in systems for name, speaker in system.score.speakers.items()}
    wrong = [{utterance.id: utterance.alignment for utterance in system.score.wrong} for system in systems]
    for name, reference in systems[0].score.references.items():
        counts = [system.score.by_unit[name] for system in systems]
        if any(count.errors for count in counts):
            right = tuple(WordPair(word, word) for word in words_of(reference))
            errors = tuple(count.errors for count in counts)
            columns = align_systems([of_system.get(name, right) for of_system in wrong])
            yield ComparedUtterance(name, speakers.get(name), counts[0].reference_length, errors, columns)


def _differing_settings(systems: Sequence[ComparedSystem]) -> tuple[SettingDifference, ...]:
    names = dict.fromkeys(name for system in systems for name in system.settings)  # in their order
    differences = (
        SettingDifference(
            name,
            tuple(system.settings.get(name) for system in systems),
            tuple(name in system.settings for system in systems),
        )
        for name in names
    )
    return tuple(item for item in differences if any(_is_other(item, place) for place in range(1, len(systems))))


def _is_other(item: SettingDifference, place: int) -> bool:
    """Return whether a setting is other than that of the first system; true is not 1."""
    mine, first = item.values[place], item.values[0]
    return item.known[place] != item.known[0] or mine != first or isinstance(mine, bool) != isinstance(first, bool)


def _notes(systems: Sequence[ComparedSystem]) -> Iterator[str]:
    yield from dict.fromkeys(note for system in systems for note in system.notes)
    manifests = dict.fromkeys(str(system.settings.get("run.manifest", "")) for system in systems)
    for manifest in manifests:
        split = Path(manifest).name.partition(".")[0]
        if split in _CHOSEN_ON:
            made = "training stops and asr tune chooses by it" if split == "dev" else "the models have learnt it"
            yield f"{manifest} is {split}: {made}, so the rates are too good; compare on test"
