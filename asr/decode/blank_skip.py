"""Frames that are all but surely blank, taken as blank without a search.

Most frames of a trained CTC model are blank with a posterior near 1. Such a frame cannot simply be dropped: between two
equal tokens it is what keeps them apart. It is taken as if blank were its only token: every prefix's mass, times the
blank's posterior, then ends in a blank, and a run of such frames costs one multiplication. What is lost are the
paths that have a token there, the last one's repetition included; a hypothesis' probability can only become smaller.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from asr.data.tokens import BLANK


class KeptFrames(NamedTuple):
    """The frames to be searched, moved together, and what lies between them; the utterances with the most come first.

    So the utterances that have a frame are the first of the batch, and a search drops the others as it goes.
    """

    utterance: Tensor  # (batch,) int64, each row's number in the batch that was given
    running: list[int]  # of each frame, how many utterances have it
    valid: Tensor  # (batch, kept) bool, the same as a mask
    log_posteriors: Tensor  # (batch, kept, token)
    number: Tensor  # (batch, kept) int64, each frame's number before
    skips: Tensor  # (batch, kept + 1) bool: are there skipped frames before this one, or at last after all?
    log_blank: Tensor  # (batch, kept + 1) float64, the log-probability that those are blank


def keep_frames(log_posteriors: Tensor, valid: Tensor, threshold: float) -> KeptFrames:
    """Separate each utterance's frames whose blank posterior is above `threshold` from the others.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank. At least one utterance.
        valid: `(batch, frame)` bool, an utterance's own frames.
        threshold: of the posterior; 1 keeps all frames, those whose rounded posterior is above 1 too.
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
