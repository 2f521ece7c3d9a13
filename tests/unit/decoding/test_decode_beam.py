"""Beam search against a plain one, the CTC loss's forward algorithm and cases worked by hand."""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from enumeration import Tokens, enumerate_sequences, random_posteriors
from numpy.typing import NDArray

from asr.decoding.beam import BeamOptions, beam_search, merge_texts
from asr.decoding.greedy import greedy_search
from asr.decoding.ngram_scorer import TokenNgramScorer
from asr.decoding.scorers import WeightedScorer
from asr.errors import ConfigError, ModelError, ShapeError
from asr.lm.estimate import token_ngram
from asr.lm.ngram import SENTENCE_END, SENTENCE_START, NgramLm
from asr.text.tokens import TokenTable


def random_lm(rng: random.Random, tokens: int, order: int) -> tuple[TokenTable, NgramLm]:
    letters = "abcdefgh"[: tokens - 1]
    texts = ["".join(rng.choices(letters, k=rng.randint(1, 6))) for _ in range(6)]
    table = TokenTable.from_texts([letters])
    return table, token_ngram(texts, table, order)


@pytest.mark.parametrize("beam_size", [1, 2, 5, 20])
def test_a_narrow_beam_finds_at_most_the_mass_there_is_and_no_sequence_twice(beam_size: int) -> None:
    for seed in range(30):
        log_posteriors = random_posteriors(seed, 6, 4, scale=1.0)
        expected = enumerate_sequences(log_posteriors[0])
        [hypotheses] = beam_search(log_posteriors, np.array([6]), BeamOptions(beam_size=beam_size))
        assert len(hypotheses) == beam_size
        assert len({h.tokens for h in hypotheses}) == beam_size
        assert all(h.score <= expected[h.tokens] + 1e-9 for h in hypotheses)


def plain_beam_search(
    log_posteriors: NDArray[np.floating], beam_size: int, lm: Callable[[Tokens], float], bonus: float
) -> dict[Tokens, float]:
    """The search of Hannun et al. with dictionaries, one prefix at a time; `lm` scores a prefix, its end apart."""
    beam: dict[Tokens, tuple[float, float]] = {(): (0.0, -math.inf)}  # log-mass that ends in blank, in token
    for frame in log_posteriors.astype(np.float64).tolist():
        moved: defaultdict[Tokens, tuple[float, float]] = defaultdict(lambda: (-math.inf, -math.inf))

        def arrive(
            prefix: Tokens, in_blank: float, in_token: float, moved: dict[Tokens, tuple[float, float]] = moved
        ) -> None:
            before = moved[prefix]
            moved[prefix] = (np.logaddexp(before[0], in_blank), np.logaddexp(before[1], in_token))

        for prefix, (in_blank, in_token) in beam.items():
            mass = np.logaddexp(in_blank, in_token)
            arrive(prefix, mass + frame[0], -math.inf)
            for token in range(1, len(frame)):
                repeats = prefix[-1:] == (token,)
                if repeats:
                    arrive(prefix, -math.inf, in_token + frame[token])
                arrive((*prefix, token), -math.inf, (in_blank if repeats else mass) + frame[token])

        def rank(prefix: Tokens, moved: dict[Tokens, tuple[float, float]] = moved) -> float:
            return float(np.logaddexp(*moved[prefix])) + lm(prefix) + bonus * len(prefix)

        beam = {prefix: moved[prefix] for prefix in sorted(moved, key=rank, reverse=True)[:beam_size]}
    return {prefix: float(np.logaddexp(*masses)) for prefix, masses in beam.items()}


@pytest.mark.parametrize("beam_size", [1, 2, 3, 8])
@pytest.mark.parametrize("bonus", [-1.0, 0.0, 1.5])
def test_a_narrow_beam_keeps_the_prefixes_that_a_plain_search_keeps(beam_size: int, bonus: float) -> None:
    rng = random.Random(beam_size)
    for seed in range(8):
        table, model = random_lm(rng, 5, 3)

        def lm(prefix: Tokens, table: TokenTable = table, model: NgramLm = model) -> float:
            units = [SENTENCE_START, *(table.symbols[token] for token in prefix)]
            return 0.7 * sum(model.log_prob(units[:place], units[place]) for place in range(1, len(units)))

        log_posteriors = random_posteriors(seed, 12, 5)
        [hypotheses] = beam_search(
            log_posteriors,
            np.array([12]),
            BeamOptions(beam_size=beam_size, insertion_bonus=bonus),
            [WeightedScorer(TokenNgramScorer(model, table), 0.7)],
        )
        expected = plain_beam_search(log_posteriors[0], beam_size, lm, bonus)
        assert {h.tokens: pytest.approx(h.acoustic_score, abs=1e-4) for h in hypotheses} == expected


