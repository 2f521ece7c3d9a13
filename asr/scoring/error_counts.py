"""Reference and hypothesis → number of substitutions, deletions and insertions; which word was taken for which.

`count_errors` gives the counts of one utterance and `count_corpus` those of a corpus. `align_words` pairs the words
along the same alignment, and `count_confusions` tallies the pairs that differ.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import starmap, zip_longest
from typing import Literal

import jiwer

from asr.errors import ScoringError
from asr.scoring.alignment import aligned_pairs
from asr.text.units import words_of, writes_spaces

Unit = Literal["word", "character"]
RATE_NAMES: Mapping[Unit, str] = {"word": "WER", "character": "CER"}
LISTED_ERRORS = 20  # entries in each list of frequent errors
# What a table of rates is followed by where the main figure is the CER.
NO_SPACES = "most letters belong to scripts without spaces, where WER takes a character for a word"
_NAMES_IN_A_MESSAGE = 5


def main_unit(references: Iterable[str]) -> Unit:
    """Return in what the errors are counted that decide, and that are reported first, for these references.

    Characters, if most letters belong to scripts without spaces, since nobody can tell where their words end. Words for
    all others. Spaces in the texts do not count: a corpus of single words has none, and a segmented Thai text has some.
    """
    return "word" if writes_spaces(references) else "character"


@dataclass(frozen=True)
class ErrorCounts:
    """Errors of one utterance, or of a corpus: `sum(counts, ErrorCounts())`.

    The caller chooses the unit. Counted in words, `rate` is the word error rate; in characters, the character error
    rate. Counts of different units must not be added.
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference_length: int = 0

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        """Return the sum of both."""
        return ErrorCounts(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference_length + other.reference_length,
        )

    @property
    def errors(self) -> int:
        """The edit distance: substitutions + deletions + insertions."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def hits(self) -> int:
        """Number of reference units that were recognised correctly."""
        return self.reference_length - self.substitutions - self.deletions

    @property
    def rate(self) -> float:
        """Errors ÷ reference length: 0.05 is 5 %. Many insertions can make it greater than 1.

        With an empty reference it is 0 if the hypothesis is empty too, else infinite (the limit). To get the rate of a
        corpus, add the counts first: then an utterance with an empty reference does no harm.
        """
        if self.reference_length == 0:
            return math.inf if self.errors else 0.0
        return self.errors / self.reference_length


def count_errors(reference: str, hypothesis: str, *, unit: Unit) -> ErrorCounts:
    """Return the errors of one utterance, counted along an alignment with as few errors as possible.

    Words are those of `words_of`: white space separates them, and in a script without spaces each character is one.
    How their errors are divided into substitutions, deletions and insertions is sclite's rule, see `alignment.py`.
    Counted in characters, the space between two words is one character, and jiwer divides the errors.

    Source: Levenshtein 1966.
    """
    if unit == "word":
        marks = Counter(word.mark for word in align_words(reference, hypothesis))
        return ErrorCounts(marks["S"], marks["D"], marks["I"], marks["C"] + marks["S"] + marks["D"])
    output = jiwer.process_characters(" ".join(reference.split()), " ".join(hypothesis.split()))
    return ErrorCounts(
        output.substitutions,
        output.deletions,
        output.insertions,
        output.hits + output.substitutions + output.deletions,
    )


def count_corpus(references: Mapping[str, str], hypotheses: Mapping[str, str], *, unit: Unit) -> dict[str, ErrorCounts]:
    """Return each utterance's errors, from references and hypotheses by utterance id.

    Returns:
        Counts by utterance id, in the order of the references.

    Raises:
        ScoringError: an utterance has no hypothesis or no reference.
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
            f"{'; '.join(complaints)}: both need the same utterances; decode again and score that folder"
        )
    return {name: count_errors(reference, hypotheses[name], unit=unit) for name, reference in references.items()}


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMES_IN_A_MESSAGE])
    if len(names) > _NAMES_IN_A_MESSAGE:
        shown += ", …"
    plural = "s" if len(names) > 1 else ""
    return f"{len(names)} utterance{plural} ({shown})"


