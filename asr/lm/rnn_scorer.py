"""A recurrent language model in the beam search, and over its results.

`RnnScorer` scores prefixes as they grow (shallow fusion). Its units must be the acoustic model's tokens. `rescore`
ranks whole hypotheses anew (n-best rescoring). There the units may be words, and each hypothesis is read only once, but
hypotheses that the search has dropped stay lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from asr.lm.rnnlm import BOUNDARY, LmState, RnnLm
from asr.text.tokens import TokenTable
from asr.transcript.words import Hypothesis

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


class RnnScorerState(NamedTuple):
    """What the network knows after each prefix."""

    hidden: LmState  # (layer, row, unit) each
    log_probs: Floats  # (row, token), of the next token


class RnnScorer:
    """A scorer of the beam search. Unit 0, the sentence boundary, has the place of the blank: columns are token ids.

    In most frames most prefixes stay as they are. The state keeps their distribution, and the network runs only for the
    rows that took a token.
    """

    def __init__(self, lm: RnnLm, tokens: TokenTable, device: torch.device | str = "cpu") -> None:
        """Score with this model, in evaluation mode.

        Args:
            lm: the model; it moves to `device`.
            tokens: the acoustic model's.
            device: where the network runs.

        Raises:
            LanguageModelError: the model's units are not `tokens`.
        """
        lm.units.require_tokens(tokens)
        self._lm = lm.eval().to(device)
        self._device = device

    @torch.inference_mode()
    def start(self, batch: int) -> RnnScorerState:
        """Return `batch` rows at a sentence's start."""
        return self._read(np.full(batch, BOUNDARY), self._lm.start(batch))

    def score(self, state: RnnScorerState) -> Floats:
        """Return `(row, token)` natural-log probabilities; column 0 is the sentence's end."""
        return state.log_probs

    @torch.inference_mode()
    def advance(self, state: RnnScorerState, parents: Ints, tokens: Ints) -> RnnScorerState:
        """Return the states of new rows; rows and tokens are those of `asr.decoding.scorers.Scorer`."""
        rows = torch.from_numpy(parents).to(self._device)
        hidden = tuple(part.index_select(1, rows) for part in state.hidden)
        log_probs = state.log_probs.take(parents, axis=0)
        (grown,) = tokens.nonzero()
        if len(grown):
            places = torch.from_numpy(grown).to(self._device)
            after = self._read(tokens[grown], tuple(part.index_select(1, places) for part in hidden))
            for part, new in zip(hidden, after.hidden, strict=True):
                part[:, places] = new
            log_probs[grown] = after.log_probs
        return RnnScorerState(hidden, log_probs)

    def _read(self, tokens: Ints, hidden: LmState) -> RnnScorerState:
        """Read one token a row."""
        vectors, after = self._lm(torch.from_numpy(tokens).to(self._device)[:, None], hidden)
        return RnnScorerState(after, self._lm.log_probs(vectors[:, 0]).float().cpu().numpy())


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
