"""The prefixes of a beam search: through one frame, and from the last frame back to their tokens. See `beam.py`.

Shapes: `batch` utterances, `beam` prefixes of each, a `column` for each token that may extend a prefix in this frame.
Column 0 is the blank's: there the prefix stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.text.tokens import BLANK

IMPOSSIBLE = float("-inf")
_LN_2 = math.log(2)

# FNV-1a (Fowler, Noll, Vo) over token ids: hash ← (hash XOR token) · prime, modulo 2⁶⁴. The prime is odd, so it has an
# inverse, and the last token can be removed again: the parent's hash is (hash · inverse) XOR token.
_EMPTY_HASH = 0xCBF29CE484222325 - 2**64  # the offset basis as a signed integer
_HASH_PRIME = 0x100000001B3
_HASH_INVERSE = pow(_HASH_PRIME, -1, 2**64) - 2**64  # as a signed integer
_UNUSED_HASH = 1  # of slots not in use; a prefix or a parent has it only by chance, like any other number


class Prefixes(NamedTuple):
    """The prefixes that are kept, best first. Tensors are `(batch, beam)`; a slot not in use has no mass (−inf)."""

    ends_in_blank: Tensor  # float64 log-mass
    ends_in_token: Tensor  # float64 log-mass
    mass: Tensor  # float64, the sum of both: the log-probability that the frames so far collapse to the prefix
    last: Tensor  # int64, the last token; BLANK if the prefix is empty
    hash: Tensor  # int64, of its tokens
    gain: Tensor  # float64, finite: the scorers' weighted sum and the insertion bonuses; mass + gain is the rank

    def first(self, utterances: int) -> Prefixes:
        """Return the prefixes of the first utterances."""
        return Prefixes(*(part[:utterances] for part in self))

    def after_blanks(self, skips: Tensor, log_blank: Tensor) -> Prefixes:
        """Return the prefixes after frames that are taken as blank.

        Args:
            skips: `(batch,)` bool, whether an utterance has such frames here.
            log_blank: `(batch,)` float64, the log-probability that they are blank.
        """
        skips, in_blank = skips[:, None], self.mass + log_blank[:, None]
        return self._replace(
            mass=torch.where(skips, in_blank, self.mass),
            ends_in_blank=torch.where(skips, in_blank, self.ends_in_blank),
            ends_in_token=self.ends_in_token.masked_fill(skips, IMPOSSIBLE),
        )


class Frame(NamedTuple):
    """What the network and the language models say about a frame."""

    log_posteriors: Tensor  # (batch, token)
    tokens: Tensor | None  # (batch, column) int64, BLANK and the tokens that may extend prefixes; None: column = token
    extending: Tensor  # (batch, column) float64, their log-posteriors; −inf in column 0 and in columns not in use
    gains: Tensor  # (batch, beam, column) float64, what an extension adds to the prefix's gain; column 0 is not read


class Passage(NamedTuple):
    """How the prefixes came through a frame. Tensors are `(batch, beam)` int64."""

    slot: Tensor  # of the prefix before the frame that it was, or was extended from
    token: Tensor  # by which it was extended; BLANK if it stayed
    came_by: Tensor  # the move that brought most of its mass; it may be another one where paths merged


def root(batch: int, beam_size: int, device: torch.device) -> Prefixes:
    """Return the beam before the first frame: the empty prefix with probability 1; all other slots are not in use."""
    shape = (batch, beam_size)
    impossible = torch.full(shape, IMPOSSIBLE, dtype=torch.float64, device=device)
    first = torch.arange(beam_size, device=device) == 0
    return Prefixes(
        ends_in_blank=impossible.masked_fill(first, 0.0),
        ends_in_token=impossible,
        mass=impossible.masked_fill(first, 0.0),
        last=torch.full(shape, BLANK, device=device),
        hash=torch.full(shape, _UNUSED_HASH, device=device).masked_fill_(first, _EMPTY_HASH),
        gain=torch.zeros_like(impossible),
    )


def through_frame(beam: Prefixes, frame: Frame) -> tuple[Prefixes, Passage]:
    """Return the best prefixes after a frame, and how they became what they are.

    A move is one integer, `slot · columns + column`: the prefix in `slot` is extended by the column's token, or stays
    as it is if the column is 0. `rank (batch, beam, column)` is the rank of each move's result: log-mass + gain.
    """
    batch, size = beam.last.shape
    columns = frame.extending.shape[1]
    rank = (beam.mass + beam.gain)[:, :, None] + frame.extending[:, None, :]
    rank += frame.gains
    # By its own last token, only the paths that end in a blank extend a prefix: a share of its mass. The share is not a
    # number if the slot is not in use.
    column = _columns(beam.last, frame)
    share = (beam.ends_in_blank - beam.mass).nan_to_num_(nan=IMPOSSIBLE, neginf=IMPOSSIBLE)
    rank.scatter_add_(2, column[:, :, None], share[:, :, None])

    # If the beam holds prefix j's parent too, the parent's extension by j's last token arrives at j, and its mass
    # belongs to j. (That mass is the rank minus j's gain, because the gain does not depend on the path.) Column 0 is
    # still impossible here, so move 0 brings nothing to prefixes without a parent.
    has_parent, parent = _parents(beam)
    moves = rank.view(batch, size * columns)
    arrival = torch.where(has_parent, parent * columns + column, 0)
    arriving = moves.gather(1, arrival) - beam.gain
    moves.scatter_(1, arrival, IMPOSSIBLE)

    in_blank = beam.mass + frame.log_posteriors[:, BLANK, None]
    in_token = torch.logaddexp(beam.ends_in_token + frame.log_posteriors.gather(1, beam.last), arriving)
    stay = torch.logaddexp(in_blank, in_token)
    rank[:, :, 0] = stay + beam.gain
    from_parent = arriving > stay - _LN_2  # more than half of the mass
    stays_alone = torch.arange(0, size * columns, columns, device=rank.device)
    stay_came_by = torch.where(from_parent, arrival, stays_alone)

    best, move = moves.topk(size, dim=1)
    slot = move // columns
    token = move % columns
    if frame.tokens is not None:
        token = frame.tokens.gather(1, token)
    stays, unused = token == BLANK, best == IMPOSSIBLE
    # The gain of slots not in use stays finite, so that their mass is −inf like their rank.
    gained = frame.gains.flatten(1).gather(1, move).masked_fill_(stays | unused, 0.0)
    gain = beam.gain.gather(1, slot) + gained
    mass, hash_before = best - gain, beam.hash.gather(1, slot)
    after = Prefixes(
        ends_in_blank=torch.where(stays, in_blank.gather(1, slot), IMPOSSIBLE),
        ends_in_token=torch.where(stays, in_token.gather(1, slot), mass),
        mass=mass,
        last=torch.where(stays, beam.last.gather(1, slot), token),
        hash=torch.where(stays, hash_before, (hash_before ^ token) * _HASH_PRIME).masked_fill_(unused, _UNUSED_HASH),
        gain=gain,
    )
    came_by = torch.where(stays, stay_came_by.gather(1, slot), move)
    return after, Passage(slot, token, came_by)


def _columns(tokens: Tensor, frame: Frame) -> Tensor:
    """Return the columns of `(batch, beam)` tokens; 0 for tokens that may not extend prefixes in this frame."""
    if frame.tokens is None:
        return tokens
    numbers = torch.arange(frame.tokens.shape[1], device=tokens.device).expand_as(frame.tokens)
    of_token = torch.zeros_like(frame.log_posteriors, dtype=torch.int64).scatter_(1, frame.tokens, numbers)
    return of_token.gather(1, tokens)


def _parents(beam: Prefixes) -> tuple[Tensor, Tensor]:
    """Return whether the beam holds each prefix's parent, and in which slot, both `(batch, beam)`."""
    ascending, slots = beam.hash.sort(dim=1)
    parent_hash = (beam.hash * _HASH_INVERSE) ^ beam.last
    place = torch.searchsorted(ascending, parent_hash).clamp_(max=ascending.shape[1] - 1)
    return ascending.gather(1, place) == parent_hash, slots.gather(1, place)


