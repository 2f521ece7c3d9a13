"""Greedy search: take the most probable token of each frame, collapse repetitions, drop blanks.

It finds the most probable *path*. The probability of a *token sequence* is the sum over all its paths, and `beam.py`
searches for the most probable sequence. The two may differ. With p(blank) = 0.6 and p(a) = 0.4 in each of two frames,

    path      blank blank    blank a    a blank    a a
    p             0.36         0.24       0.24     0.16
    text           ""            a          a        a

the most probable path is two blanks, and the text "" has 0.36. The text "a" has 0.24 + 0.24 + 0.16 = 0.64.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asr.decoding.frames import Floats, frame_mask
from asr.text.tokens import BLANK
from asr.transcript.words import Hypothesis


def greedy_search(log_posteriors: Floats, lengths: NDArray[np.integer]) -> list[Hypothesis]:
    """Return the token sequence of each utterance's most probable path.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank.
        lengths: `(batch,)` integer, valid frames of each utterance.

    Returns:
        One hypothesis for each utterance. Its score is the path's log-probability; a token's frame is the first one of
        its run.

    Raises:
        ShapeError: a length exceeds the number of frames, or the arrays do not fit.

    Source: Graves et al. 2006, "Connectionist temporal classification", section 3.2, best path decoding.
    """
    valid = frame_mask(log_posteriors, lengths)
    path = log_posteriors.argmax(axis=2)  # (batch, frame)
    scores = np.where(valid, log_posteriors.max(axis=2), 0.0).sum(axis=1, dtype=np.float64).tolist()

    starts_run = np.ones_like(valid)
    starts_run[:, 1:] = path[:, 1:] != path[:, :-1]
    emitted = np.where(starts_run & valid, path, BLANK)
    hypotheses = []
    for row, score in zip(emitted, scores, strict=True):
        (frames,) = row.nonzero()
        hypotheses.append(Hypothesis(tuple(row[frames].tolist()), score, score, 0.0, tuple(frames.tolist())))
    return hypotheses
