"""The prefixes of a beam search: through one frame, and along the back-pointers to their tokens. See `beam.py`.

Shapes: `batch` utterances, `beam` prefixes of each, a `column` for each token that may extend a prefix in this frame.
Column 0 is the blank's: there the prefix stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from asr.decoding.frames import Bools, Float64s, Floats, Ints, greatest
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
    """The prefixes that are kept, best first. Arrays are `(batch, beam)`; a slot not in use has no mass (−inf)."""

    ends_in_blank: Float64s  # log-mass
    ends_in_token: Float64s  # log-mass
    mass: Float64s  # the sum of both: the log-probability that the frames so far collapse to the prefix
    last: Ints  # the last token; BLANK if the prefix is empty
    hash: Ints  # of its tokens
    gain: Float64s  # finite: the scorers' weighted sum and the insertion bonuses; mass + gain is the rank

    def first(self, utterances: int) -> Prefixes:
        """Return the prefixes of the first utterances."""
        return Prefixes(
            self.ends_in_blank[:utterances],
            self.ends_in_token[:utterances],
            self.mass[:utterances],
            self.last[:utterances],
            self.hash[:utterances],
            self.gain[:utterances],
        )

    def after_blanks(self, skips: Bools, log_blank: Float64s) -> Prefixes:
        """Return the prefixes after frames that are taken as blank.

        Args:
            skips: `(batch,)`, whether an utterance has such frames here.
            log_blank: `(batch,)`, the log-probability that they are blank.
        """
        skips, in_blank = skips[:, None], self.mass + log_blank[:, None]
        return self._replace(
            mass=np.where(skips, in_blank, self.mass),
            ends_in_blank=np.where(skips, in_blank, self.ends_in_blank),
            ends_in_token=np.where(skips, IMPOSSIBLE, self.ends_in_token),
        )


class Frame(NamedTuple):
    """What the network and the language models say about a frame."""

    log_posteriors: Floats  # (batch, token)
    tokens: Ints | None  # (batch, column), BLANK and the tokens that may extend prefixes; None: column = token
    extending: Float64s  # (batch, column), their log-posteriors; −inf in column 0 and in columns not in use
    gains: Float64s  # (batch, beam, column), what an extension adds to the prefix's gain; column 0 is not read


class Step(NamedTuple):
    """How the prefixes came through a frame. Arrays are `(batch, beam)`."""

    slot: Ints  # of the prefix before the frame that it was, or was extended from
    token: Ints  # by which it was extended; BLANK if it stayed
    back_pointer: Ints  # the move that brought most of its mass; it may be another one where paths merged


def initial_beam(batch: int, beam_size: int) -> Prefixes:
    """Return the beam before the first frame: the empty prefix with probability 1; all other slots are not in use."""
    impossible = np.full((batch, beam_size), IMPOSSIBLE)
    certain, hashes = impossible.copy(), np.full(impossible.shape, _UNUSED_HASH)
    certain[:, 0], hashes[:, 0] = 0.0, _EMPTY_HASH
    return Prefixes(
        ends_in_blank=certain,
        ends_in_token=impossible,
        mass=certain,
        last=np.full(impossible.shape, BLANK),
        hash=hashes,
        gain=np.zeros_like(impossible),
    )


def through_frame(beam: Prefixes, frame: Frame) -> tuple[Prefixes, Step]:
    """Return the best prefixes after a frame, and how they became what they are.

    A move is one integer, `slot · columns + column`: the prefix in `slot` is extended by the column's token, or stays
    as it is if the column is 0. `rank (batch, beam, column)` is the rank of each move's result: log-mass + gain.
    """
    batch, size = beam.last.shape
    columns = frame.extending.shape[1]
    # The first place of each utterance, and of each prefix, in arrays that are read as flat ones.
    utterances = np.arange(batch)[:, None]
    stays_alone = np.arange(0, size * columns, columns)

    # 1. Each prefix is extended by the token of each column.
    rank = (beam.mass + beam.gain)[:, :, None] + frame.extending[:, None, :]
    rank += frame.gains
    # By its own last token, only the paths that end in a blank extend a prefix: a share of its mass. The share is not a
    # number if the slot is not in use.
    column = _columns(beam.last, frame)
    share = beam.ends_in_blank - beam.mass
    moves = rank.reshape(batch, size * columns)
    moves[utterances, stays_alone + column] += np.where(np.isnan(share), IMPOSSIBLE, share)

    # 2. Equal prefixes are merged. If the beam holds prefix j's parent too, the parent's extension by j's last token
    # arrives at j, and its mass belongs to j. (That mass is the rank minus j's gain, because the gain does not depend
    # on the path.) Column 0 is still impossible here, so move 0 brings nothing to prefixes without a parent.
    has_parent, parent = _parents(beam)
    arrival = np.where(has_parent, parent * columns + column, 0)
    arriving = moves[utterances, arrival] - beam.gain
    moves[utterances, arrival] = IMPOSSIBLE

    # 3. Each prefix stays as it is, in column 0.
    in_blank = beam.mass + frame.log_posteriors[:, BLANK, None]
    in_token = np.logaddexp(beam.ends_in_token + frame.log_posteriors[utterances, beam.last], arriving)
    stay = np.logaddexp(in_blank, in_token)
    rank[:, :, 0] = stay + beam.gain
    from_parent = arriving > stay - _LN_2  # more than half of the mass
    stay_back_pointer = np.where(from_parent, arrival, stays_alone)

    # 4. The best moves make the beam after the frame.
    move = greatest(moves, size)
    best = moves[utterances, move]
    slot = move // columns
    token = move - slot * columns
    stays, unused = token == 0, best == IMPOSSIBLE
    if frame.tokens is not None:
        token = frame.tokens[utterances, token]
    # The gain of slots not in use stays finite, so that their mass is −inf like their rank.
    gained = np.where(stays | unused, 0.0, frame.gains.reshape(batch, -1)[utterances, move])
    before = slot + utterances * size  # the same slots in flat arrays
    gain = beam.gain.take(before) + gained
    mass, hash_before = best - gain, beam.hash.take(before)
    hashes = np.where(stays, hash_before, (hash_before ^ token) * _HASH_PRIME)
    after = Prefixes(
        ends_in_blank=np.where(stays, in_blank.take(before), IMPOSSIBLE),
        ends_in_token=np.where(stays, in_token.take(before), mass),
        mass=mass,
        last=np.where(stays, beam.last.take(before), token),
        hash=np.where(unused, _UNUSED_HASH, hashes),
        gain=gain,
    )
    back_pointer = np.where(stays, stay_back_pointer.take(before), move)
    return after, Step(slot, token, back_pointer)


def _columns(tokens: Ints, frame: Frame) -> Ints:
    """Return the columns of `(batch, beam)` tokens; 0 for tokens that may not extend prefixes in this frame."""
    if frame.tokens is None:
        return tokens
    of_token = np.zeros(frame.log_posteriors.shape, np.int64)
    np.put_along_axis(of_token, frame.tokens, np.arange(frame.tokens.shape[1])[None, :], 1)
    of_token[:, BLANK] = 0
    return np.take_along_axis(of_token, tokens, 1)


def _parents(beam: Prefixes) -> tuple[Bools, Ints]:
    """Return whether the beam holds each prefix's parent, and in which slot, both `(batch, beam)`."""
    parent_hash = (beam.hash * _HASH_INVERSE) ^ beam.last
    equal = parent_hash[:, :, None] == beam.hash[:, None, :]
    return equal.any(axis=2), equal.argmax(axis=2)


