"""Which tokens may extend prefixes in each frame: those whose posterior is not all but zero.

In a frame of a trained model nearly all of the posterior falls to the blank and a few tokens. Prefixes that the others
would begin or extend fill the candidates of the beam search, and few of them ever enter the beam. They are left out
before the search, for each frame by itself; what an utterance gets does not depend on the batch. Only extensions are
left out: a prefix keeps the mass of its last token's repetitions, however small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asr.data.tokens import BLANK

_IMPOSSIBLE = float("-inf")


class ActiveTokens(NamedTuple):
    """The tokens of each frame, the most probable first, in as many columns as the frame's fullest utterance needs.

    Column 0 is the blank's, in which the search puts the prefixes that stay as they are.
    """

    tokens: Sequence[Tensor | None]  # of each frame (batch, column) int64, all different in a row; None: all, in order
    log_posteriors: Sequence[Tensor]  # of each frame (batch, column) float64; −inf for the blank and where not active


def active_tokens(log_posteriors: Tensor, valid: Tensor, threshold: float) -> ActiveTokens:
    """Find the tokens whose posterior is above `threshold`.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank.
        valid: `(batch, frame)` bool; the other frames have no active tokens.
        threshold: of the posterior; at 0 all tokens are active.
    """
    if threshold == 0:
        extending = log_posteriors.to(torch.float64, copy=True)
        extending[:, :, BLANK] = _IMPOSSIBLE
        return ActiveTokens([None] * log_posteriors.shape[1], extending.unbind(1))
    active = (log_posteriors > math.log(threshold)) & valid[:, :, None]
    active[:, :, BLANK] = True
    columns = active.sum(dim=2).amax(dim=0).tolist()
    # The blank is ranked as if certain, so that it comes first.
    ranked = log_posteriors.masked_fill(~active, _IMPOSSIBLE)
    ranked[:, :, BLANK] = math.inf
    extending, tokens = ranked.topk(max(columns, default=1), dim=2)
    extending = extending.double()
    extending[:, :, BLANK] = _IMPOSSIBLE
    return ActiveTokens(
        [frame[:, :count] for frame, count in zip(tokens.unbind(1), columns, strict=True)],
        [frame[:, :count] for frame, count in zip(extending.unbind(1), columns, strict=True)],
    )