def test_the_score_of_a_long_utterance_is_the_forward_algorithms() -> None:
    frames, tokens = 400, 30
    log_posteriors = random_posteriors(7, frames, tokens, scale=12.0)  # peaked, as trained models are
    [[best, *_]] = beam_search(log_posteriors, np.array([frames]), BeamOptions(beam_size=64))
    assert len(best.tokens) > 100
    loss = F.ctc_loss(
        torch.from_numpy(log_posteriors).double().transpose(0, 1),
        torch.tensor([best.tokens]),
        torch.tensor([frames]),
        torch.tensor([len(best.tokens)]),
        reduction="sum",
    )
    assert best.acoustic_score <= -loss.item() + 1e-6
    assert best.acoustic_score == pytest.approx(-loss.item(), rel=1e-3)


def test_an_utterance_in_a_batch_gets_what_it_gets_alone() -> None:
    rng = random.Random(3)
    table, lm = random_lm(rng, 6, 3)
    scorers = [WeightedScorer(TokenNgramScorer(lm, table), 0.5)]
    lengths = np.array([12, 0, 5, 40, 1, 39])
    log_posteriors = random_posteriors(5, 40, 6, batch=len(lengths))
    together = beam_search(log_posteriors, lengths, BeamOptions(beam_size=8, insertion_bonus=0.3), scorers)
    for utterance, length in enumerate(lengths.tolist()):
        own = log_posteriors[utterance : utterance + 1, :length]
        [alone] = beam_search(own, np.array([length]), BeamOptions(beam_size=8, insertion_bonus=0.3), scorers)
        assert together[utterance] == alone


def test_padding_may_hold_anything() -> None:
    log_posteriors = random_posteriors(1, 8, 4, batch=2)
    clean = beam_search(log_posteriors, np.array([8, 5]), BeamOptions(beam_size=6))
    log_posteriors[1, 5:] = float("nan")
    assert beam_search(log_posteriors, np.array([8, 5]), BeamOptions(beam_size=6)) == clean


def test_beam_1_sums_the_paths_of_a_prefix_where_greedy_takes_the_best_path() -> None:
    # Frame 1: a 0.6, blank 0.4. Frame 2: b 0.4, a 0.3, blank 0.3. The best path is (a, b) with 0.24, yet "a" has
    # (a, a) + (a, blank) = 0.36 within the beam of one prefix, and 0.48 with (blank, a), which that beam dropped.
    log_posteriors = np.log([[[0.4, 0.6, 1e-30], [0.3, 0.3, 0.4]]])
    lengths = np.array([2])
    assert greedy_search(log_posteriors, lengths)[0].tokens == (1, 2)
    [[narrow]] = beam_search(log_posteriors, lengths, BeamOptions(beam_size=1))
    assert narrow.tokens == (1,)
    assert math.exp(narrow.score) == pytest.approx(0.36)
    [[wide, *_]] = beam_search(log_posteriors, lengths, BeamOptions(beam_size=4))
    assert wide.tokens == (1,)
    assert math.exp(wide.score) == pytest.approx(0.48)


def test_the_most_probable_text_need_not_be_that_of_the_most_probable_path() -> None:
    # The example of the docstrings of beam.py and greedy.py.
    log_posteriors, lengths = np.log([[[0.6, 0.4], [0.6, 0.4]]]), np.array([2])
    [greedy] = greedy_search(log_posteriors, lengths)
    [hypotheses] = beam_search(log_posteriors, lengths, BeamOptions(beam_size=3))
    assert (greedy.tokens, math.exp(greedy.score)) == ((), pytest.approx(0.36))
    assert {h.tokens: pytest.approx(math.exp(h.score)) for h in hypotheses} == {(1,): 0.64, (): 0.36}


def test_where_each_frame_is_nearly_certain_beam_1_is_greedy() -> None:
    # The best path outweighs all others together: each frame keeps 0.99, so 20 of them 0.8.
    paths = np.eye(5)[np.random.default_rng(2).integers(0, 5, (50, 20))]
    log_posteriors = np.log(0.99 * paths + 0.01 / 4 * (1 - paths))
    lengths = np.full(50, 20)
    greedy = greedy_search(log_posteriors, lengths)
    beam = beam_search(log_posteriors, lengths, BeamOptions(beam_size=1))
    assert [h.tokens for h in greedy] == [h.tokens for [h] in beam]
    assert [h.frames for h in greedy] == [h.frames for [h] in beam]


