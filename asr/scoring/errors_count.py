"""Substitutions, deletions and insertions between references and hypotheses, counted so that they add up.

Which word of the hypothesis stands for which word of the reference, and what is confused with what.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import jiwer

from asr.errors import ScoringError

Unit = Literal["word", "character"]
_NAMES_IN_A_MESSAGE = 5


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of one utterance or, added up, of a corpus: `sum(counts, ErrorCounts())`.

    The unit is the caller's: counted in words, `rate` is the word error rate, in characters the character error rate.
    Objects of different units must not be added.
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference_length: int = 0

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        """Return the counts of both together."""
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference_length + other.reference_length,
        )

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together: the edit distance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def hits(self) -> int:
        """Reference units that were recognised correctly."""
        return self.reference_length - self.substitutions - self.deletions

    @property
    def rate(self) -> float:
        """Errors ÷ reference length: 0.05 is 5 %; above 1 if insertions abound.

        With an empty reference it is 0 if the hypothesis is empty too, else infinite (as the limit is).
        A corpus rate is taken from summed counts, where an utterance without reference words does no harm.
        """
        if self.reference_length == 0:
            return math.inf if self.errors else 0.0
        return self.errors / self.reference_length


def count_errors(reference: str, hypothesis: str, *, unit: Unit) -> ErrorCounts:
    """Count the errors of one utterance along a minimum edit distance alignment with unit costs.

    Words are what white space separates; in characters, one space between words counts as a character.
    Where several alignments have the same distance, the split into substitutions, deletions and insertions is
    that of jiwer; sclite's costs (4 : 3 : 3) can split them otherwise.

    Source: Levenshtein 1966, through jiwer.
    """
    process = jiwer.process_words if unit == "word" else jiwer.process_characters
    output = process(" ".join(reference.split()), " ".join(hypothesis.split()))
    return ErrorCounts(
        output.substitutions,
        output.deletions,
        output.insertions,
        output.hits + output.substitutions + output.deletions,
    )


def count_corpus(references: Mapping[str, str], hypotheses: Mapping[str, str], *, unit: Unit) -> dict[str, ErrorCounts]:
    """Count each utterance's errors; texts are paired by utterance id.

    Returns:
        Counts by utterance id, in the order of the references.

    Raises:
        ScoringError: an utterance lacks its hypothesis or its reference.
    """
    missing = [name for name in references if name not in hypotheses]
    extra = [name for name in hypotheses if name not in references]
    if missing or extra:
        complaints = []
        if missing:
            complaints.append(f"{_listed(missing)} without a hypothesis")
        if extra:
            complaints.append(f"{_listed(extra)} without a reference")
        raise ScoringError(
            f"{'; '.join(complaints)}: both must hold the same utterances; decode and score the same manifest"
        )
    return {name: count_errors(reference, hypotheses[name], unit=unit) for name, reference in references.items()}


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_IN_A_MESSAGE])
    if len(names) > _NAMES_IN_A_MESSAGE:
        shown += ", …"
    return f"{len(names)} utterance(s) ({shown})"


@dataclass(frozen=True)
class WordPair:
    """One place of an alignment; None marks the gap that an insertion or a deletion leaves."""

    reference: str | None
    hypothesis: str | None

    @property
    def mark(self) -> Literal["C", "S", "D", "I"]:
        """Correct, substituted, deleted or inserted: sclite's letters."""
        if self.reference is None:
            return "I"
        if self.hypothesis is None:
            return "D"
        return "C" if self.reference == self.hypothesis else "S"


@dataclass(frozen=True)
class Confusions:
    """How often each error occurred."""

    substitutions: Counter[tuple[str, str]]
    """By (reference word, hypothesis word)."""
    deletions: Counter[str]
    insertions: Counter[str]


def align_words(reference: str, hypothesis: str) -> tuple[WordPair, ...]:
    """Align two texts word by word along the minimum edit distance that `count_errors` counts."""
    output = jiwer.process_words(" ".join(reference.split()), " ".join(hypothesis.split()))
    reference_words: list[str] = output.references[0]
    hypothesis_words: list[str] = output.hypotheses[0]
    aligned: list[WordPair] = []
    for chunk in output.alignments[0]:
        removed: list[str | None] = [*reference_words[chunk.ref_start_idx : chunk.ref_end_idx]]
        added: list[str | None] = [*hypothesis_words[chunk.hyp_start_idx : chunk.hyp_end_idx]]
        places = max(len(removed), len(added))  # a chunk of gaps has no words on one side
        removed += [None] * (places - len(removed))
        added += [None] * (places - len(added))
        aligned += map(WordPair, removed, added)
    return tuple(aligned)


def words_right(reference: str, hypothesis: str) -> list[bool]:
    """Return of each word of the hypothesis whether it is right: aligned with the same word of the reference."""
    return [word.mark == "C" for word in align_words(reference, hypothesis) if word.hypothesis is not None]


def count_confusions(alignments: Iterable[tuple[WordPair, ...]]) -> Confusions:
    """Count each substitution, deletion and insertion over a corpus."""
    confusions = Confusions(Counter(), Counter(), Counter())
    for word in (word for alignment in alignments for word in alignment):
        if word.reference is None and word.hypothesis is not None:
            confusions.insertions[word.hypothesis] += 1
        elif word.hypothesis is None and word.reference is not None:
            confusions.deletions[word.reference] += 1
        elif word.reference != word.hypothesis and word.reference and word.hypothesis:
            confusions.substitutions[word.reference, word.hypothesis] += 1
    return confusions
