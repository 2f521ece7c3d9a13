"""Greedy search against paths written by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from asr.decoding.greedy import greedy_search
from asr.errors import ShapeError


def peaked(path: list[int], tokens: int = 4) -> NDArray[np.floating]:
    """Log-posteriors `(1, frame, token)` whose best path is `path`, with probability 0.7 in each frame."""
    posteriors = np.full((1, len(path), tokens), 0.3 / (tokens - 1))
    posteriors[0, np.arange(len(path)), path] = 0.7
    return np.log(posteriors)


def test_repeats_collapse_unless_a_blank_lies_between() -> None:
    [hypothesis] = greedy_search(peaked([0, 1, 1, 0, 1, 2, 2, 3, 0]), np.array([9]))
    assert hypothesis.tokens == (1, 1, 2, 3)
    assert hypothesis.frames == (1, 4, 5, 7)


def test_the_score_is_the_log_probability_of_the_best_path() -> None:
    [hypothesis] = greedy_search(peaked([0, 1, 1, 0]), np.array([4]))
    expected = 4 * math.log(0.7)
    assert hypothesis.score == pytest.approx(expected, abs=1e-5)
    assert hypothesis.acoustic_score == hypothesis.score
    assert hypothesis.lm_score == 0.0


def test_frames_past_an_utterances_end_do_not_count() -> None:
    log_posteriors = np.concatenate([peaked([1, 2, 3]), peaked([1, 2, 3])])
    log_posteriors[1, 2:] = float("nan")
    whole, shorter = greedy_search(log_posteriors, np.array([3, 2]))
    assert whole.tokens == (1, 2, 3)
    assert shorter.tokens == (1, 2)
    assert shorter.score == pytest.approx(whole.score * 2 / 3)


@pytest.mark.parametrize("frames", [0, 3])
def test_no_valid_frame_gives_the_empty_hypothesis(frames: int) -> None:
    [hypothesis] = greedy_search(peaked([1, 2, 3])[:, :frames], np.array([0]))
    assert (hypothesis.tokens, hypothesis.frames, hypothesis.score) == ((), (), 0.0)


@pytest.mark.parametrize(
    ("log_posteriors", "lengths", "message"),
    [
        (np.zeros((2, 3, 4)), np.array([3, 4]), r"\[3, 4\] do not lie between 0 and the 3 frames"),
        (np.zeros((2, 3, 4)), np.array([3, -1]), r"\[3, -1\] do not lie between 0 and the 3 frames"),
        (np.zeros((2, 3, 4)), np.array([3]), r"integers \(2,\), one an utterance"),
        (np.zeros((2, 3, 4)), np.array([1.0, 0.5]), r"not float64"),
        (np.zeros((3, 4)), np.array([3]), r"\(batch, frame, token\), not \(3, 4\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    log_posteriors: NDArray[np.floating], lengths: NDArray[np.integer], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        greedy_search(log_posteriors, lengths)