def test_frames_rise_and_lie_within_the_utterance() -> None:
    lengths = np.array([30, 17])
    for hypotheses, length in zip(
        beam_search(random_posteriors(9, 30, 5, batch=2), lengths, BeamOptions(beam_size=10)),
        lengths.tolist(),
        strict=True,
    ):
        for hypothesis in hypotheses:
            assert len(hypothesis.frames) == len(hypothesis.tokens)
            assert all(a < b for a, b in itertools.pairwise((-1, *hypothesis.frames, length)))


def test_a_token_is_emitted_where_its_mass_comes_from_not_where_the_beam_first_tried_it() -> None:
    # In the silence before frame 30 a wide beam keeps "a", "ab" … as improbable prefixes all along.
    path = np.zeros((40, 3))
    path[:, 0] = path[30, 1] = path[35, 2] = 1
    path[[30, 35], 0] = 0
    log_posteriors = np.log(0.998 * path + 0.001 * (1 - path))[None]
    [[best, *_]] = beam_search(log_posteriors, np.array([40]), BeamOptions(beam_size=16))
    assert (best.tokens, best.frames) == ((1, 2), (30, 35))


def test_no_frames_leave_the_empty_sentence() -> None:
    table, lm = random_lm(random.Random(0), 4, 2)
    [[hypothesis]] = beam_search(
        np.zeros((1, 0, 4)),
        np.array([0]),
        BeamOptions(beam_size=5),
        [WeightedScorer(TokenNgramScorer(lm, table), 0.5)],
    )
    assert (hypothesis.tokens, hypothesis.frames, hypothesis.acoustic_score) == ((), (), 0.0)
    expected = 0.5 * lm.log_prob([SENTENCE_START], SENTENCE_END)
    assert hypothesis.score == pytest.approx(expected, abs=1e-5)


def test_a_scorer_of_weight_0_changes_nothing() -> None:
    table, lm = random_lm(random.Random(0), 4, 2)
    log_posteriors, lengths = random_posteriors(4, 10, 4), np.array([10])
    without = beam_search(log_posteriors, lengths, BeamOptions(beam_size=5))
    scorers = [WeightedScorer(TokenNgramScorer(lm, table), 0.0)]
    assert beam_search(log_posteriors, lengths, BeamOptions(beam_size=5), scorers) == without


def test_lengths_and_beams_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="do not lie between 0 and the 3 frames"):
        beam_search(np.zeros((1, 3, 4)), np.array([4]), BeamOptions(beam_size=2))
    with pytest.raises(ConfigError, match="beam_size=0: a beam keeps at least one prefix"):
        beam_search(np.zeros((1, 3, 4)), np.array([3]), BeamOptions(beam_size=0))


def test_log_posteriors_that_are_not_numbers_are_an_error() -> None:
    log_posteriors = random_posteriors(4, 10, 4, batch=2)
    log_posteriors[1, 3] = float("nan")
    with pytest.raises(ModelError, match="utterance 1 of the batch"):
        beam_search(log_posteriors, np.array([10, 10]), BeamOptions(beam_size=3))


def test_spellings_of_one_text_are_summed_as_all_paths_that_spell_it() -> None:
    table = TokenTable.from_texts(["a b"])  # " ", "a" and "b": "a", " a" and "a " are one text
    for seed in range(10):
        log_posteriors = random_posteriors(seed, 5, len(table), scale=1.0)
        expected: dict[str, float] = defaultdict(float)
        for tokens, log_probability in enumerate_sequences(log_posteriors[0]).items():
            expected[table.decode(tokens)] += math.exp(log_probability)
        [hypotheses] = beam_search(log_posteriors, np.array([5]), BeamOptions(beam_size=1000))
        merged = merge_texts(hypotheses, table)
        found = {table.decode(hypothesis.tokens): math.exp(hypothesis.score) for hypothesis in merged}
        assert len(found) == len(merged) == len(expected)
        assert found == pytest.approx(expected)
        scores = [hypothesis.score for hypothesis in merged]
        assert scores == sorted(scores, reverse=True)
        best = {hypothesis.tokens: hypothesis.score for hypothesis in hypotheses}
        for hypothesis in merged:  # the tokens are those of the most probable spelling
            spellings = [tokens for tokens in best if table.decode(tokens) == table.decode(hypothesis.tokens)]
            assert hypothesis.tokens == max(spellings, key=best.__getitem__)
