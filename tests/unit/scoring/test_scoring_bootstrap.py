import itertools

import numpy as np
import pytest
from scipy import stats

from asr.errors import ScoringError
from asr.scoring.bootstrap import bootstrap_interval, paired_bootstrap
from asr.scoring.error_counts import ErrorCounts


def utterances(errors, lengths=None):
    lengths = lengths or [1] * len(errors)
    return [
        ErrorCounts(e, 0, 0, n) if e <= n else ErrorCounts(n, 0, e - n, n) for e, n in zip(errors, lengths, strict=True)
    ]


# Uneven lengths, an utterance without any reference, more errors than words: all that a corpus can hold.
ERRORS_A, ERRORS_B, LENGTHS = [3, 0, 2, 1], [1, 1, 0, 1], [5, 2, 3, 0]


def exact_rates(errors):
    """The rates of all equally probable draws of four units; a draw of the empty unit alone has none."""
    draws = np.array([d for d in itertools.product(range(4), repeat=4) if set(d) != {3}])
    return np.array(errors)[draws].sum(1) / np.array(LENGTHS)[draws].sum(1)


def test_for_utterances_of_one_word_the_interval_is_binomial():
    size, wrong = 200, 30
    interval = bootstrap_interval(utterances([1] * wrong + [0] * (size - wrong)), replicates=20_000)
    expected = stats.binom.ppf([0.025, 0.975], size, wrong / size) / size
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1 / size)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_interval_is_the_quantiles_of_the_exact_bootstrap_distribution(level):
    interval = bootstrap_interval(utterances(ERRORS_A, LENGTHS), level=level, replicates=50_000)
    exact = np.sort(exact_rates(ERRORS_A))
    for bound, share in [(interval.low, (1 - level) / 2), (interval.high, (1 + level) / 2)]:
        below, upto = np.mean(exact < bound - 1e-9), np.mean(exact <= bound + 1e-9)
        assert below - 0.01 <= share <= upto + 0.01


def test_the_probability_of_improvement_agrees_with_the_exact_bootstrap_distribution():
    result = paired_bootstrap(utterances(ERRORS_A, LENGTHS), utterances(ERRORS_B, LENGTHS), replicates=50_000)
    differences = exact_rates(ERRORS_B) - exact_rates(ERRORS_A)
    exact = np.mean(differences < -1e-12) + 0.5 * np.mean(abs(differences) < 1e-12)
    assert result.probability_b_better == pytest.approx(exact, abs=0.01)  # four standard errors
    assert result.difference == pytest.approx((3 - 6) / 10)
    assert result.interval.low <= result.difference <= result.interval.high


def test_drawing_groups_is_drawing_utterances_that_were_joined():
    counts = utterances([1, 0, 2, 1, 0, 3], [3, 4, 5, 2, 6, 7])
    joined = [counts[0] + counts[2], counts[1] + counts[3] + counts[4], counts[5]]
    assert bootstrap_interval(counts, groups=["a", "b", "a", "b", "b", "c"]) == bootstrap_interval(joined)


def test_speakers_who_differ_widen_the_interval_by_the_root_of_their_utterances():
    errors = [int(speaker < 15) for speaker in range(50) for _ in range(16)]
    speakers = [str(speaker) for speaker in range(50) for _ in range(16)]
    by_utterance = bootstrap_interval(utterances(errors))
    by_speaker = bootstrap_interval(utterances(errors), groups=speakers)
    ratio = (by_speaker.high - by_speaker.low) / (by_utterance.high - by_utterance.low)
    assert ratio == pytest.approx(4, rel=0.1)


def test_swapping_the_systems_mirrors_the_comparison():
    a, b = utterances([3, 1, 0, 2], [5, 5, 5, 5]), utterances([1, 1, 1, 1], [5, 5, 5, 5])
    forth, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert forth.probability_b_better == pytest.approx(1 - back.probability_b_better)
    assert forth.difference == -back.difference
    assert (forth.interval.low, forth.interval.high) == pytest.approx((-back.interval.high, -back.interval.low))


def test_without_errors_the_upper_end_is_the_rate_at_which_that_happens_once_in_twenty():
    interval = bootstrap_interval(utterances([0, 0, 0], [10, 15, 10]))
    assert interval.low == 0.0
    assert (1 - interval.high) ** 35 == pytest.approx(0.05)
    assert interval.high == pytest.approx(3 / 35, rel=0.05)  # the rule of three


def test_identical_systems_are_even():
    counts = utterances([1, 0, 2], [3, 3, 3])
    result = paired_bootstrap(counts, counts)
    assert (result.difference, result.probability_b_better) == (0.0, 0.5)


def test_pairing_finds_a_small_difference_that_the_single_intervals_hide():
    errors = [i % 7 for i in range(60)]
    better = [max(0, e - (i % 3 == 0)) for i, e in enumerate(errors)]
    a, b = utterances(errors, [10] * 60), utterances(better, [10] * 60)
    assert bootstrap_interval(a).low < bootstrap_interval(b).high
    assert paired_bootstrap(a, b).probability_b_better > 0.999


def test_the_seed_decides_the_draws():
    counts = utterances([3, 1, 0, 2, 5, 1, 0], [5, 7, 5, 6, 9, 3, 4])
    assert bootstrap_interval(counts, seed=3) == bootstrap_interval(counts, seed=3)
    assert bootstrap_interval(counts, seed=3, replicates=101) != bootstrap_interval(counts, seed=4, replicates=101)


def test_a_corpus_of_many_blocks_is_drawn_whole():
    size = 30_000  # 1000 replicates of it are 30 blocks
    interval = bootstrap_interval(utterances([i % 2 for i in range(size)]), replicates=1000)
    spread = 1.96 * (0.25 / size) ** 0.5
    assert (interval.low, interval.high) == pytest.approx((0.5 - spread, 0.5 + spread), abs=0.2 * spread)


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([], {}, "no reference"),
        ([ErrorCounts(insertions=1)], {}, "no reference"),
        ([ErrorCounts(0, 0, 0, 1)], {"groups": ["a", "b"]}, "2 groups for 1 utterances"),
        ([ErrorCounts(0, 0, 0, 1)], {"level": 95.0}, "level 95.0"),
        ([ErrorCounts(0, 0, 0, 1)], {"replicates": 0}, "0 bootstrap replicates"),
    ],
)
def test_arguments_that_do_not_fit_are_errors(counts, options, message):
    with pytest.raises(ScoringError, match=message):
        bootstrap_interval(counts, **options)


def test_a_comparison_on_different_utterances_is_an_error():
    with pytest.raises(ScoringError, match="same utterances"):
        paired_bootstrap(utterances([1], [3]), utterances([1], [4]))
