"""Shallow fusion: a recurrent language model over tokens scores the beam search's prefixes as they grow.

N-best rescoring: a recurrent language model reads whole hypotheses and ranks them anew.

Against shallow fusion it may be a model over words, and each hypothesis is read once; but what the first pass pruned
stays lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asr.lm.rnnlm import BOUNDARY, LmState, RnnLm
from asr.text.tokens import TokenTable
from asr.transcript.hypothesis import Hypothesis


class RnnScorerState(NamedTuple):
    """What the network knows of each prefix, and what it expects next: `(layer, row, unit)`, `(row, token)`."""

    hidden: LmState
    log_probs: Tensor


class RnnScorer:
    """A `Scorer`; its unit 0, the sentence boundary, stands where the blank does, so columns are token ids.

    In most frames most prefixes stay as they are. Their distribution is kept in the state, and the network runs over
    those rows alone that took a token.
    """

    def __init__(self, lm: RnnLm, tokens: TokenTable) -> None:
        """Score with this model, put into evaluation mode.

        Raises:
            LanguageModelError: the model's units are not `tokens`.
        """
        lm.units.require_tokens(tokens)
        self._lm = lm.eval()

    @torch.inference_mode()
    def start(self, batch: int, device: torch.device) -> RnnScorerState:
        """Return `batch` rows at a sentence's start; the network moves to `device` if it is elsewhere."""
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
        log_probs = state.log_probs[parents]
        grown = tokens.nonzero().squeeze(1)
        if len(grown):
            after = self._read(tokens[grown], tuple(part.index_select(1, grown) for part in hidden))
            for part, new in zip(hidden, after.hidden, strict=True):
                part[:, grown] = new
            log_probs[grown] = after.log_probs
        return RnnScorerState(hidden, log_probs)

    def _read(self, tokens: Tensor, hidden: LmState) -> RnnScorerState:
        """Read one token a row."""
        vectors, after = self._lm(tokens[:, None], hidden)
        return RnnScorerState(after, self._lm.log_probs(vectors[:, 0]))


class Rescored(NamedTuple):
    """A hypothesis of the first pass, with its acoustic and LM scores, and what the second pass says of it.

    Attributes:
        hypothesis: as the search returned it.
        log_prob: the recurrent model's natural-log probability of its sentence, the end included, without weight.
        score: what the list is ranked by now.
    """

    hypothesis: Hypothesis
    log_prob: float
    score: float


def rescore(
    nbest: Sequence[Sequence[Hypothesis]], lm: RnnLm, tokens: TokenTable, weight: float
) -> list[list[Rescored]]:
    """Rank each utterance's hypotheses by `score + weight · log_prob`; equal ones keep their order.

    Args:
        nbest: each utterance's hypotheses.
        lm: a model over `tokens`, or over words. A word it does not know has the probability of `<unk>`.
        tokens: the acoustic model's tokens.
        weight: of the recurrent model's log-probability.

    Raises:
        LanguageModelError: the model's tokens are others.
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
    log_probs = iter([float(scores.double().sum()) for scores in lm.eval().unit_log_probs(sequences)])
    result = []
    for hypotheses in nbest:
        rescored = []
        for hypothesis in hypotheses:
            log_prob = next(log_probs)
            rescored.append(Rescored(hypothesis, log_prob, hypothesis.score + weight * log_prob))
        result.append(sorted(rescored, key=lambda item: -item.score))
    return result
