import itertools

import numpy as np
import pytest
from scipy import stats

from asr.errors import ScoringError
from asr.scoring.error_counts import ErrorCounts
from asr.scoring.intervals import compare_rates, rate_interval, speakers_of


def utterances(errors, lengths=None):
    lengths = lengths or [1] * len(errors)
    return [
        ErrorCounts(e, 0, 0, n) if e <= n else ErrorCounts(n, 0, e - n, n) for e, n in zip(errors, lengths, strict=True)
    ]


def draw_corpus(rng, speakers, of_each, spread, systems=1, interaction=0.0):
    """Errors of systems of equal quality, (system, utterance); reference lengths; each utterance's speaker.

    A speaker's rate is 6 % times a lognormal factor, an utterance's that times a gamma-distributed one.
    """
    size = speakers * of_each
    speaker = np.repeat(np.arange(speakers), of_each)
    lengths = rng.integers(2, 15, size)
    rate = 0.06 * np.exp(rng.normal(0, spread, speakers) - spread**2 / 2)[speaker] * rng.gamma(2, 0.5, size)
    errors = []
    for _ in range(systems):
        own = np.exp(rng.normal(0, interaction, speakers) - interaction**2 / 2)[speaker]
        errors.append(rng.binomial(lengths, np.minimum(rate * own, 0.9)))
    return np.array(errors), lengths, [str(number) for number in speaker]


@pytest.mark.parametrize(
    ("speakers", "of_each", "spread", "by_speaker"),
    [
        (5, 13, 0.5, True),
        (10, 13, 0.5, True),
        (20, 10, 0.5, True),
        (40, 10, 0.5, True),
        (40, 1, 0.3, False),
        (130, 1, 0.3, False),
    ],
)
def test_the_interval_holds_the_true_rate_as_often_as_it_says(speakers, of_each, spread, by_speaker):
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(1000):
        (errors,), lengths, names = draw_corpus(rng, speakers, of_each, spread)
        counts = utterances(errors.tolist(), lengths.tolist())
        interval = rate_interval(counts, speakers=names if by_speaker else None)
        held += interval.low <= 0.06 <= interval.high
    assert 930 <= held <= 970


@pytest.mark.parametrize(("speakers", "of_each", "interaction"), [(10, 13, 0.0), (20, 10, 0.5), (40, 10, 0.8)])
def test_equal_systems_are_called_different_once_in_twenty(speakers, of_each, interaction):
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(1000):
        (a, b), lengths, names = draw_corpus(rng, speakers, of_each, 0.5, systems=2, interaction=interaction)
        counts = [utterances(errors.tolist(), lengths.tolist()) for errors in (a, b)]
        found += compare_rates(*counts, speakers=names).p_value < 0.05
    assert 35 <= found <= 65


def test_the_interval_is_that_of_the_textbooks_jackknife():
    errors, lengths = [3, 1, 0, 2, 4], [10, 12, 8, 9, 11]
    interval = rate_interval(utterances(errors, lengths), level=0.9)
    logs = [np.log((sum(errors) - e) / (sum(lengths) - n)) for e, n in zip(errors, lengths, strict=True)]
    pseudo = [5 * np.log(10 / 50) - 4 * log for log in logs]  # Tukey's pseudo-values: their mean's standard error
    half = stats.t.ppf(0.95, 4) * np.std(pseudo, ddof=1) / np.sqrt(5)
    assert (interval.low, interval.high) == pytest.approx((0.2 * np.exp(-half), 0.2 * np.exp(half)))
    assert (interval.units, interval.unit, interval.level) == (5, "utterances", 0.9)


def test_speakers_are_the_utterances_they_say_joined():
    counts = utterances([1, 0, 2, 1, 0, 3], [3, 4, 5, 2, 6, 7])
    joined = [counts[0] + counts[2], counts[1] + counts[3] + counts[4], counts[5]]
    by_speaker, of_joined = rate_interval(counts, speakers=["a", "b", "a", "b", "b", "c"]), rate_interval(joined)
    assert (by_speaker.low, by_speaker.high) == (of_joined.low, of_joined.high)
    assert (by_speaker.units, by_speaker.unit) == (3, "speakers")


def test_speakers_who_differ_widen_the_interval_by_the_root_of_their_utterances():
    errors = [int(speaker < 15) for speaker in range(50) for _ in range(16)]
    speakers = [str(speaker) for speaker in range(50) for _ in range(16)]
    narrow, wide = rate_interval(utterances(errors)), rate_interval(utterances(errors), speakers=speakers)
    assert np.log(wide.high / wide.low) / np.log(narrow.high / narrow.low) == pytest.approx(4, rel=0.1)


