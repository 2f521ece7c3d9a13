"""Beam search at the edges of its input."""

from __future__ import annotations

import math

import numpy as np
import pytest
from enumeration import LETTERS, agrees, enumerate_sequences, random_posteriors

from asr.decoding.beam import BeamOptions, beam_search
from asr.decoding.hotwords import HotwordScorer
from asr.decoding.ngram_scorer import TokenNgramScorer
from asr.decoding.scorers import WeightedScorer
from asr.lm.estimate import token_ngram

SCORERS = [
    WeightedScorer(TokenNgramScorer(token_ngram(["ab a", "b", "ba ab"], LETTERS, 3), LETTERS), 0.5),
    WeightedScorer(HotwordScorer({"ab": 2.0}, LETTERS), 1.0),
]
OPTIONS = [{}, {"token_floor": 0.05}, {"blank_skip": 0.6}, {"token_floor": 0.05, "blank_skip": 0.6}]


@pytest.mark.parametrize("options", OPTIONS)
def test_no_utterances_have_no_hypotheses(options: dict[str, float]) -> None:
    for frames in (0, 5):
        nothing = np.zeros((0, frames, len(LETTERS))), np.zeros(0, np.int64)
        assert beam_search(*nothing, BeamOptions(beam_size=3, **options), SCORERS) == []


@pytest.mark.parametrize("options", OPTIONS)
def test_utterances_without_frames_are_the_empty_sentence_whatever_their_neighbours(options: dict[str, float]) -> None:
    log_posteriors = random_posteriors(1, 9, len(LETTERS), batch=4)
    found = beam_search(log_posteriors, np.array([0, 9, 0, 4]), BeamOptions(beam_size=5, **options), SCORERS)
    [[empty]] = beam_search(log_posteriors[:1, :0], np.array([0]), BeamOptions(beam_size=5, **options), SCORERS)
    assert found[0] == found[2] == [empty]
    assert (empty.tokens, empty.acoustic_score) == ((), 0.0)
    assert len(found[1]) == len(found[3]) == 5


def test_with_the_blank_as_only_token_there_is_one_sentence() -> None:
    [[only]] = beam_search(np.full((1, 3, 1), math.log(0.5)), np.array([3]), BeamOptions(beam_size=7))
    assert (only.tokens, only.score) == ((), pytest.approx(3 * math.log(0.5)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"token_floor": 1e-6}])
def test_log_posteriors_of_any_width_are_summed_in_float64(dtype: type, options: dict[str, float]) -> None:
    log_posteriors = random_posteriors(2, 5, 3).astype(dtype)
    expected = enumerate_sequences(log_posteriors[0])
    [hypotheses] = beam_search(log_posteriors, np.array([5]), BeamOptions(beam_size=len(expected) + 90, **options))
    assert agrees(hypotheses, expected)
    for hypothesis in hypotheses:
        assert hypothesis.score == pytest.approx(expected[hypothesis.tokens], abs=1e-9)


def test_the_order_of_the_utterances_in_the_batch_changes_nothing() -> None:
    log_posteriors, lengths = random_posteriors(3, 12, len(LETTERS), batch=6), np.array([3, 12, 0, 7, 12, 5])
    order = np.array([4, 2, 0, 5, 1, 3])
    in_order = beam_search(log_posteriors, lengths, BeamOptions(beam_size=6), SCORERS)
    shuffled = beam_search(log_posteriors[order], lengths[order], BeamOptions(beam_size=6), SCORERS)
    assert shuffled == [in_order[utterance] for utterance in order.tolist()]
