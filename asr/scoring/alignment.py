"""Which word of the hypothesis stands for which word of the reference, and what is confused with what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import jiwer


@dataclass(frozen=True)
class AlignedWord:
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


def align_words(reference: str, hypothesis: str) -> tuple[AlignedWord, ...]:
    """Align two texts word by word along the minimum edit distance that `count_errors` counts."""
    output = jiwer.process_words(" ".join(reference.split()), " ".join(hypothesis.split()))
    reference_words: list[str] = output.references[0]
    hypothesis_words: list[str] = output.hypotheses[0]
    aligned: list[AlignedWord] = []
    for chunk in output.alignments[0]:
        removed: list[str | None] = [*reference_words[chunk.ref_start_idx : chunk.ref_end_idx]]
        added: list[str | None] = [*hypothesis_words[chunk.hyp_start_idx : chunk.hyp_end_idx]]
        places = max(len(removed), len(added))  # a chunk of gaps has no words on one side
        removed += [None] * (places - len(removed))
        added += [None] * (places - len(added))
        aligned += map(AlignedWord, removed, added)
    return tuple(aligned)


def words_right(reference: str, hypothesis: str) -> list[bool]:
    """Return of each word of the hypothesis whether it is right: aligned with the same word of the reference."""
    return [word.mark == "C" for word in align_words(reference, hypothesis) if word.hypothesis is not None]


def count_confusions(alignments: Iterable[tuple[AlignedWord, ...]]) -> Confusions:
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
