"""Errors by speaker, by length and by the fields of a manifest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.scoring.error_counts import ErrorCounts
from asr.scoring.groups import UNKNOWN, by_field
from asr.scoring.score import score_texts

REFERENCES = {"a-1": "one two three", "a-2": "one", "b-1": "one two three four five six", "c-1": ""}
HYPOTHESES = {"a-1": "one two tree", "a-2": "one", "b-1": "two three for five six seven", "c-1": "one"}
# a-1: 1 S of 3. a-2: none of 1. b-1: 1 D, 1 S, 1 I of 6. c-1: 1 I of 0.
SCORE = score_texts(REFERENCES, HYPOTHESES, {"a-1": "anna", "a-2": "anna", "b-1": "bert"})


def test_speakers_and_lengths_need_no_manifest_and_are_as_worked_by_hand():
    groups = by_field(SCORE, {})
    assert list(groups) == ["speaker", "length"]
    assert list(groups["speaker"].items()) == [
        ("bert", ErrorCounts(1, 1, 1, 6)),
        ("anna", ErrorCounts(1, 0, 0, 4)),
        (UNKNOWN, ErrorCounts(0, 0, 1, 0)),
    ]
    assert list(groups["length"].items()) == [
        ("0 to 2", ErrorCounts(0, 0, 1, 1)),
        ("3 to 5", ErrorCounts(1, 0, 0, 3)),
        ("6 to 10", ErrorCounts(1, 1, 1, 6)),
    ]


def test_fields_are_grouped_by_value_and_few_numbers_are_in_rising_order():
    fields = {
        "a-1": {"noisy": True, "take": 10},
        "a-2": {"noisy": False, "take": 2},
        "b-1": {"noisy": True, "take": 2, "place": None},
        "nobody": {"noisy": True},
    }
    groups = by_field(SCORE, fields)
    assert list(groups) == ["speaker", "length", "noisy", "take"]
    assert {name: counts.errors for name, counts in groups["noisy"].items()} == {"yes": 4, "no": 0, UNKNOWN: 1}
    assert list(groups["take"]) == ["2", "10", UNKNOWN]


def test_many_numbers_become_ranges_of_as_many_utterances():
    references = {str(number): "a" for number in range(100)}
    score = score_texts(references, references)
    groups = by_field(score, {name: {"snr_db": float(name)} for name in references})["snr_db"]
    assert {name: counts.reference_length for name, counts in groups.items()} == {
        "at most 19": 20,
        "above 19 to 39": 20,
        "above 39 to 59": 20,
        "above 59 to 79": 20,
        "above 79": 20,
    }


values = st.one_of(st.none(), st.text(max_size=2), st.booleans(), st.integers(0, 30), st.floats(-3, 3))


@given(st.lists(st.tuples(values, st.integers(0, 3)), min_size=1, max_size=40), st.booleans())
def test_the_groups_of_each_field_have_the_errors_of_the_corpus(utterances, numbers_only):
    references = {str(place): "x " * 9 for place in range(len(utterances))}
    hypotheses = {str(place): "x " * (9 - missing) for place, (_, missing) in enumerate(utterances)}
    score = score_texts(references, hypotheses)
    fields = {
        str(place): {"field": value}
        for place, (value, _) in enumerate(utterances)
        if not numbers_only or type(value) in (int, float)
    }
    for groups in by_field(score, fields).values():
        assert sum(groups.values(), ErrorCounts()) == score.word_total


def test_where_most_values_are_the_greatest_the_others_are_one_range():
    references = {str(number): "a" for number in range(100)}
    score = score_texts(references, references)
    groups = by_field(score, {name: {"n": min(int(name), 10)} for name in references})["n"]
    assert {name: counts.reference_length for name, counts in groups.items()} == {"at most 9": 10, "above 9": 90}


def test_in_scripts_without_spaces_groups_count_characters():
    score = score_texts({"a": "今天天气很好"}, {"a": "今天天气"}, {"a": "li"})
    assert by_field(score, {})["speaker"] == {"li": ErrorCounts(0, 2, 0, 6)}
    assert list(by_field(score, {})["length"]) == ["6 to 10"]
    assert by_field(score, {})["length"]["6 to 10"].rate == pytest.approx(1 / 3)
