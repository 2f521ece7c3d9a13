"""What tests of searches compare with: the enumeration of all paths, and texts made at random."""

from __future__ import annotations

import itertools
import math
import random
from functools import lru_cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from asr.config import TextSettings
from asr.lm.kneser_ney import kneser_ney
from asr.lm.ngram import SENTENCE_END, SENTENCE_START, NgramLm
from asr.lm.texts import token_units
from asr.text.tokens import TokenTable, WordTable, train_pieces
from asr.transcript.words import Hypothesis

Tokens = tuple[int, ...]

LETTERS = TokenTable.from_texts([" ab"])
PIECES = train_pieces({"ab": 9, "b": 3, "aab": 4, "bb": 5}, TextSettings(tokens="bpe", pieces=8))
WORDS = WordTable.from_texts("".join(word) for n in (1, 2, 3) for word in itertools.product("ab", repeat=n))


@lru_cache
def all_paths(frames: int, tokens: int) -> tuple[np.ndarray, list[Tokens], np.ndarray]:
    """Return every path `(path, frame)`, the sequences that they collapse to, and each path's sequence."""
    paths = list(itertools.product(range(tokens), repeat=frames))
    index: dict[Tokens, int] = {}
    collapsed = [tuple(token for token, _ in itertools.groupby(path) if token != 0) for path in paths]
    places = [index.setdefault(sequence, len(index)) for sequence in collapsed]
    return np.array(paths, dtype=np.int64).reshape(len(paths), frames), list(index), np.array(places)


def enumerate_sequences(log_posteriors: NDArray[np.floating]) -> dict[Tokens, float]:
    """Return the log-probability of every token sequence that `(frame, token)` log-posteriors allow."""
    table = log_posteriors.astype(np.float64)
    paths, sequences, places = all_paths(*table.shape)
    mass = np.bincount(places, weights=np.exp(table[np.arange(len(table)), paths].sum(axis=1)))
    with np.errstate(divide="ignore"):  # sequences that are ruled out
        return dict(zip(sequences, np.log(mass).tolist(), strict=True))


def random_posteriors(seed: int, frames: int, tokens: int, batch: int = 1, scale: float = 2.0) -> NDArray[np.float32]:
    generator = torch.Generator().manual_seed(seed)
    return log_softmax(scale * torch.randn(batch, frames, tokens, generator=generator).numpy())


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    return torch.from_numpy(logits.astype(np.float32)).log_softmax(-1).numpy()


def random_word(rng: random.Random, longest: int = 3) -> str:
    return "".join(rng.choices("ab", k=rng.randint(1, longest)))


def random_word_lm(rng: random.Random, order: int) -> NgramLm:
    words = [random_word(rng) for _ in range(4)]
    return kneser_ney([rng.choices(words, k=rng.randint(1, 5)) for _ in range(6)], order)


def sentence_log_prob(lm: NgramLm, table: TokenTable, tokens: Tokens) -> float:
    """Return what a token n-gram says of a whole sentence."""
    names = token_units(table)
    units = [SENTENCE_START, *(names[token] for token in tokens), SENTENCE_END]
    return sum(lm.log_prob(units[:place], units[place]) for place in range(1, len(units)))


def word_score(lm: NgramLm, words: list[str], lexicon: set[str], oov_penalty: float | None) -> float:
    """Return what the word n-gram says of a whole sentence, word by word."""
    units = [SENTENCE_START, *words, SENTENCE_END]
    total = sum(lm.log_prob(units[:place], units[place]) for place in range(1, len(units)))
    outside = sum(word not in lexicon for word in words)
    if outside:
        total = -math.inf if oov_penalty is None else total - outside * oov_penalty
    return total


def occurrences(phrase: list[str], words: list[str]) -> int:
    return sum(words[place : place + len(phrase)] == phrase for place in range(len(words)))


def hotword_score(bonuses: dict[str, float], words: list[str]) -> float:
    return sum(bonus * occurrences(phrase.split(), words) for phrase, bonus in bonuses.items())


def agrees(hypotheses: list[Hypothesis], expected: dict[Tokens, float]) -> bool:
    """Whether the n-best list holds every possible sequence with its score, in order."""
    possible = {tokens: score for tokens, score in expected.items() if score > -math.inf}
    scores = [hypothesis.score for hypothesis in hypotheses]
    return (
        hypotheses[0].tokens == max(possible, key=lambda tokens: possible[tokens])
        and scores == sorted(scores, reverse=True)
        and {h.tokens: pytest.approx(h.score, abs=1e-4) for h in hypotheses} == possible
        and len(hypotheses) == len(possible)
    )
