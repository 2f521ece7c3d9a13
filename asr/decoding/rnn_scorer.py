"""A recurrent language model in the beam search, and over its results.

`RnnScorer` scores prefixes as they grow (shallow fusion). Its units must be the acoustic model's tokens. `rescore`
ranks whole hypotheses anew (n-best rescoring). There the units may be words, and each hypothesis is read only once, but
hypotheses that the search has dropped stay lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from asr.lm.rnnlm import BOUNDARY, LmState, RnnLm
from asr.text.tokens import TokenTable
from asr.transcript.words import Hypothesis


class RnnScorerState(NamedTuple):
    """What the network knows after each prefix."""

    hidden: LmState  # (layer, row, unit) each
    log_probs: Tensor  # (row, token) float32, of the next token


class RnnScorer:
    """A `Scorer`. Its unit 0, the sentence boundary, has the place of the blank, so columns are token ids.

    In most frames most prefixes stay as they are. The state keeps their distribution. On a CPU the network runs only
    for the rows that took a token. On a GPU it runs for all: picking some would wait for the GPU in each frame.
    """

    def __init__(self, lm: RnnLm, tokens: TokenTable) -> None:
        """Score with this model, in evaluation mode.

        Raises:
            LanguageModelError: the model's units are not `tokens`.
        """
        lm.units.require_tokens(tokens)
        self._lm = lm.eval()

    @torch.inference_mode()
    def start(self, batch: int, device: torch.device) -> RnnScorerState:
        """Return `batch` rows at a sentence's start; the network moves to `device`."""
        self._lm.to(device)
        boundary = torch.full((batch,), BOUNDARY, device=device)
        return self._read(boundary, self._lm.start(batch))

    def score(self, state: RnnScorerState) -> Tensor:
        """Return `(row, token)` float32 natural-log probabilities; column 0 is the sentence's end."""
        return state.log_probs

    @torch.inference_mode()
    def advance(self, state: RnnScorerState, parents: Tensor, tokens: Tensor) -> RnnScorerState:
        """Return the states of new rows, see `Scorer`."""
        hidden = tuple(part.index_select(1, parents) for part in state.hidden)
        before = RnnScorerState(hidden, state.log_probs.index_select(0, parents))
        return self._all_read(before, tokens) if tokens.is_cuda else self._grown_read(before, tokens)

    def _all_read(self, before: RnnScorerState, tokens: Tensor) -> RnnScorerState:
        """Let all rows read, and keep what the rows with a token have read."""
        after = self._read(tokens, before.hidden)
        grows = (tokens != BOUNDARY)[:, None]
        hidden = tuple(torch.where(grows, new, old) for new, old in zip(after.hidden, before.hidden, strict=True))
        return RnnScorerState(hidden, torch.where(grows, after.log_probs, before.log_probs))

    def _grown_read(self, before: RnnScorerState, tokens: Tensor) -> RnnScorerState:
        """Let the rows with a token read; `before` is changed."""
        grown = tokens.nonzero().squeeze(1)
        if len(grown):
            after = self._read(tokens[grown], tuple(part.index_select(1, grown) for part in before.hidden))
            for part, new in zip(before.hidden, after.hidden, strict=True):
                part[:, grown] = new
            before.log_probs[grown] = after.log_probs
        return before

    def _read(self, tokens: Tensor, hidden: LmState) -> RnnScorerState:
        """Read one token a row."""
        vectors, after = self._lm(tokens[:, None], hidden)
        return RnnScorerState(after, self._lm.log_probs(vectors[:, 0]))


def rescore(
    nbest: Sequence[Sequence[Hypothesis]], lm: RnnLm, tokens: TokenTable, weight: float
) -> list[list[Hypothesis]]:
    """Add the model's weighted log-probability to `score` and `lm_score`, and rank each utterance's hypotheses anew.

    Hypotheses of equal score keep their order.

    Args:
        nbest: each utterance's hypotheses.
        lm: a model over `tokens`, or over words. A word that it does not know has the probability of `<unk>`.
        tokens: the acoustic model's tokens.
        weight: of the log-probability of a hypothesis, its end included.

    Raises:
        LanguageModelError: the model is over other tokens.
    """
    if lm.units.kind == "tokens":
        lm.units.require_tokens(tokens)
    sequences = [
        list(hypothesis.tokens)
        if lm.units.kind == "tokens"
        else lm.units.encode_words(tokens.decode(hypothesis.tokens))
        for hypotheses in nbest
        for hypothesis in hypotheses
    ]
    gains = iter([weight * float(scores.double().sum()) for scores in lm.eval().unit_log_probs(sequences)])
    rescored = [[_with_gain(hypothesis, next(gains)) for hypothesis in hypotheses] for hypotheses in nbest]
    return [sorted(hypotheses, key=lambda hypothesis: -hypothesis.score) for hypotheses in rescored]


def _with_gain(hypothesis: Hypothesis, gain: float) -> Hypothesis:
    return replace(hypothesis, score=hypothesis.score + gain, lm_score=hypothesis.lm_score + gain)
