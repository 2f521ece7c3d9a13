"""Beam search at the edges of its input, and what it asks of a GPU."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from enumeration import LETTERS, agrees, enumerate_sequences, random_posteriors
from pretend_gpu import on_gpu, pretend_gpu
from torch.utils._python_dispatch import TorchDispatchMode

from asr.decoding.beam import BeamOptions, beam_search
from asr.decoding.greedy import greedy_search
from asr.decoding.hotwords import HotwordScorer
from asr.decoding.ngram_scorer import TokenNgramScorer
from asr.decoding.rnn_scorer import RnnScorer
from asr.decoding.scorers import WeightedScorer
from asr.decoding.word_scorer import WordNgramScorer
from asr.lm.estimate import token_ngram
from asr.lm.kneser_ney import kneser_ney
from asr.lm.rnnlm import LmUnits, RnnLm
from asr.search_config import RnnLmSettings

SCORERS = [
    WeightedScorer(TokenNgramScorer(token_ngram(["ab a", "b", "ba ab"], LETTERS, 3), LETTERS), 0.5),
    WeightedScorer(HotwordScorer({"ab": 2.0}, LETTERS), 1.0),
]
_WAITING = {f"aten::{name}" for name in ("item", "_local_scalar_dense", "is_nonzero", "nonzero", "masked_select")}
OPTIONS = [{}, {"token_floor": 0.05}, {"blank_skip": 0.6}, {"token_floor": 0.05, "blank_skip": 0.6}]


class Waits(TorchDispatchMode):
    """Counts the operations whose result the host has to know before it can go on."""

    def __init__(self) -> None:
        super().__init__()
        self.of: Counter[str] = Counter()

    def __torch_dispatch__(self, op: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = op.name()
        by_mask = name.startswith("aten::index") and any(
            index is not None and index.dtype == torch.bool
            for argument in args
            if isinstance(argument, list | tuple)
            for index in argument
            if index is None or isinstance(index, torch.Tensor)
        )
        if by_mask or name in _WAITING:
            self.of[name] += 1
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", OPTIONS)
def test_how_often_the_search_waits_for_the_device_does_not_depend_on_the_number_of_frames(
    options: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(name: str, waits: Waits) -> Callable[..., Any]:
        original = getattr(torch.Tensor, name)

        def method(tensor: torch.Tensor, *args: Any) -> Any:
            waits.of[name] += 1
            return original(tensor, *args)

        return method

    def waits_of(frames: int) -> Counter[str]:
        waits = Waits()
        with monkeypatch.context() as patch, waits:
            for name in ("tolist", "numpy", "cpu"):
                patch.setattr(torch.Tensor, name, counted(name, waits))
            posteriors = random_posteriors(frames, frames, len(LETTERS), batch=3)
            lengths = torch.tensor([frames, frames - 1, 3])
            beam_search(posteriors, lengths, BeamOptions(beam_size=4, **options), SCORERS)
        return waits.of

    assert waits_of(7) == waits_of(40)
    assert waits_of(7).total() > 0  # the count works


def test_no_scorer_waits_for_the_gpu_between_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    words = WordNgramScorer(kneser_ney([["ab", "a"], ["b"]], 2), LETTERS, oov_penalty=2.0)
    lm = RnnLm(RnnLmSettings(hidden_size=8, layers=2), LmUnits.of_tokens(LETTERS))
    scorers = [copy.deepcopy(scorer) for scorer, _ in SCORERS] + [words, RnnScorer(lm, LETTERS)]
    with pretend_gpu(monkeypatch) as waits:
        on_gpu(lm)
        for scorer in scorers:
            state = scorer.start(3, torch.device("cuda:0"))
            waits.clear()
            for rows in (6, 4):
                parents, tokens = torch.empty(2, rows, dtype=torch.int64, device="cuda").unbind()
                state = scorer.advance(state, parents, tokens)
                assert scorer.score(state).shape == (rows, len(LETTERS))
            assert not waits


def test_greedy_search_waits_as_often_for_one_utterance_as_for_many(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretend_gpu(monkeypatch) as waits:
        for utterances in (1, 9):
            waits.clear()
            lengths = torch.empty(utterances, dtype=torch.int64, device="cuda")
            assert len(greedy_search(torch.empty(utterances, 200, 5, device="cuda"), lengths)) == utterances
            assert waits == {"read": 2, "to the host": 1}


@pytest.mark.parametrize("options", OPTIONS)
def test_no_utterances_have_no_hypotheses(options: dict[str, float]) -> None:
    for frames in (0, 5):
        nothing = torch.zeros(0, frames, len(LETTERS)), torch.zeros(0, dtype=torch.int64)
        assert beam_search(*nothing, BeamOptions(beam_size=3, **options), SCORERS) == []


@pytest.mark.parametrize("options", OPTIONS)
def test_utterances_without_frames_are_the_empty_sentence_whatever_their_neighbours(options: dict[str, float]) -> None:
    log_posteriors = random_posteriors(1, 9, len(LETTERS), batch=4)
    found = beam_search(log_posteriors, torch.tensor([0, 9, 0, 4]), BeamOptions(beam_size=5, **options), SCORERS)
    [[empty]] = beam_search(log_posteriors[:1, :0], torch.tensor([0]), BeamOptions(beam_size=5, **options), SCORERS)
    assert found[0] == found[2] == [empty]
    assert (empty.tokens, empty.acoustic_score) == ((), 0.0)
    assert len(found[1]) == len(found[3]) == 5


def test_with_the_blank_as_only_token_there_is_one_sentence() -> None:
    [[only]] = beam_search(torch.full((1, 3, 1), math.log(0.5)), torch.tensor([3]), BeamOptions(beam_size=7))
    assert (only.tokens, only.score) == ((), pytest.approx(3 * math.log(0.5)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("options", [{}, {"token_floor": 1e-6}])
def test_log_posteriors_of_any_width_are_summed_in_float64(dtype: torch.dtype, options: dict[str, float]) -> None:
    log_posteriors = random_posteriors(2, 5, 3).to(dtype)
    expected = enumerate_sequences(log_posteriors[0])
    [hypotheses] = beam_search(log_posteriors, torch.tensor([5]), BeamOptions(beam_size=len(expected) + 90, **options))
    assert agrees(hypotheses, expected)
    for hypothesis in hypotheses:
        assert hypothesis.score == pytest.approx(expected[hypothesis.tokens], abs=1e-9)


def test_the_order_of_the_utterances_in_the_batch_changes_nothing() -> None:
    log_posteriors, lengths = random_posteriors(3, 12, len(LETTERS), batch=6), torch.tensor([3, 12, 0, 7, 12, 5])
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    in_order = beam_search(log_posteriors, lengths, BeamOptions(beam_size=6), SCORERS)
    shuffled = beam_search(log_posteriors[order], lengths[order], BeamOptions(beam_size=6), SCORERS)
    assert shuffled == [in_order[utterance] for utterance in order.tolist()]
