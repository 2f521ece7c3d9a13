"""A beam that prunes nothing against the enumeration of all paths, with every kind of scorer, in 1,000 cases each.

A sentence's language score is computed from the models themselves, not from the scorers' tables.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from enumeration import (
    LETTERS,
    PIECES,
    WORDS,
    Tokens,
    enumerate_sequences,
    hotword_score,
    random_posteriors,
    random_word,
    random_word_lm,
    sentence_log_prob,
    word_score,
)

from asr.decoding.beam import BeamOptions, beam_search
from asr.decoding.hotwords import DENSE_BYTES, HotwordScorer
from asr.decoding.ngram_scorer import TokenNgramScorer
from asr.decoding.scorers import WeightedScorer
from asr.decoding.word_scorer import WordNgramScorer
from asr.lm.estimate import token_ngram
from asr.lm.rnn_scorer import RnnScorer
from asr.lm.rnnlm import LmUnits, RnnLm
from asr.search_config import RnnLmSettings
from asr.text.tokens import TokenTable

CASES, MODELS = 1000, 20  # a model is used for CASES / MODELS utterances, searched as one batch


class Kind(NamedTuple):
    """A scorer, and what it must come to for each of a list of whole sentences."""

    scorer: WeightedScorer
    expected: Callable[[Sequence[Tokens]], np.ndarray]


def token_kind(rng: random.Random, table: TokenTable) -> Kind:
    weight = rng.uniform(0.1, 1.5)
    texts = [" ".join(random_word(rng) for _ in range(rng.randint(1, 3))) for _ in range(6)]
    lm = token_ngram(texts, table, rng.randint(1, 4))
    return Kind(
        WeightedScorer(TokenNgramScorer(lm, table), weight),
        lambda sentences: weight * np.array([sentence_log_prob(lm, table, tokens) for tokens in sentences]),
    )


def word_kind(rng: random.Random, table: TokenTable, is_open: bool, more: Sequence[str] = ()) -> Kind:
    weight, oov_penalty = rng.uniform(0.1, 1.5), rng.uniform(-1, 4) if is_open else None
    lm = random_word_lm(rng, rng.randint(1, 4))
    scorer = WordNgramScorer(lm, table, oov_penalty=oov_penalty).with_words(more)
    lexicon = set(scorer.words)
    return Kind(
        WeightedScorer(scorer, weight),
        lambda sentences: (
            weight
            * np.array([word_score(lm, table.decode(tokens).split(), lexicon, oov_penalty) for tokens in sentences])
        ),
    )


def hotword_kind(rng: random.Random, table: TokenTable, dense_bytes: int = DENSE_BYTES) -> Kind:
    bonuses = {" ".join(random_word(rng, 2) for _ in range(rng.randint(1, 2))): rng.uniform(0.1, 5) for _ in range(3)}
    return Kind(
        WeightedScorer(HotwordScorer(bonuses, table, dense_bytes=dense_bytes), 1.0),
        lambda sentences: np.array([hotword_score(bonuses, table.decode(tokens).split()) for tokens in sentences]),
    )


def recurrent_kind(rng: random.Random, table: TokenTable) -> Kind:
    weight = rng.uniform(0.1, 1.5)
    torch.manual_seed(rng.randrange(2**31))
    lm = RnnLm(
        RnnLmSettings.model_validate({"hidden_size": 6, "rnn": rng.choice(["lstm", "gru"])}), LmUnits.of_tokens(table)
    ).eval()
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return Kind(
        WeightedScorer(RnnScorer(lm, table), weight),
        lambda sentences: weight * np.array([float(scores.double().sum()) for scores in lm.unit_log_probs(sentences)]),
    )


def all_kinds(rng: random.Random, table: TokenTable) -> list[Kind]:
    hotwords = hotword_kind(rng, table)
    words = word_kind(rng, table, rng.random() < 0.5, hotwords.scorer.scorer.words)
    return [hotwords, words, token_kind(rng, table), recurrent_kind(rng, table)]


KINDS: dict[str, Callable[[random.Random, TokenTable], list[Kind]]] = {
    "no scorer": lambda rng, table: [],
    "token n-gram": lambda rng, table: [token_kind(rng, table)],
    "word n-gram, closed": lambda rng, table: [word_kind(rng, table, is_open=False)],
    "word n-gram, open": lambda rng, table: [word_kind(rng, table, is_open=True)],
    "hotwords": lambda rng, table: [hotword_kind(rng, table)],
    "hotwords, sparse": lambda rng, table: [hotword_kind(rng, table, dense_bytes=0)],
    "recurrent": lambda rng, table: [recurrent_kind(rng, table)],
    "their sum": all_kinds,
}


@pytest.mark.parametrize("kind", KINDS)
def test_scores_and_order_are_those_of_enumeration(kind: str) -> None:
    for seed in range(MODELS):
        rng = random.Random(f"{kind} {seed}")
        table, longest = {0: (PIECES, 3), 1: (WORDS, 2)}.get(seed % 4, (LETTERS, 5))
        kinds, bonus = KINDS[kind](rng, table), rng.uniform(-1, 2)
        log_posteriors = random_posteriors(rng.randrange(2**31), longest, len(table), batch=CASES // MODELS)
        lengths = np.array([rng.choice([longest, *range(longest)]) for _ in log_posteriors])
        sentences = list(enumerate_sequences(log_posteriors[0]))
        language = sum((kind.expected(sentences) for kind in kinds), np.zeros(len(sentences)))
        of_sentence = dict(zip(sentences, language.tolist(), strict=True))
        found = beam_search(
            log_posteriors,
            lengths,
            BeamOptions(beam_size=len(sentences), insertion_bonus=bonus),
            [kind.scorer for kind in kinds],
        )
        for hypotheses, frames, length in zip(found, log_posteriors, lengths.tolist(), strict=True):
            acoustic = enumerate_sequences(frames[:length])
            possible = [tokens for tokens in acoustic if of_sentence[tokens] > -math.inf]
            expected = np.array([(acoustic[tokens], of_sentence[tokens], bonus * len(tokens)) for tokens in possible])
            place = {tokens: index for index, tokens in enumerate(possible)}
            order = [place[hypothesis.tokens] for hypothesis in hypotheses]
            assert sorted(order) == list(range(len(possible)))
            scores = np.array(
                [(h.acoustic_score, h.lm_score, h.score - h.acoustic_score - h.lm_score) for h in hypotheses]
            )
            np.testing.assert_allclose(scores, expected[order], rtol=0, atol=1e-4)
            ranked = [hypothesis.score for hypothesis in hypotheses]
            assert ranked == sorted(ranked, reverse=True)


@pytest.mark.parametrize(("blank_skip", "token_floor"), [(1.0, 0.0), (0.9, 0.01)])
def test_batches_of_1_8_and_64_give_the_same_hypotheses_with_all_scorers_at_once(
    blank_skip: float, token_floor: float
) -> None:
    rng = random.Random(5)
    scorers = [kind.scorer for kind in all_kinds(rng, LETTERS)]
    log_posteriors = random_posteriors(6, 30, len(LETTERS), batch=64, scale=3.0)
    lengths = np.array([rng.randint(0, 30) for _ in range(64)])

    def search(size: int) -> list[list[tuple[Tokens, tuple[int, ...], float]]]:
        return [
            [(h.tokens, h.frames, pytest.approx(h.score, abs=1e-4)) for h in hypotheses]
            for first in range(0, 64, size)
            for hypotheses in beam_search(
                log_posteriors[first : first + size, : int(lengths[first : first + size].max())],
                lengths[first : first + size],
                BeamOptions(beam_size=8, insertion_bonus=0.3, blank_skip=blank_skip, token_floor=token_floor),
                scorers,
            )
        ]

    alone, by_8, together = search(1), search(8), search(64)
    assert alone == by_8 == together