@dataclass(frozen=True)
class WordPair:
    """One place of an alignment: a reference word and a hypothesis word, or None for the gap beside an error."""

    reference: str | None
    hypothesis: str | None

    @property
    def mark(self) -> Literal["C", "S", "D", "I"]:
        """C for correct, S for substituted, D for deleted, I for inserted; the letters are sclite's."""
        if self.reference is None:
            return "I"
        if self.hypothesis is None:
            return "D"
        return "C" if self.reference == self.hypothesis else "S"


@dataclass(frozen=True)
class Confusions:
    """How often each word was deleted, inserted or taken for another."""

    substitutions: Counter[tuple[str, str]]
    """Counts by (reference word, hypothesis word)."""
    deletions: Counter[str]
    insertions: Counter[str]


def align_words(reference: str, hypothesis: str) -> tuple[WordPair, ...]:
    """Return two texts aligned word by word, along the alignment that `count_errors` counts."""
    return tuple(WordPair(*pair) for pair in aligned_pairs(words_of(reference), words_of(hypothesis)))


def align_characters(reference: str, hypothesis: str) -> tuple[WordPair, ...]:
    """Return two texts aligned character by character, as `count_errors` counts them; the "words" are characters.

    The space between two words is one character.
    """
    output = jiwer.process_characters(" ".join(reference.split()), " ".join(hypothesis.split()))
    said: list[str] = output.references[0]
    recognised: list[str] = output.hypotheses[0]
    aligned: list[WordPair] = []
    for chunk in output.alignments[0]:
        removed = said[chunk.ref_start_idx : chunk.ref_end_idx]
        added = recognised[chunk.hyp_start_idx : chunk.hyp_end_idx]
        aligned += starmap(WordPair, zip_longest(removed, added))  # a gap has no characters on one side
    return tuple(aligned)


def words_right(reference: str, hypothesis: str) -> list[bool]:
    """Return for each hypothesis word whether it is right: aligned with the same word of the reference."""
    return [word.mark == "C" for word in align_words(reference, hypothesis) if word.hypothesis is not None]


def count_confusions(alignments: Iterable[tuple[WordPair, ...]]) -> Confusions:
    """Return how often each substitution, deletion and insertion occurs in the alignments of a corpus."""
    confusions = Confusions(Counter(), Counter(), Counter())
    for word in (word for alignment in alignments for word in alignment):
        if word.reference is None and word.hypothesis is not None:
            confusions.insertions[word.hypothesis] += 1
        elif word.hypothesis is None and word.reference is not None:
            confusions.deletions[word.reference] += 1
        elif word.reference != word.hypothesis and word.reference and word.hypothesis:
            confusions.substitutions[word.reference, word.hypothesis] += 1
    return confusions


@dataclass(frozen=True)
class FrequentErrors:
    """The most frequent errors of one kind.

    Attributes:
        name: e.g. "substitutions".
        listed: the words of each (one, or the reference's and the hypothesis's), and how often it occurs.
        total: number of errors of this kind.
        others: how many different ones are not listed.
    """

    name: str
    listed: tuple[tuple[tuple[str, ...], int], ...]
    total: int
    others: int

    @classmethod
    def of(cls, name: str, counter: Mapping[tuple[str, ...], int]) -> FrequentErrors:
        """Return the most frequent ones of a kind."""
        listed = tuple(Counter(counter).most_common(LISTED_ERRORS))
        return cls(name, listed, sum(counter.values()), len(counter) - len(listed))

    @property
    def others_total(self) -> int:
        """How often those occur that are not listed."""
        return self.total - sum(count for _, count in self.listed)


def frequent_errors(confusions: Confusions) -> list[FrequentErrors]:
    """Return the most frequent substitutions, deletions and insertions."""
    return [
        FrequentErrors.of("substitutions", dict(confusions.substitutions.items())),
        FrequentErrors.of("deletions", {(word,): count for word, count in confusions.deletions.items()}),
        FrequentErrors.of("insertions", {(word,): count for word, count in confusions.insertions.items()}),
    ]