# A prefix's tokens, and the frame in which each was emitted.
Traced = tuple[tuple[int, ...], tuple[int, ...]]


class BackPointers(NamedTuple):
    """How each slot of a beam came through a frame."""

    move: Ints  # (batch, beam): slot · columns + column; the slot is of the prefix before the frame
    columns: int
    tokens: Ints | None  # (batch, column), the columns' tokens, BLANK for none; None: column = token


def backtrace(back_pointers: Sequence[BackPointers], slots: Ints, frame_numbers: Ints) -> list[list[Traced]]:
    """Return the tokens and frames of each utterance's prefixes, in the order of `slots`.

    Args:
        back_pointers: of each frame, for the utterances that had not ended; they are the first of the batch.
        slots: `(batch, beam)`, in the beam after each utterance's last frame.
        frame_numbers: `(batch, frame)`, the numbers of the frames in the result.
    """
    batch, beam = slots.shape
    utterances = np.arange(batch)[:, None]
    slots = slots.copy()
    paths = np.zeros((len(back_pointers), batch, beam), np.int32)
    for place in reversed(range(len(back_pointers))):
        move, columns, tokens = back_pointers[place]
        running = utterances[: len(move)]
        made = move[running, slots[: len(move)]]
        slots[: len(move)] = made // columns
        column = made % columns
        paths[place, : len(move)] = column if tokens is None else tokens[running, column]
    by_prefix = np.ascontiguousarray(paths.reshape(len(back_pointers), batch * beam).T)  # (batch · beam, frame)
    rows, places = by_prefix.nonzero()
    emitted = by_prefix[rows, places].tolist()
    frames = frame_numbers[rows // beam, places].tolist()
    ends = np.bincount(rows, minlength=batch * beam).cumsum().tolist()
    prefixes = [(tuple(emitted[start:end]), tuple(frames[start:end])) for start, end in pairwise([0, *ends])]
    return [prefixes[first : first + beam] for first in range(0, batch * beam, beam)]
