"""Forced alignment: at which frames each token of a given text was spoken.

Among all CTC paths that spell the tokens, the most probable one (Viterbi) says which frames belong to which token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from asr.data.tokens import BLANK, min_frames
from asr.errors import ShapeError
from asr.features.torchaudio_functional import forced_align


@dataclass(frozen=True)
class TokenSpan:
    """One token's frames, `end` exclusive, and its highest posterior probability among them."""

    token: int
    start: int
    end: int
    probability: float


def align(log_posteriors: Tensor, tokens: Sequence[int]) -> list[TokenSpan]:
    """Return the frames of each token on the best path that spells `tokens`.

    Args:
        log_posteriors: `(frame, token)`, natural log, valid frames only.
        tokens: the text, without blanks.

    Raises:
        ShapeError: there are fewer frames than the tokens need.

    Source: Kürzinger et al. 2020, arXiv:2007.09127 (alignment with a CTC model).
    """
    if not tokens:
        return []
    if len(log_posteriors) < min_frames(tokens):
        raise ShapeError(f"{len(log_posteriors)} frames are too few for {len(tokens)} tokens")
    log_posteriors = log_posteriors.detach().float().cpu()
    targets = torch.tensor([list(tokens)], dtype=torch.int32)
    path = forced_align(log_posteriors[None].contiguous(), targets, blank=BLANK)[0][0].tolist()
    spans: list[TokenSpan] = []
    start = 0
    for frame in range(1, len(path) + 1):
        if frame == len(path) or path[frame] != path[start]:
            if path[start] != BLANK:
                token = path[start]
                best = log_posteriors[start:frame, token].max().exp().item()
                spans.append(TokenSpan(token, start, frame, min(best, 1.0)))
            start = frame
    return spans
