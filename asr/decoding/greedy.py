"""Greedy search: take the most probable token of each frame, collapse repetitions, drop blanks.

It finds the most probable *path*. A *token sequence* is the sum of many paths; `beam.py` finds the most probable one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from asr.decoding.frames import frame_mask
from asr.text.tokens import BLANK
from asr.transcript.words import Hypothesis


@torch.inference_mode()
def greedy_search(log_posteriors: Tensor, lengths: Tensor) -> list[Hypothesis]:
    """Return the token sequence of each utterance's most probable path.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank.
        lengths: `(batch,)` integer, valid frames of each utterance.

    Returns:
        One hypothesis for each utterance. Its score is the path's log-probability; a token's frame is the first one of
        its run.

    Raises:
        ShapeError: a length exceeds the number of frames, or the tensors do not fit.

    Source: Graves et al. 2006, "Connectionist temporal classification", section 3.2, best path decoding.
    """
    valid = frame_mask(log_posteriors, lengths)
    log_probabilities, path = log_posteriors.max(dim=-1)  # (batch, frame)
    scores = log_probabilities.masked_fill(~valid, 0.0).sum(dim=1, dtype=torch.float64).tolist()

    starts_run = torch.ones_like(valid)
    starts_run[:, 1:] = path[:, 1:] != path[:, :-1]
    emitted = path.where(starts_run & valid, BLANK).cpu().numpy()  # (batch, frame), one transfer for all utterances
    hypotheses = []
    for row, score in zip(emitted, scores, strict=True):
        (frames,) = row.nonzero()
        hypotheses.append(Hypothesis(tuple(row[frames].tolist()), score, score, 0.0, tuple(frames.tolist())))
    return hypotheses
