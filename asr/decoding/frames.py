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
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.errors import ShapeError
from asr.text.tokens import BLANK

Floats = NDArray[np.floating[Any]]
Float64s = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def frame_mask(log_posteriors: Floats, lengths: NDArray[np.integer]) -> Bools:
    """Return which frames belong to an utterance and are not padding, `(batch, frame)` bool.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank.
        lengths: `(batch,)` integer, valid frames of each utterance.

    Raises:
        ShapeError: the arrays do not fit each other, or a length is not between 0 and the number of frames.
    """
    if log_posteriors.ndim != 3 or log_posteriors.shape[2] == 0:
        raise ShapeError(f"log-posteriors are (batch, frame, token), not {tuple(log_posteriors.shape)}")
    batch, frames, _ = log_posteriors.shape
    if lengths.shape != (batch,) or not np.issubdtype(lengths.dtype, np.integer):
        raise ShapeError(
            f"lengths are integers ({batch},), one an utterance, not {lengths.dtype} {tuple(lengths.shape)}"
        )
    counts = lengths.tolist()
    if not all(0 <= count <= frames for count in counts):
        raise ShapeError(f"lengths {counts} do not lie between 0 and the {frames} frames there are")
    mask: Bools = np.arange(frames) < lengths[:, None]
    return mask


def greatest(values: Floats, count: int) -> Ints:
    """Return the places of the `count` greatest of `values (…, size)`, the greatest first: `(…, count)`, or all."""
    size = values.shape[-1]
    if count < size:
        places = np.argpartition(values, size - count, axis=-1)[..., size - count :]
        values = np.take_along_axis(values, places, -1)
    order = np.argsort(-values, axis=-1, kind="stable")
    return order if count >= size else np.take_along_axis(places, order, -1)


class KeptFrames(NamedTuple):
    """The frames to search, without gaps, and what was skipped between them. The longest utterances come first.

    So the utterances that have a certain frame are the first of the batch. The search drops the others on its way.
    """

    utterance: Ints  # (batch,), each row's number in the batch that was given
    running: list[int]  # for each frame, how many utterances have it
    valid: Bools  # (batch, kept), the same as a mask
    log_posteriors: Floats  # (batch, kept, token)
    number: Ints  # (batch, kept), each frame's number in the batch that was given
    skips: Bools  # (batch, kept + 1), whether frames were skipped before this one; the last: after all
    log_blank: Float64s  # (batch, kept + 1), the log-probability that these are blank


def keep_frames(log_posteriors: Floats, valid: Bools, threshold: float) -> KeptFrames:
    """Separate each utterance's frames whose blank posterior is above `threshold` from the others.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank. At least one utterance.
        valid: `(batch, frame)` bool, as of `frame_mask`.
        threshold: of the posterior; 1 keeps all frames, even if rounding makes a posterior greater than 1.
    """
    log_blank = log_posteriors[:, :, BLANK].astype(np.float64)
    skipped = valid & (log_blank > math.log(threshold)) if threshold < 1 else np.zeros_like(valid)
    kept = valid & ~skipped
    utterance = np.argsort(-kept.sum(axis=1), kind="stable")
    skipped, kept, log_blank = skipped[utterance], kept[utterance], log_blank[utterance]
    counts = kept.sum(axis=1)
    most = int(counts[0])
    # A frame's place among the kept ones; a skipped frame's is that of the next kept one.
    row, place = np.arange(len(kept))[:, None], kept.cumsum(axis=1) - kept
    sums, skips = np.zeros((len(kept), most + 1)), np.zeros((len(kept), most + 1))
    np.add.at(sums, (row, place), np.where(skipped, log_blank, 0.0))
    np.add.at(skips, (row, place), skipped)
    number = np.argsort(~kept, axis=1, kind="stable")[:, :most]
    valid = np.arange(most) < counts[:, None]
    return KeptFrames(
        utterance=utterance,
        running=valid.sum(axis=0).tolist(),
        valid=valid,
        log_posteriors=log_posteriors[utterance[:, None], number],
        number=number,
        skips=skips > 0,
        log_blank=sums,
    )


_IMPOSSIBLE = float("-inf")


class ActiveTokens(NamedTuple):
    """The active tokens of each frame, in order. A frame has as many columns as any utterance needs.

    Column 0 is the blank's; the search uses it for prefixes that stay as they are. Columns not in use are the blank's
    too.
    """

    tokens: Sequence[Ints | None]  # for each frame (batch, column); None: all
    log_posteriors: Sequence[Float64s]  # for each frame (batch, column); −inf for the blank and if not active


def active_tokens(log_posteriors: Floats, valid: Bools, threshold: float) -> ActiveTokens:
    """Find the tokens whose posterior is above `threshold`.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank.
        valid: `(batch, frame)` bool; the other frames have no active tokens.
        threshold: of the posterior; at 0 all tokens are active.
    """
    frames = log_posteriors.shape[1]
    if threshold == 0:
        extending = log_posteriors.astype(np.float64)
        extending[:, :, BLANK] = _IMPOSSIBLE
        return ActiveTokens([None] * frames, [extending[:, frame] for frame in range(frames)])
    active = (log_posteriors > math.log(threshold)) & valid[:, :, None]
    active[:, :, BLANK] = True
    column = active.cumsum(axis=2, dtype=np.int32) - 1
    columns = (column[:, :, -1].max(axis=0) + 1).tolist()
    places = utterance, frame, token = active.nonzero()
    shape = (*log_posteriors.shape[:2], max(columns, default=1))
    tokens, extending = np.zeros(shape, np.int64), np.full(shape, _IMPOSSIBLE)
    tokens[utterance, frame, column[places]] = token
    extending[utterance, frame, column[places]] = log_posteriors[places]
    extending[:, :, BLANK] = _IMPOSSIBLE
    return ActiveTokens(
        [tokens[:, frame, :count] for frame, count in enumerate(columns)],
        [extending[:, frame, :count] for frame, count in enumerate(columns)],
    )
