"""Tokens that are all but impossible extend no prefix, against the enumeration of the paths that are left."""

from __future__ import annotations

import random

import numpy as np
import pytest
from enumeration import Tokens, agrees, all_paths, random_posteriors
from numpy.typing import NDArray

from asr.decoding.beam import BeamOptions, beam_search
from asr.decoding.ngram_scorer import TokenNgramScorer
from asr.decoding.scorers import WeightedScorer
from asr.errors import ConfigError
from asr.lm.estimate import token_ngram
from asr.text.tokens import TokenTable

TABLE = TokenTable.from_texts(["abc"])
SCORERS = [WeightedScorer(TokenNgramScorer(token_ngram(["abc", "cab", "a"], TABLE, 3), TABLE), 0.4)]


def enumerate_those_that_enter_no_token_below(
    floor: float, log_posteriors: NDArray[np.floating]
) -> dict[Tokens, float]:
    """Return the log-probability of each sequence, over the paths that only stay in tokens below the floor."""
    table = np.exp(log_posteriors.astype(np.float64))
    paths, sequences, places = all_paths(*table.shape)
    posteriors = table[np.arange(len(table)), paths]
    before = np.pad(paths, ((0, 0), (1, 0)))[:, :-1]
    enters = (paths != 0) & (paths != before)
    allowed = ~(enters & (posteriors <= floor)).any(axis=1)
    mass = np.bincount(places, weights=posteriors.prod(axis=1) * allowed)
    return {sequence: float(np.log(total)) for sequence, total in zip(sequences, mass, strict=True) if total > 0}


@pytest.mark.parametrize("floor", [0.02, 0.2, 0.5])
def test_only_paths_that_enter_a_token_below_the_floor_are_lost(floor: float) -> None:
    for seed in range(40):
        frames = seed % 6
        log_posteriors = random_posteriors(seed, frames, 4)
        expected = enumerate_those_that_enter_no_token_below(floor, log_posteriors[0])
        [hypotheses] = beam_search(log_posteriors, np.array([frames]), BeamOptions(beam_size=400, token_floor=floor))
        assert agrees(hypotheses, expected), f"seed {seed}"


def test_a_floor_below_every_posterior_changes_nothing() -> None:
    log_posteriors, lengths = random_posteriors(3, 30, 4, batch=6), np.array([30, 0, 12, 1, 29, 17])
    plain = beam_search(log_posteriors, lengths, BeamOptions(beam_size=8, insertion_bonus=0.5), SCORERS)
    least = float(np.exp(log_posteriors).min())
    floored = beam_search(
        log_posteriors, lengths, BeamOptions(beam_size=8, insertion_bonus=0.5, token_floor=least / 2), SCORERS
    )
    assert [[(h.tokens, h.frames) for h in hypotheses] for hypotheses in floored] == [
        [(h.tokens, h.frames) for h in hypotheses] for hypotheses in plain
    ]
    for one, other in zip(floored, plain, strict=True):
        assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-9)


def test_frames_without_any_active_token_only_keep_what_there_is() -> None:
    log_posteriors = np.log([[0.3, 0.4, 0.2, 0.1], *[[0.97, 0.01, 0.01, 0.01]] * 3])[None]
    [hypotheses] = beam_search(log_posteriors, np.array([4]), BeamOptions(beam_size=4, token_floor=0.05))
    assert {h.tokens for h in hypotheses} == {(), (1,), (2,), (3,)}
    # "a" then blank or more of it, for the three frames: 0.97³ + 0.01 · 0.97² + 0.01² · 0.97 + 0.01³
    kept = sum(0.01**repeats * 0.97 ** (3 - repeats) for repeats in range(4))
    assert {h.tokens: np.exp(h.score) for h in hypotheses}[1,] == pytest.approx(0.4 * kept)


def test_an_utterance_does_not_depend_on_how_many_tokens_its_neighbours_need() -> None:
    rng = random.Random(1)
    sharp, flat = random_posteriors(1, 25, 4, batch=3, scale=8.0), random_posteriors(2, 25, 4, batch=3, scale=0.3)
    log_posteriors, lengths = np.concatenate([sharp, flat]), np.array([rng.randint(1, 25) for _ in range(6)])
    together = beam_search(log_posteriors, lengths, BeamOptions(beam_size=6, token_floor=0.05), SCORERS)
    for utterance, length in enumerate(lengths.tolist()):
        own = log_posteriors[utterance : utterance + 1, :length]
        [alone] = beam_search(own, np.array([length]), BeamOptions(beam_size=6, token_floor=0.05), SCORERS)
        assert [(h.tokens, h.frames) for h in together[utterance]] == [(h.tokens, h.frames) for h in alone]
        assert [h.score for h in together[utterance]] == pytest.approx([h.score for h in alone], abs=1e-9)


@pytest.mark.parametrize("floor", [-0.1, 1.0])
def test_a_floor_that_is_no_posterior_is_refused(floor: float) -> None:
    with pytest.raises(ConfigError, match=r"token_floor=\S+: a posterior from 0 to below 1"):
        beam_search(random_posteriors(0, 3, 4), np.array([3]), BeamOptions(beam_size=2, token_floor=floor))