def test_without_errors_the_upper_end_is_the_rate_at_which_that_happens_once_in_twenty():
    interval = rate_interval(utterances([0, 0, 0], [10, 15, 10]))
    assert interval.low == 0.0
    assert (1 - interval.high) ** 35 == pytest.approx(0.05)
    assert interval.high == pytest.approx(3 / 35, rel=0.05)  # the rule of three


def test_one_unit_says_nothing():
    interval = rate_interval(utterances([1], [4]))
    assert (interval.low, interval.high) == (0.0, 1.0)
    assert rate_interval(utterances([6], [4])).high == 1.5


@pytest.mark.parametrize(("errors", "lengths"), [([0, 3, 0], [5, 5, 5]), ([2, 1], [6, 0]), ([9, 0], [1, 30])])
def test_a_unit_that_has_all_errors_or_all_words_gives_a_wide_finite_interval(errors, lengths):
    interval = rate_interval(utterances(errors, lengths))
    assert 0 <= interval.low <= sum(errors) / sum(lengths) <= interval.high <= max(1, sum(errors) / sum(lengths))


def test_the_p_value_is_that_of_all_exchanges():
    gains, lengths = [2, -1, 0, 3, 1], [5, 5, 5, 5, 5]
    a = [max(0, -gain) for gain in gains]
    b = [max(0, gain) for gain in gains]
    sums = [abs(np.dot(signs, gains)) for signs in itertools.product((1, -1), repeat=5)]
    expected = np.mean([total > 5 for total in sums]) + np.mean([total == 5 for total in sums]) / 2
    result = compare_rates(utterances(a, lengths), utterances(b, lengths))
    assert result.p_value == pytest.approx(expected)
    assert result.difference == pytest.approx(5 / 25)
    assert result.interval.low <= result.difference <= result.interval.high


def test_where_not_all_exchanges_are_tried_the_p_value_is_close_to_the_normal_ones():
    rng = np.random.default_rng(3)
    a, b = rng.binomial(10, 0.2, 400).tolist(), rng.binomial(10, 0.21, 400).tolist()
    gains = np.array(b) - np.array(a)
    expected = 2 * stats.norm.sf(abs(gains.sum()) / np.sqrt((gains**2).sum()))
    result = compare_rates(utterances(a, [10] * 400), utterances(b, [10] * 400))
    assert result.p_value == pytest.approx(expected, abs=0.01)


def test_swapping_the_systems_mirrors_the_comparison():
    a, b = utterances([3, 1, 0, 2], [5, 5, 5, 5]), utterances([1, 1, 1, 1], [5, 5, 5, 5])
    forth, back = compare_rates(a, b), compare_rates(b, a)
    assert forth.p_value == back.p_value
    assert forth.difference == -back.difference
    assert (forth.interval.low, forth.interval.high) == pytest.approx((-back.interval.high, -back.interval.low))


def test_identical_systems_are_even():
    counts = utterances([1, 0, 2], [3, 3, 3])
    result = compare_rates(counts, counts)
    assert (result.difference, result.p_value, result.interval.low, result.interval.high) == (0.0, 1.0, 0.0, 0.0)


def test_pairing_finds_a_small_difference_that_the_single_intervals_hide():
    errors = [i % 7 for i in range(60)]
    better = [max(0, e - (i % 3 == 0)) for i, e in enumerate(errors)]
    a, b = utterances(errors, [10] * 60), utterances(better, [10] * 60)
    assert rate_interval(a).low < rate_interval(b).high
    assert compare_rates(a, b).p_value < 0.001


def test_speakers_are_the_unit_from_five_on_and_unknown_ones_are_their_own():
    names = [str(number) for number in range(8)]
    four = {name: f"s{int(name) % 4}" for name in names}
    assert speakers_of(names, four) is None
    five = {name: f"s{int(name) % 5}" for name in names[:7]}
    found = speakers_of(names, five)
    assert found is not None
    assert len(set(found)) == 6
    assert found[0] == found[5]


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([], {}, "no reference"),
        ([ErrorCounts(insertions=1)], {}, "no reference"),
        ([ErrorCounts(0, 0, 0, 1)], {"speakers": ["a", "b"]}, "2 speakers for 1 utterance"),
        ([ErrorCounts(0, 0, 0, 1)], {"level": 95.0}, "level 95.0"),
    ],
)
def test_arguments_that_do_not_fit_are_errors(counts, options, message):
    with pytest.raises(ScoringError, match=message):
        rate_interval(counts, **options)


def test_a_comparison_on_different_utterances_is_an_error():
    with pytest.raises(ScoringError, match="same utterances"):
        compare_rates(utterances([1], [3]), utterances([1], [4]))
