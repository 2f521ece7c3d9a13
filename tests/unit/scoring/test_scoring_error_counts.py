import math
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.errors import ScoringError
from asr.scoring.error_counts import ErrorCounts, align_words, count_corpus, count_errors, main_unit, words_right

words = st.lists(st.sampled_from(["a", "b", "ab", "ba"]), max_size=6)
texts = words.map(" ".join)
counts = st.builds(
    ErrorCounts,
    substitutions=st.integers(0, 50),
    deletions=st.integers(0, 50),
    insertions=st.integers(0, 50),
    reference_length=st.integers(100, 200),
)


def edit_distance(a, b):
    """The definition, by exhaustive recursion over the last symbols."""

    @cache
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        return min(
            distance(i - 1, j) + 1,
            distance(i, j - 1) + 1,
            distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]),
        )

    return distance(len(a), len(b))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("the cat sat", "the cat sat", ErrorCounts(0, 0, 0, 3)),
        ("the cat sat", "the bat sat", ErrorCounts(1, 0, 0, 3)),
        ("the cat sat", "the sat", ErrorCounts(0, 1, 0, 3)),
        ("the cat sat", "the cat has sat", ErrorCounts(0, 0, 1, 3)),
        ("one two three four five", "zero two four five six", ErrorCounts(1, 1, 1, 5)),
        ("the cat", "", ErrorCounts(0, 2, 0, 2)),
        ("", "the cat", ErrorCounts(0, 0, 2, 0)),
        ("", "", ErrorCounts(0, 0, 0, 0)),
    ],
)
def test_word_errors_match_cases_worked_by_hand(reference, hypothesis, expected):
    assert count_errors(reference, hypothesis, unit="word") == expected


def test_characters_include_one_space_between_words():
    assert count_errors("ab c", "abc", unit="character") == ErrorCounts(0, 1, 0, 4)
    assert count_errors("ab c", "ax c", unit="character") == ErrorCounts(1, 0, 0, 4)


@pytest.mark.parametrize("unit", ["word", "character"])
def test_white_space_around_and_between_words_does_not_count(unit):
    assert count_errors(" a\tb \u00a0 c\n", "a b c", unit=unit).errors == 0


@given(words, words)
def test_word_errors_are_the_edit_distance_of_the_word_sequences(reference, hypothesis):
    result = count_errors(" ".join(reference), " ".join(hypothesis), unit="word")
    assert result.errors == edit_distance(reference, hypothesis)
    assert result.reference_length == len(reference)
    assert result.hits + result.substitutions + result.insertions == len(hypothesis)


@given(texts, texts)
def test_character_errors_are_the_edit_distance_of_the_strings(reference, hypothesis):
    result = count_errors(reference, hypothesis, unit="character")
    assert result.errors == edit_distance(reference, hypothesis)
    assert result.reference_length == len(reference)
    assert result.hits + result.substitutions + result.insertions == len(hypothesis)


@given(st.lists(counts, max_size=5))
def test_the_sum_of_counts_is_taken_field_by_field(parts):
    total = sum(parts, ErrorCounts())
    assert total.errors == sum(part.errors for part in parts)
    assert total.hits == sum(part.hits for part in parts)
    assert total.reference_length == sum(part.reference_length for part in parts)


def test_the_corpus_rate_divides_summed_errors_and_is_not_the_mean_of_rates():
    long, short = ErrorCounts(1, 0, 0, 9), ErrorCounts(0, 1, 0, 1)
    assert (long + short).rate == pytest.approx(2 / 10)
    assert (long.rate + short.rate) / 2 != pytest.approx(2 / 10)


def test_the_rate_without_reference_is_zero_or_infinite():
    assert ErrorCounts().rate == 0.0
    assert ErrorCounts(insertions=2).rate == math.inf
    assert (ErrorCounts(insertions=2) + ErrorCounts(reference_length=4)).rate == 0.5


def test_a_corpus_is_counted_by_utterance_in_reference_order():
    result = count_corpus({"u2": "a b", "u1": "c"}, {"u1": "c", "u2": "a"}, unit="word")
    assert list(result.items()) == [("u2", ErrorCounts(0, 1, 0, 2)), ("u1", ErrorCounts(0, 0, 0, 1))]


def test_unpaired_utterances_are_an_error_that_names_them():
    references = {f"ref{i}": "a" for i in range(7)} | {"both": "a"}
    with pytest.raises(ScoringError) as caught:
        count_corpus(references, {"both": "a", "stray": "b"}, unit="word")
    message = str(caught.value)
    assert "7 utterances (ref0, ref1, ref2, ref3, ref4, …) without a hypothesis" in message
    assert "1 utterance (stray) without a reference" in message


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("今天天气很好 ok", "今田 天气很 ok", ErrorCounts(1, 1, 0, 7)),  # where a space is written does not matter
        ("ดีมาก", "ดีมา", ErrorCounts(0, 1, 0, 4)),  # ดี is one: a vowel that is a mark counts with its consonant
        ("café 今", "cafe 今", ErrorCounts(1, 0, 0, 2)),
    ],
)
def test_in_a_script_without_spaces_each_character_is_a_word(reference, hypothesis, expected):
    assert count_errors(reference, hypothesis, unit="word") == expected
    pairs = align_words(reference, hypothesis)
    assert sum(pair.mark != "C" for pair in pairs) == expected.errors


def test_in_a_script_without_spaces_each_character_is_right_or_wrong():
    assert words_right("今天天气很好 ok", "今田天气很好 ok") == [True, False, True, True, True, True, True]


@pytest.mark.parametrize(
    ("references", "unit"),
    [
        (["yes", "no"], "word"),  # single words have no spaces
        (["the cat", "今天"], "word"),
        (["今天天气很好", "ok"], "character"),
        (["สวัสดี ครับ"], "character"),  # spaces between phrases, or a text that somebody has segmented
        (["한국어 띄어쓰기"], "word"),
        (["नमस्ते दुनिया", "مرحبا"], "word"),
        (["12 34"], "word"),
        ([], "word"),
    ],
)
def test_the_main_figure_follows_the_script_and_not_the_spaces(references, unit):
    assert main_unit(references) == unit
