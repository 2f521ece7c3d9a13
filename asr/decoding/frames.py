"""A batch's log-posteriors → the frames to search, and the tokens that may extend prefixes in each frame.

`frame_mask` checks the input of every search. The other two functions save time, at the cost of exactness:

- `keep_frames` takes frames as blank if they almost surely are. In a trained CTC model most frames are blank with a
  posterior near 1. Such a frame cannot simply be dropped, because it keeps two equal tokens apart. Instead, blank is
  taken for its only token: every prefix's mass is multiplied by the blank's posterior and then ends in a blank. A run
  of such frames costs one multiplication. The paths with a token there are lost, also those that repeat the last token,
  so a hypothesis can only become less probable.
- `active_tokens` leaves out tokens whose posterior is almost 0. In a frame of a trained model the blank and a few
  tokens share nearly all of the posterior. The others only fill the list of candidates, and hardly any enters the beam.
  Each frame is treated by itself, so an utterance does not depend on its batch. Only extensions are left out:
  repetitions of a prefix's last token always count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asr.errors import ShapeError
from asr.text.tokens import BLANK


def frame_mask(log_posteriors: Tensor, lengths: Tensor) -> Tensor:
    """Return which frames belong to an utterance and are not padding, `(batch, frame)` bool.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank.
        lengths: `(batch,)` integer, valid frames of each utterance.

    Raises:
        ShapeError: the tensors do not fit each other, or a length is not between 0 and the number of frames.
    """
    if log_posteriors.ndim != 3 or log_posteriors.shape[2] == 0:
        raise ShapeError(f"log-posteriors are (batch, frame, token), not {tuple(log_posteriors.shape)}")
    batch, frames, _ = log_posteriors.shape
    if lengths.shape != (batch,) or lengths.is_floating_point():
        raise ShapeError(
            f"lengths are integers ({batch},), one an utterance, not {lengths.dtype} {tuple(lengths.shape)}"
        )
    counts = lengths.tolist()
    if not all(0 <= count <= frames for count in counts):
        raise ShapeError(f"lengths {counts} do not lie between 0 and the {frames} frames there are")
    lengths = lengths.to(log_posteriors.device)
    return torch.arange(frames, device=log_posteriors.device) < lengths[:, None]


class KeptFrames(NamedTuple):
    """The frames to search, without gaps, and what was skipped between them. The longest utterances come first.

    So the utterances that have a certain frame are the first of the batch. The search drops the others on its way.
    """

    utterance: Tensor  # (batch,) int64, each row's number in the batch that was given
    running: list[int]  # for each frame, how many utterances have it
    valid: Tensor  # (batch, kept) bool, the same as a mask
    log_posteriors: Tensor  # (batch, kept, token)
    number: Tensor  # (batch, kept) int64, each frame's number in the batch that was given
    skips: Tensor  # (batch, kept + 1) bool, whether frames were skipped before this one; the last: after all
    log_blank: Tensor  # (batch, kept + 1) float64, the log-probability that these are blank


def keep_frames(log_posteriors: Tensor, valid: Tensor, threshold: float) -> KeptFrames:
    """Separate each utterance's frames whose blank posterior is above `threshold` from the others.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank. At least one utterance.
        valid: `(batch, frame)` bool, as of `frame_mask`.
        threshold: of the posterior; 1 keeps all frames, even if rounding makes a posterior greater than 1.
    """
    log_blank = log_posteriors[:, :, BLANK].double()
    skipped = valid & (log_blank > math.log(threshold)) if threshold < 1 else torch.zeros_like(valid)
    kept = valid & ~skipped
    counts, utterance = kept.sum(dim=1).sort(descending=True, stable=True)
    skipped, kept, log_blank = skipped[utterance], kept[utterance], log_blank[utterance]
    most = int(counts[0])
    # A frame's place among the kept ones; a skipped frame's is that of the next kept one.
    place = kept.cumsum(dim=1) - kept.long()
    sums = log_blank.new_zeros(len(counts), most + 1).scatter_add_(1, place, torch.where(skipped, log_blank, 0.0))
    number = (~kept).long().argsort(dim=1, stable=True)[:, :most]
    valid = torch.arange(most, device=counts.device) < counts[:, None]
    return KeptFrames(
        utterance=utterance,
        running=valid.sum(dim=0).tolist(),
        valid=valid,
        log_posteriors=log_posteriors[utterance[:, None], number],
        number=number,
        skips=torch.zeros_like(sums).scatter_add_(1, place, skipped.double()) > 0,
        log_blank=sums,
    )


_IMPOSSIBLE = float("-inf")


class ActiveTokens(NamedTuple):
    """The active tokens of each frame, the most probable first. A frame has as many columns as any utterance needs.

    Column 0 is the blank's; the search uses it for prefixes that stay as they are.
    """

    tokens: Sequence[Tensor | None]  # for each frame (batch, column) int64, different in a row; None: all, in order
    log_posteriors: Sequence[Tensor]  # for each frame (batch, column) float64; −inf for the blank and if not active


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
