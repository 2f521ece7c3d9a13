"""Frames that are all but surely blank, against the enumeration of the paths that are left."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from enumeration import LETTERS, agrees, enumerate_sequences, log_softmax, random_posteriors, random_word_lm, word_score
from numpy.typing import NDArray

from asr.decoding.beam import BeamOptions, beam_search
from asr.decoding.scorers import WeightedScorer
from asr.decoding.word_scorer import WordNgramScorer
from asr.errors import ConfigError


def mostly_blank(seed: int, batch: int, frames: int, tokens: int = 4) -> NDArray[np.float32]:
    """Return log-posteriors of which about half the frames are blank with a posterior above 0.9."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(batch, frames, tokens))
    logits[:, :, 0] += 6.0 * (rng.random((batch, frames)) < 0.5)
    return log_softmax(logits)


def with_certain_blanks(log_posteriors: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Return log-posteriors that rule out all but the blank where its posterior is above the threshold."""
    certain = np.exp(log_posteriors[:, :, :1]) > threshold
    others = np.arange(log_posteriors.shape[2]) > 0
    return np.where(certain & others, -np.inf, log_posteriors)


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.99])
def test_a_skipped_frame_counts_as_if_blank_were_its_only_token(threshold: float) -> None:
    for seed in range(40):
        rng = random.Random(seed)
        frames, lm = seed % 6, random_word_lm(rng, 2)
        scorer = WordNgramScorer(lm, LETTERS)
        log_posteriors = mostly_blank(seed, 1, frames)
        expected = {
            tokens: acoustic + 0.7 * word_score(lm, LETTERS.decode(tokens).split(), set(scorer.words), None)
            for tokens, acoustic in enumerate_sequences(with_certain_blanks(log_posteriors, threshold)[0]).items()
        }
        [hypotheses] = beam_search(
            log_posteriors,
            np.array([frames]),
            BeamOptions(beam_size=len(expected), blank_skip=threshold),
            [WeightedScorer(scorer, 0.7)],
        )
        assert agrees(hypotheses, expected), f"seed {seed}"


def test_at_1_nothing_changes() -> None:
    log_posteriors, lengths = mostly_blank(3, 8, 30), np.array([30, 0, 12, 1, 29, 30, 7, 18])
    log_posteriors[0, 4] = np.array([0.0, -math.inf, -math.inf, -math.inf])
    plain = beam_search(log_posteriors, lengths, BeamOptions(beam_size=8))
    assert beam_search(log_posteriors, lengths, BeamOptions(beam_size=8, blank_skip=1.0)) == plain


def test_what_is_lost_is_the_mass_of_the_other_tokens_in_the_skipped_frames() -> None:
    threshold = 0.98
    log_posteriors = mostly_blank(4, 1, 5)
    exact = enumerate_sequences(log_posteriors[0])
    blank = np.exp(log_posteriors[0, :, 0])
    most_lost = 1.0 - float(blank[blank > threshold].prod())
    [hypotheses] = beam_search(log_posteriors, np.array([5]), BeamOptions(beam_size=len(exact), blank_skip=threshold))
    kept = {hypothesis.tokens: math.exp(hypothesis.score) for hypothesis in hypotheses}
    lost = {tokens: math.exp(score) - kept.get(tokens, 0.0) for tokens, score in exact.items()}
    assert min(lost.values()) >= -1e-9
    assert sum(lost.values()) == pytest.approx(most_lost, abs=1e-6)


def test_an_utterance_in_a_batch_gets_what_it_gets_alone_though_other_frames_are_skipped() -> None:
    lengths = np.array([40, 0, 5, 39, 1, 20])
    log_posteriors = mostly_blank(5, len(lengths), 40)
    log_posteriors[5] = random_posteriors(1, 40, 4)[0]
    log_posteriors[4] = np.log([0.999, 0.0004, 0.0003, 0.0003])  # all of it is skipped
    log_posteriors[2, 5:] = float("nan")
    together = beam_search(log_posteriors, lengths, BeamOptions(beam_size=8, blank_skip=0.9))
    for utterance, length in enumerate(lengths.tolist()):
        own = log_posteriors[utterance : utterance + 1, :length]
        [alone] = beam_search(own, np.array([length]), BeamOptions(beam_size=8, blank_skip=0.9))
        assert [(h.tokens, h.frames) for h in together[utterance]] == [(h.tokens, h.frames) for h in alone]
        assert [h.score for h in together[utterance]] == pytest.approx([h.score for h in alone], abs=1e-9)


def test_equal_tokens_stay_apart_and_keep_their_own_frames() -> None:
    path = np.array([0, 0, 2, 0, 0, 2, 0, 3, 0])
    log_posteriors = log_softmax(12.0 * np.eye(4)[path])[None]
    [[best, *_]] = beam_search(log_posteriors, np.array([9]), BeamOptions(beam_size=4, blank_skip=0.9))
    assert (best.tokens, best.frames) == ((2, 2, 3), (2, 5, 7))


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
def test_a_threshold_that_is_no_posterior_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"blank_skip=\S+: a posterior above 0, at most 1"):
        beam_search(mostly_blank(0, 1, 3), np.array([3]), BeamOptions(beam_size=2, blank_skip=threshold))
