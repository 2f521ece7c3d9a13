"""Shallow fusion: a recurrent language model over tokens scores the beam search's prefixes as they grow."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from asr.data.tokens import TokenTable
from asr.lm.rnnlm import BOUNDARY, LmState
from asr.lm.rnnlm_bundle import RnnLmBundle


class RnnScorerState(NamedTuple):
    """What the network knows of each prefix, and what it expects next: `(layer, row, unit)`, `(row, token)`."""

    hidden: LmState
    log_probs: Tensor


class RnnScorer:
    """A `Scorer`; its unit 0, the sentence boundary, stands where the blank does, so columns are token ids.

    In most frames most prefixes stay as they are. Their distribution is kept in the state, and the network runs over
    those rows alone that took a token.
    """

    def __init__(self, bundle: RnnLmBundle, tokens: TokenTable) -> None:
        """Score with this model, put into evaluation mode.

        Raises:
            LanguageModelError: the model's units are not `tokens`.
        """
        bundle.units.require_tokens(tokens)
        self._lm = bundle.lm.eval()

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
