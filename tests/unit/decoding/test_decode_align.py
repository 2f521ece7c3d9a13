"""Forced alignment against enumeration of all paths, and against torchaudio's."""

from __future__ import annotations

from itertools import groupby, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torchaudio.functional import forced_align

from asr.decoding.align import align, viterbi
from asr.errors import ShapeError
from asr.text.tokens import min_frames


def random_posteriors(seed: int, frames: int, tokens: int) -> NDArray[np.float32]:
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(2 * torch.randn(frames, tokens, generator=generator), 1).numpy()


def spelled(path: tuple[int, ...]) -> list[int]:
    return [token for token, _ in groupby(path) if token]


texts = st.lists(st.integers(1, 2), min_size=1, max_size=3)


@given(st.integers(0, 2**31), texts, st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_no_path_that_spells_the_text_is_more_probable(seed: int, tokens: list[int], spare: int) -> None:
    posteriors = random_posteriors(seed, min_frames(tokens) + spare, 3)
    paths = [path for path in product(range(3), repeat=len(posteriors)) if spelled(path) == tokens]
    best = max(paths, key=lambda path: sum(float(posteriors[frame, token]) for frame, token in enumerate(path)))
    assert viterbi(posteriors, tokens) == list(best)


@given(st.integers(0, 2**31), st.lists(st.integers(1, 5), min_size=1, max_size=20), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_our_path_is_torchaudios(seed: int, tokens: list[int], spare: int) -> None:
    posteriors = random_posteriors(seed, min_frames(tokens) + spare, 6)
    theirs = forced_align(torch.from_numpy(posteriors)[None], torch.tensor([tokens], dtype=torch.int32), blank=0)[0][0]
    assert viterbi(posteriors, tokens) == theirs.tolist()


def test_a_span_holds_its_frames_and_its_best_posterior() -> None:
    probabilities = np.full((5, 3), 0.05)
    for frame, (token, probability) in enumerate([(1, 0.6), (1, 0.9), (0, 0.9), (2, 0.7), (0, 0.9)]):
        probabilities[frame, token] = probability
    first, second = align(np.log(probabilities), [1, 2])
    assert (first.token, first.start, first.end) == (1, 0, 2)
    assert (second.token, second.start, second.end) == (2, 3, 4)
    assert (first.probability, second.probability) == pytest.approx((0.9, 0.7))


def test_no_text_has_no_spans_and_too_few_frames_are_an_error() -> None:
    assert align(random_posteriors(0, 3, 3), []) == []
    with pytest.raises(ShapeError, match="2 frames are too few for 2 tokens"):
        align(random_posteriors(0, 2, 3), [1, 1])
