"""Forced alignment: log-posteriors and the tokens of a given text → the frames of each token.

Of all CTC paths that spell the tokens, the most probable one (Viterbi) says which frames belong to which token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from asr.decoding.frames import Floats, Ints
from asr.errors import ShapeError
from asr.text.tokens import BLANK, min_frames
from asr.transcript.words import TokenSpan


def align(log_posteriors: Floats, tokens: Sequence[int]) -> list[TokenSpan]:
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
    return spans_of(np.array(viterbi(log_posteriors, tokens)), log_posteriors)


def spans_of(path: Ints, log_posteriors: Floats) -> list[TokenSpan]:
    """Return the frames of each token of a path, and its best posterior there.

    Args:
        path: `(frame,)`, a token or BLANK for each frame.
        log_posteriors: `(frame, token)`, natural log.
    """
    starts = np.flatnonzero(np.diff(path, prepend=-1))
    best = np.maximum.reduceat(log_posteriors[np.arange(len(path)), path], starts) if len(path) else np.zeros(0)
    runs = zip(path[starts].tolist(), starts.tolist(), [*starts[1:].tolist(), len(path)], best.tolist(), strict=True)
    return [
        TokenSpan(token, start, end, min(math.exp(value), 1.0)) for token, start, end, value in runs if token != BLANK
    ]


def align_bytes(frames: int, tokens: int) -> int:
    """Return about how much memory `align` takes: it keeps a way back for each frame and state."""
    return frames * (2 * tokens + 1)


def viterbi(log_posteriors: Floats, tokens: Sequence[int]) -> list[int]:
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
    # A score has two places before it that no path is in, so that each state has one and two states before it.
    before = np.full(len(states) + 2, -np.inf)
    score, by_one, by_two = before[2:], before[1:-1], before[:-2]
    no_leap = np.full(len(states), -np.inf)
    no_leap[3::2][states[3::2] != states[1:-2:2]] = 0.0
    score[:2] = log_posteriors[0, states[:2]]
    steps = np.zeros((len(log_posteriors), len(states)), np.int8)  # by how many states the path moved on
    for step, frame in zip(steps[1:], log_posteriors[1:], strict=True):
        leap = by_two + no_leap
        best = np.maximum(score, by_one)
        np.greater(by_one, score, out=step, casting="unsafe")
        step[leap > best] = 2
        np.maximum(best, leap, out=best)
        np.add(best, frame.take(states), out=score)
    state = len(states) - (1 if score[-1] >= score[-2] else 2)
    path = []
    for step in steps[::-1]:
        path.append(int(states[state]))
        state -= int(step[state])
    return path[::-1]