# A prefix's tokens, and the frame in which each was emitted.
Traced = tuple[tuple[int, ...], tuple[int, ...]]


class Moves(NamedTuple):
    """How each slot of a beam came through a frame."""

    move: Tensor  # (batch, beam) int64: slot · columns + column; the slot is of the prefix before the frame
    columns: int
    tokens: Tensor | None  # (batch, column) int64, the columns' tokens, BLANK for none; None: column = token


def trace(moves: Sequence[Moves], slots: Tensor, frame_numbers: Tensor) -> list[list[Traced]]:
    """Return the tokens and frames of each utterance's prefixes, in the order of `slots`.

    Args:
        moves: of each frame, for the utterances that had not ended; they are the first of the batch.
        slots: `(batch, beam)` int64, in the beam after each utterance's last frame.
        frame_numbers: `(batch, frame)` int64, the numbers of the frames in the result.
    """
    batch, beam = slots.shape
    slots = slots.clone()
    paths = torch.zeros(len(moves), batch, beam, dtype=torch.int32, device=slots.device)
    for place in reversed(range(len(moves))):
        move, columns, tokens = moves[place]
        running = len(move)
        made = move.gather(1, slots[:running])
        slots[:running] = made // columns
        column = made % columns
        paths[place, :running] = column if tokens is None else tokens.gather(1, column)
    by_prefix = paths.flatten(1).T.contiguous().cpu().numpy()  # (batch · beam, frame)
    rows, places = by_prefix.nonzero()
    tokens = by_prefix[rows, places].tolist()
    frames = frame_numbers.cpu().numpy()[rows // beam, places].tolist()
    ends = np.bincount(rows, minlength=batch * beam).cumsum().tolist()
    prefixes = [(tuple(tokens[start:end]), tuple(frames[start:end])) for start, end in pairwise([0, *ends])]
    return [prefixes[first : first + beam] for first in range(0, batch * beam, beam)]
