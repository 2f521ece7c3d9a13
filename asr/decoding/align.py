"""Forced alignment: log-posteriors and the tokens of a given text → the frames of each token.

Of all CTC paths that spell the tokens, the most probable one (Viterbi) says which frames belong to which token.
torchaudio's extension finds it. Some torchaudio builds lack the extension; then `viterbi` finds it, ten times slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.errors import ShapeError
from asr.machine import torchaudio_functional
from asr.text.tokens import BLANK, min_frames
from asr.transcript.words import TokenSpan


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
    path = _best_path(log_posteriors, tokens)
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


def align_bytes(frames: int, tokens: int) -> int:
    """Return about how much memory `align` takes, measured: it keeps a way back for each frame and state."""
    per_state = 1 if _has_extension() else 20
    return frames * (2 * tokens + 1) * per_state


def viterbi(log_posteriors: NDArray[np.floating], tokens: Sequence[int]) -> list[int]:
    """Return the most probable path that spells `tokens`: for each frame a token or BLANK.

    A path goes through the states blank, token 0, blank, token 1, …, blank. From frame to frame it stays, moves on by
    one state, or skips the blank between two different tokens.

    Args:
        log_posteriors: `(frame, token)`, natural log; at least `min_frames(tokens)` frames.
        tokens: the text, without blanks, at least one.

    Source: Graves et al. 2006, "Connectionist temporal classification", section 4.1, with max in place of sum.
    """
    states = np.full(2 * len(tokens) + 1, BLANK)
    states[1::2] = tokens
    emissions = np.asarray(log_posteriors, np.float64)[:, states]
    leaps = np.zeros(len(states), bool)
    leaps[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), -np.inf)
    score[:2] = emissions[0, :2]
    steps = np.zeros(emissions.shape, np.int64)  # by how many states the path moved on before each frame
    for frame in range(1, len(emissions)):
        by_step = np.full((3, len(states)), -np.inf)
        by_step[0] = score
        by_step[1, 1:] = score[:-1]
        by_step[2, 2:] = np.where(leaps[2:], score[:-2], -np.inf)
        steps[frame] = by_step.argmax(0)
        score = by_step.max(0) + emissions[frame]
    state = len(states) - (1 if score[-1] >= score[-2] else 2)
    path = []
    for step in steps[::-1]:
        path.append(int(states[state]))
        state -= step[state]
    return path[::-1]


def _best_path(log_posteriors: Tensor, tokens: Sequence[int]) -> list[int]:
    if not _has_extension():
        return viterbi(log_posteriors.numpy(), tokens)
    targets = torch.tensor([list(tokens)], dtype=torch.int32)
    forced_align = torchaudio_functional().forced_align
    path: list[int] = forced_align(log_posteriors[None].contiguous(), targets, blank=BLANK)[0][0].tolist()
    return path


@cache
def _has_extension() -> bool:
    try:
        torchaudio_functional().forced_align(torch.zeros(1, 1, 2), torch.ones(1, 1, dtype=torch.int32), blank=BLANK)
    except RuntimeError:  # torchaudio's answer where it was built without alignment
        return False
    return True
