"""Log-posteriors and the words of a text that may be wrong → the frames of each word, or that it is not there.

Forced alignment (`align.py`) makes every word fit somewhere, so one word that was not said pushes its neighbours away.
Here the path may leave words out, and it may leave sound unexplained between two words. Both have a price, so that a
word is left out only where it and the sound fit badly.

A path goes through the states gap, token, blank, token, …, gap, token, …, gap: those of CTC, with a gap in place of
the blanks between words. A gap takes blanks and spaces. Beside each gap is a state for sound that is not written: to
enter it costs `_ENTRY_NATS`, and each of its frames costs at most `_UNEXPLAINED_NATS`. The entry keeps together what
was said together, where a word might as well be one that was said later. From gap to gap a path may jump over words,
each for `_LEFT_OUT_NATS` a token. All scores are relative to the best token of each frame, so the greedy path costs
nothing.

Sources: Graves et al. 2006, "Connectionist temporal classification", section 4.1 (the states); Kürzinger et al. 2020,
arXiv:2007.09127 (long recordings); Pratap et al. 2023, arXiv:2305.13516, section 3.1.4 (a token for what is not
written).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from asr.text.tokens import BLANK
from asr.transcript.words import TokenSpan

Floats = NDArray[np.float32]

_ENTRY_NATS = 4.0
_UNEXPLAINED_NATS = 4.0
_LEFT_OUT_NATS = 4.0
_CHUNK_CELLS = 1 << 22
# A way back is kept for each frame and state.
MOST_CELLS = 40_000_000


@dataclass(frozen=True)
class Placed:
    """Where a word was found: its tokens' frames, and what its frames cost in comparison with the best tokens.

    Attributes:
        word: its number.
        spans: of its tokens.
        loss: in nats, summed from its first token to its last one.
    """

    word: int
    spans: tuple[TokenSpan, ...]
    loss: float

    @property
    def start(self) -> int:
        """Its first frame."""
        return self.spans[0].start

    @property
    def end(self) -> int:
        """The frame after its last one."""
        return self.spans[-1].end


def states_of(words: Sequence[Sequence[int]]) -> int:
    """Return how many states the words have; `place_words` wants at most `MOST_CELLS` states and frames, multiplied."""
    return 1 + 2 * sum(map(len, words))


def place_words(
    log_posteriors: Floats, words: Sequence[Sequence[int]], silent: Sequence[int], breaks: Sequence[int] = ()
) -> list[Placed]:
    """Return the words that are there, in order.

    Args:
        log_posteriors: `(frame, token)`, natural log.
        words: the tokens of each, without spaces; at least one a word.
        silent: tokens that are no sound: blank, and the space.
        breaks: frames at which the recording goes on after a pause, ascending; no word reaches over one.
    """
    if len(log_posteriors) == 0 or not words:
        return []
    graph = _Graph(words)
    return _placed(_best_path(log_posteriors, graph, silent, frozenset(breaks)), log_posteriors, graph)


class _Graph:
    """The states of some words: the token of each, the gaps, and what it costs to leave words out."""

    def __init__(self, words: Sequence[Sequence[int]]) -> None:
        lengths = np.array([len(word) for word in words])
        self.gaps = np.concatenate([[0], np.cumsum(2 * lengths)])
        self.tokens = np.full(self.gaps[-1] + 1, BLANK)
        self.tokens[1::2] = [token for word in words for token in word]
        self.word_of = np.repeat(np.arange(len(words) + 1), [*(2 * lengths), 1])  # of a gap: the word after it
        self.leaps = np.zeros(len(self.tokens), bool)
        self.leaps[3::2] = self.tokens[3::2] != self.tokens[1:-2:2]
        self.left_out = np.concatenate([[0.0], np.cumsum(_LEFT_OUT_NATS * lengths)])  # all words before a gap

    def jumped(self, gap_scores: Floats) -> tuple[Floats, NDArray[np.int32]]:
        """Return the scores of gaps `(gap,)` after the best jumps, and from which gap each one jumps, `(gap,)`."""
        level = gap_scores + self.left_out
        best = np.maximum.accumulate(level)
        source = np.maximum.accumulate(np.where(level >= best, np.arange(len(level)), 0))
        return best - self.left_out, source.astype(np.int32)


@dataclass(frozen=True)
class _Ways:
    """How the best path came to each state: for each frame, see `_best_path`."""

    steps: NDArray[np.int8]  # (frame, state), by how many states it moved on
    sources: NDArray[np.int32]  # (frame, gap), from which gap it jumped
    from_sound: NDArray[np.bool_]  # (frame, gap), whether it came from the sound beside the gap
    entries: NDArray[np.int8]  # (frame, gap), to the sound: 0 from itself, 1 from the gap, 2 from the token before it
    ended: dict[int, NDArray[np.bool_]]  # at each break, (gap,), whether it was reached from the token before it


def _best_path(
    log_posteriors: Floats, graph: _Graph, silent: Sequence[int], breaks: frozenset[int]
) -> NDArray[np.intp]:
    """Return the state of each frame on the best path; sound that is not written is in a gap."""
    frames, states, gaps = len(log_posteriors), len(graph.tokens), graph.gaps
    shape = (frames, len(gaps))
    ways = _Ways(
        np.zeros((frames, states), np.int8),
        np.zeros(shape, np.int32),
        np.zeros(shape, bool),
        np.zeros(shape, np.int8),
        {},
    )
    score = np.full(states, -np.inf)
    score[gaps] = -graph.left_out
    sound = np.full(len(gaps), -np.inf)
    no_leap = np.where(graph.leaps[2:], 0.0, -np.inf)
    rows = max(1, _CHUNK_CELLS // states)
    for begin in range(0, frames, rows):
        losses, of_silence = _losses(log_posteriors[begin : begin + rows], graph, silent)
        for frame, (loss, silence) in enumerate(zip(losses, of_silence, strict=True), begin):
            if frame in breaks:
                score, ways.ended[frame] = _words_ended(score, gaps)
            ended, comes = _words_ended(score, gaps)
            enter = ended[gaps] - _ENTRY_NATS
            ways.entries[frame] = np.where(enter > sound, 1 + comes, 0)
            sound = np.maximum(enter, sound) + max(silence, -_UNEXPLAINED_NATS)
            score = _moved_on(score, no_leap, ways.steps[frame]) + loss
            ways.from_sound[frame] = sound > score[gaps]
            score[gaps], ways.sources[frame] = graph.jumped(np.maximum(sound, score[gaps]))
    return _traced(_words_ended(score, gaps), ways, graph)


def _moved_on(score: NDArray[np.floating], no_leap: Floats, step: NDArray[np.int8]) -> NDArray[np.floating]:
    """Return the best score with which a path comes to each state; note by how many states it moved."""
    new: NDArray[np.floating] = score.copy()
    moves = score[:-1] > new[1:]
    new[1:][moves] = score[:-1][moves]
    step[1:][moves] = 1
    leap = score[:-2] + no_leap
    moves = leap > new[2:]
    new[2:][moves] = leap[moves]
    step[2:][moves] = 2
    return new


def _losses(
    log_posteriors: Floats, graph: _Graph, silent: Sequence[int]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return what each state gives away in each frame, `(frame, state)`, and what silence does, `(frame,)`; ≤ 0."""
    below = log_posteriors - log_posteriors.max(axis=1, keepdims=True)
    losses: NDArray[np.floating] = below[:, graph.tokens]
    of_silence: NDArray[np.floating] = below[:, list(silent)].max(axis=1)
    losses[:, graph.gaps] = of_silence[:, None]
    return losses, of_silence


