"""Utterances that end within a word, where a closed vocabulary lets no prefix of the beam be a sentence."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from asr.data.tokens import BLANK
from asr.decode.hypothesis import Hypothesis
from asr.decode.scorers import Scorer


def finished_beginning(
    prefix: Hypothesis,
    scorers: Sequence[tuple[Scorer, float]],
    insertion_bonus: float,
    device: torch.device,
) -> Hypothesis | None:
    """Return the longest beginning of a prefix that the scorers let be a sentence, or None if not even the empty one.

    As a recording may be cut anywhere, its last word may be a fragment. It is left out, or cut to a word that it
    begins with; the acoustic score remains that of the whole prefix, since that is what was heard.

    Args:
        prefix: that cannot be a sentence.
        scorers: with their weights; at least one.
        insertion_bonus: as in the search.
        device: on which the scorers work.
    """
    row = torch.zeros(1, dtype=torch.int64, device=device)
    states = [scorer.start(1, device) for scorer, _ in scorers]
    lm = 0.0
    best: tuple[int, float] | None = None
    for length, token in enumerate((*prefix.tokens, None)):
        weighted = [
            weight * scorer.score(state)[0].double() for (scorer, weight), state in zip(scorers, states, strict=True)
        ]
        scores = torch.stack(weighted).sum(dim=0)
        if lm + float(scores[BLANK]) > float("-inf"):
            best = length, lm + float(scores[BLANK])
        if token is not None:
            lm += float(scores[token])
            tokens = torch.full_like(row, token)
            states = [scorer.advance(state, row, tokens) for (scorer, _), state in zip(scorers, states, strict=True)]
    if best is None:
        return None
    length, lm = best
    score = prefix.acoustic_score + lm + insertion_bonus * length
    return Hypothesis(prefix.tokens[:length], score, prefix.acoustic_score, lm, prefix.frames[:length])
