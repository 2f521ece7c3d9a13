"""Which tokens may extend prefixes in each frame: those whose posterior is not all but zero.

In a frame of a trained model nearly all of the posterior falls to the blank and a few tokens. Prefixes that the others
would begin or extend fill the candidates of the beam search, and few of them ever enter the beam. They are left out
before the search, for each frame by itself; what an utterance gets does not depend on the batch. Only extensions are
left out: a prefix keeps the mass of its last token's repetitions, however small.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from asr.data.tokens import BLANK

_IMPOSSIBLE = float("-inf")


class ActiveTokens(NamedTuple):
    """The tokens of each frame, the most probable first, in as many columns as the frame's fullest utterance needs.

    Column 0 is the blank's, in which the search puts the prefixes that stay as they are.
    """

    tokens: list[Tensor]  # of each frame (batch, column) int64, all different in a row
    log_posteriors: list[Tensor]  # of each frame (batch, column) float64; −inf for the blank and where not active


def active_tokens(log_posteriors: Tensor, valid: Tensor, threshold: float) -> ActiveTokens:
    """Find the tokens whose posterior is above `threshold`.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank.
        valid: `(batch, frame)` bool; the other frames have no active tokens.
        threshold: of the posterior; at 0 all tokens are active, in their own order.
    """
    batch, frames, token_count = log_posteriors.shape
    if threshold == 0:
        tokens = torch.arange(token_count, device=log_posteriors.device).expand(batch, frames, token_count)
        masked = log_posteriors.masked_fill(~valid[:, :, None], _IMPOSSIBLE)
        columns = [token_count] * frames
    else:
        active = (log_posteriors > math.log(threshold)) & valid[:, :, None]
        active[:, :, BLANK] = True
        counts = active.sum(dim=2)
        columns = counts.amax(dim=0).tolist() if batch else [1] * frames
        # The blank is ranked as if certain, so that it comes first.
        ranked = log_posteriors.masked_fill(~active, _IMPOSSIBLE)
        ranked[:, :, BLANK] = math.inf
        masked, tokens = ranked.topk(max(columns, default=1), dim=2)
    masked = masked.double()
    masked[:, :, BLANK] = _IMPOSSIBLE
    return ActiveTokens(
        [frame[:, :count] for frame, count in zip(tokens.unbind(1), columns, strict=True)],
        [frame[:, :count] for frame, count in zip(masked.unbind(1), columns, strict=True)],
    )