def _words_ended(score: NDArray[np.floating], gaps: NDArray[np.intp]) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Return the scores of the gaps alone, where words have ended, and which of them are better than the gap itself."""
    only = np.full(len(score), -np.inf)
    only[gaps] = score[gaps]
    comes = np.zeros(len(gaps), bool)
    comes[1:] = score[gaps[1:] - 1] > score[gaps[1:]]
    only[gaps[comes]] = score[gaps[comes] - 1]
    return only, comes


def _traced(end: tuple[NDArray[np.floating], NDArray[np.bool_]], ways: _Ways, graph: _Graph) -> NDArray[np.intp]:
    """Return the states from the last frame back to the first."""
    score, comes = end
    gap_of = {int(state): gap for gap, state in enumerate(graph.gaps)}
    _, source = graph.jumped(score[graph.gaps])
    gap = int(source[-1])
    state = int(graph.gaps[gap]) - int(comes[gap])
    path = np.zeros(len(ways.steps), np.intp)
    in_sound = False
    for frame in range(len(path) - 1, -1, -1):
        if state in gap_of and not in_sound:
            gap = int(ways.sources[frame, gap_of[state]])
            state, in_sound = int(graph.gaps[gap]), bool(ways.from_sound[frame, gap])
        path[frame] = state
        if in_sound:
            entry = int(ways.entries[frame, gap_of[state]])
            in_sound = entry == 0
            state -= entry == 2
        else:
            state -= int(ways.steps[frame, state])
        if frame in ways.ended and not in_sound and state in gap_of and ways.ended[frame][gap_of[state]]:
            state -= 1
    return path


def _placed(path: NDArray[np.intp], log_posteriors: Floats, graph: _Graph) -> list[Placed]:
    tokens, frames = graph.tokens[path], np.arange(len(path))
    losses = log_posteriors.max(axis=1) - log_posteriors[frames, tokens]
    edges = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    spans: dict[int, list[TokenSpan]] = {}
    for start, end in pairwise(edges):
        state = int(path[start])
        if state % 2:
            token = int(tokens[start])
            best = float(np.exp(log_posteriors[start:end, token].max()))
            spans.setdefault(int(graph.word_of[state]), []).append(TokenSpan(token, start, end, min(best, 1.0)))
    return [
        Placed(word, tuple(found), float(losses[found[0].start : found[-1].end].sum())) for word, found in spans.items()
    ]
