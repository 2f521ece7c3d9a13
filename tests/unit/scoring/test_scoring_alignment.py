"""Which words are taken for which; equality with sclite is in test_scoring_sclite.py."""

from __future__ import annotations

from functools import cache
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.scoring import alignment
from asr.scoring.alignment import aligned_pairs

sequences = st.lists(st.sampled_from("abc"), max_size=7)


def fewest(reference, hypothesis):
    """The least (errors, substitutions), by exhaustive recursion over the last words."""

    @cache
    def least(i, j):
        found = [(0, 0)] if i == j == 0 else []
        if i:
            errors, substitutions = least(i - 1, j)
            found.append((errors + 1, substitutions))
        if j:
            errors, substitutions = least(i, j - 1)
            found.append((errors + 1, substitutions))
        if i and j:
            wrong = reference[i - 1] != hypothesis[j - 1]
            errors, substitutions = least(i - 1, j - 1)
            found.append((errors + wrong, substitutions + wrong))
        return min(found)

    return least(len(reference), len(hypothesis))


def errors_and_substitutions(pairs):
    return sum(a != b for a, b in pairs), sum(a != b and None not in (a, b) for a, b in pairs)


@given(sequences, sequences)
def test_errors_are_the_fewest_and_of_these_alignments_the_most_words_are_right(reference, hypothesis):
    pairs = aligned_pairs(reference, hypothesis)
    assert [a for a, _ in pairs if a is not None] == reference
    assert [b for _, b in pairs if b is not None] == hypothesis
    assert errors_and_substitutions(pairs) == fewest(reference, hypothesis)


@given(sequences, sequences)
def test_very_long_texts_are_aligned_with_the_fewest_errors_too(reference, hypothesis):
    with mock.patch.object(alignment, "_MOST_CELLS", 0):
        pairs = aligned_pairs(reference, hypothesis)
    assert [a for a, _ in pairs if a is not None] == reference
    assert [b for _, b in pairs if b is not None] == hypothesis
    assert errors_and_substitutions(pairs)[0] == fewest(reference, hypothesis)[0]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "pairs"),
    [
        ("b d e", "b t", [("b", "b"), ("d", None), ("e", "t")]),
        ("a b", "b a", [("a", None), ("b", "b"), (None, "a")]),  # two errors as by pairs, and a word right
        ("a", "a a", [(None, "a"), ("a", "a")]),
        ("", "a", [(None, "a")]),
        ("", "", []),
    ],
)
def test_pairs_are_as_worked_by_hand(reference, hypothesis, pairs):
    assert aligned_pairs(reference.split(), hypothesis.split()) == pairs
