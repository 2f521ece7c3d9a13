"""The check that every search makes of its input."""

from __future__ import annotations

import torch
from torch import Tensor

from asr.errors import ShapeError


def frame_mask(log_posteriors: Tensor, lengths: Tensor) -> Tensor:
    """Return which frames are an utterance's own rather than padding, `(batch, frame)` bool.

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
    if batch and (int(lengths.max()) > frames or int(lengths.min()) < 0):
        raise ShapeError(f"lengths {lengths.tolist()} do not lie between 0 and the {frames} frames there are")
    lengths = lengths.to(log_posteriors.device)
    return torch.arange(frames, device=log_posteriors.device) < lengths[:, None]
