"""CTC prefix beam search, batched: all utterances and all their prefixes go through each frame together.

The probability of a token sequence is the sum over all frame-by-frame paths that collapse to it. The search
therefore keeps *prefixes* (token sequences so far), not paths, and for each prefix two log-masses: of the
paths that end in a blank, and of those that end in its last token. They must be apart, since the last token
again is a repeat that collapses if no blank lies between, and a new token if one does. At each frame every
prefix can

    stay     by blank              both masses      → ends in blank
             by its last token     mass in token    → ends in token
    extend   by token c ≠ last     both masses      → a new prefix, which ends in token
             by its last token     mass in blank    → a new prefix, which ends in token

and the `beam_size` best of all stays and extensions are kept, ranked by

    log mass + Σ weight · log p_scorer(prefix) + insertion_bonus · length(prefix).

An extension may be a prefix that the beam already holds ("a" extended by "b" where "ab" is kept too). It is
the same token sequence, so its mass is added to that prefix and the extension itself struck out. Which prefix
is whose parent is told by 64-bit rolling hashes: prefix j is prefix i plus a token exactly if j's parent hash
is i's hash, so that looking every parent hash up among the hashes finds every merge, whatever the number of
tokens. (An hour of speech at beam 100 compares about 10⁹ pairs; a false merge by chance comes once in 10¹⁰
hours.)

There is no loop over utterances or prefixes: one frame costs some sixty tensor operations on `(batch, beam)`
and a few on `(batch, beam, column)`, a column being a token that may extend prefixes in this frame (see
`active_tokens.py`), and none of them waits for the device. Masses are float64 on every device: the state is
small, so that it costs little, and sums over thousands of frames keep the digits by which close hypotheses
differ. Dropping prefixes that are far below the best saves nothing: of the utterances of a batch, there is
always one in which all are close.

Sources: Graves 2012, "Supervised sequence labelling with recurrent neural networks", section 7.5 (prefix
search); Hannun et al. 2014, arXiv:1408.2873, algorithm 1 (as a beam, with a language model and a length
bonus).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from asr.data.tokens import BLANK
from asr.decode import fusion
from asr.decode.active_tokens import active_tokens
from asr.decode.backtrace import Step, trace
from asr.decode.blank_skip import keep_frames
from asr.decode.hypothesis import Hypothesis
from asr.decode.posteriors import frame_mask
from asr.decode.scorers import Scorer
from asr.decode.unfinished import finished_beginning
from asr.errors import ModelError, ShapeError

_IMPOSSIBLE = float("-inf")
_LN_2 = math.log(2)

# FNV-1a (Fowler, Noll, Vo) over token ids: hash ← (hash XOR token) · prime, modulo 2⁶⁴.
_EMPTY_HASH = 0xCBF29CE484222325 - 2**64  # the offset basis as a signed integer
_HASH_PRIME = 0x100000001B3
# No parent has the one, no prefix the other: slots not in use are never taken for a parent or a child.
_UNUSED_HASH = 1
_NO_PARENT = 0


class WeightedScorer(NamedTuple):
    """A language model and the weight of its log-probabilities."""

    scorer: Scorer
    weight: float


class _Beam(NamedTuple):
    """The prefixes kept, best first. Tensors are `(batch, beam)`; a slot not in use has no mass (−inf)."""

    ends_in_blank: Tensor  # float64 log-mass
    ends_in_token: Tensor  # float64 log-mass
    last: Tensor  # int64, the last token; BLANK if the prefix is empty
    hash: Tensor  # int64
    parent_hash: Tensor  # int64, of the prefix without its last token
    gain: Tensor  # float64, what ranks it beside its mass: the scorers' weighted sum and the insertion bonuses

    def mass(self) -> Tensor:
        """Return the log-probability that the frames so far collapse to the prefix."""
        return torch.logaddexp(self.ends_in_blank, self.ends_in_token)


class _Moves(NamedTuple):
    """What each prefix can become in one frame: itself, or itself and a token.

    A move is one integer, `slot · columns + column`: the prefix in `slot` extended by the column's token, or left as
    it is if the column is 0, the blank's.
    """

    mass: Tensor  # (batch, beam, column) float64 log-mass of what every move arrives at
    stay_in_blank: Tensor  # (batch, beam) float64, of that of a stay what ends in blank; extensions have none
    stay_in_token: Tensor  # (batch, beam) float64, and what ends in a token
    stay_came_by: Step  # by which most of it comes


@torch.inference_mode()
def beam_search(
    log_posteriors: Tensor,
    lengths: Tensor,
    *,
    beam_size: int,
    scorers: Sequence[WeightedScorer] = (),
    insertion_bonus: float = 0.0,
    blank_skip: float = 1.0,
    token_floor: float = 0.0,
) -> list[list[Hypothesis]]:
    """Return each utterance's most probable token sequences, best first.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank.
        lengths: `(batch,)` integer, valid frames of each utterance; the others change nothing.
        beam_size: prefixes kept per frame.
        scorers: language models; one of weight 0 is not asked.
        insertion_bonus: added to the score for each token, against the shortness that language models prefer.
        blank_skip: frames with a blank posterior above this are taken as blank without a search, see
            `blank_skip.py`; 1 searches all.
        token_floor: in each frame, only tokens with a posterior above this extend prefixes, see `active_tokens.py`;
            0 leaves out none.

    Returns:
        At most `beam_size` hypotheses an utterance; scores are natural logs. Where the scorers let none of the
        beam's prefixes be a sentence, it is the one of `unfinished.py`.

    Raises:
        ShapeError: a length exceeds the number of frames, the tensors do not fit, the beam is empty, `blank_skip`
            is not above 0, or `token_floor` is not below 1.
        ModelError: no token sequence of an utterance has a probability, as where log-posteriors are NaN.
    """
    if beam_size < 1:
        raise ShapeError(f"a beam keeps at least one prefix, not {beam_size}")
    if not 0 < blank_skip <= 1:
        raise ShapeError(f"blank_skip is a posterior above 0, at most 1, not {blank_skip}")
    if not 0 <= token_floor < 1:
        raise ShapeError(f"token_floor is a posterior from 0 to below 1, not {token_floor}")
    kept = keep_frames(log_posteriors, frame_mask(log_posteriors, lengths), blank_skip)
    batch, _, token_count = log_posteriors.shape
    device = log_posteriors.device

    # Past an utterance's end comes a certain blank: it leaves every prefix, mass and rank as they are.
    certain_blank = torch.full((token_count,), _IMPOSSIBLE, dtype=log_posteriors.dtype, device=device)
    certain_blank[BLANK] = 0.0
    frames = torch.where(kept.valid[:, :, None], kept.log_posteriors, certain_blank).unbind(1)
    active = active_tokens(kept.log_posteriors, kept.valid, token_floor)

    scorers = [weighted for weighted in scorers if weighted.weight != 0]
    states = fusion.start(scorers, batch, beam_size, device)
    beam = _root(batch, beam_size, device)
    steps: list[Step] = []
    skips, log_blank = kept.skips.unbind(1), kept.log_blank.unbind(1)
    for place, (frame, tokens, log_p) in enumerate(zip(frames, active.tokens, active.log_posteriors, strict=True)):
        if blank_skip < 1:
            beam = _skip(beam, skips[place], log_blank[place])
        gains = fusion.score(scorers, states, tokens, beam_size) + insertion_bonus
        beam, made, came_by = _select(beam, _moves(beam, frame, tokens, log_p), tokens, gains)
        states = fusion.advance(scorers, states, made.slot, made.token)
        steps.append(came_by)

    acoustic = _skip(beam, skips[-1], log_blank[-1]).mass()
    end_token = torch.full((batch, 1), BLANK, device=device)
    gain = beam.gain + fusion.score(scorers, states, end_token, beam_size).squeeze(2)
    score = acoustic + gain
    best_first = score.argsort(dim=1, descending=True, stable=True)
    all_scores = torch.stack([scores.gather(1, best_first) for scores in (score, acoustic, gain)], dim=2).tolist()
    result = []
    for utterance, traced in enumerate(trace(steps, best_first, kept.number)):
        prefixes = [
            Hypothesis(tokens, score, acoustic, gain - insertion_bonus * len(tokens) if scorers else 0.0, frames)
            for (tokens, frames), (score, acoustic, gain) in zip(traced, all_scores[utterance], strict=True)
            if acoustic > _IMPOSSIBLE  # else the slot is not in use
        ]
        hypotheses = [prefix for prefix in prefixes if prefix.score > _IMPOSSIBLE]
        if prefixes and not hypotheses:  # sorted stably by equal scores, they are still in the beam's order
            beginning = finished_beginning(prefixes[0], scorers, insertion_bonus, device)
            hypotheses = [] if beginning is None else [beginning]
        if not hypotheses:
            raise ModelError(f"utterance {utterance} of the batch: its log-posteriors are NaN or rule out all tokens")
        result.append(hypotheses)
    return result


def _root(batch: int, beam_size: int, device: torch.device) -> _Beam:
    """Return the beam before the first frame: the empty prefix with probability 1, and slots not in use."""
    shape = (batch, beam_size)
    impossible = torch.full(shape, _IMPOSSIBLE, dtype=torch.float64, device=device)
    first = torch.arange(beam_size, device=device) == 0
    return _Beam(
        ends_in_blank=impossible.masked_fill(first, 0.0),
        ends_in_token=impossible,
        last=torch.full(shape, BLANK, device=device),
        hash=torch.full(shape, _UNUSED_HASH, device=device).masked_fill_(first, _EMPTY_HASH),
        parent_hash=torch.full(shape, _NO_PARENT, device=device),
        gain=torch.zeros_like(impossible),
    )


def _skip(beam: _Beam, skips: Tensor, log_blank: Tensor) -> _Beam:
    """Return the beam after blanks of `(batch,)` log-probability, in utterances with `(batch,)` such frames."""
    skips = skips[:, None]
    return beam._replace(
        ends_in_blank=torch.where(skips, beam.mass() + log_blank[:, None], beam.ends_in_blank),
        ends_in_token=beam.ends_in_token.masked_fill(skips, _IMPOSSIBLE),
    )


def _moves(beam: _Beam, frame: Tensor, tokens: Tensor, log_p: Tensor) -> _Moves:
    """Return the log-mass of every move through a frame, merges done.

    Args:
        beam: the prefixes before the frame.
        frame: `(batch, token)` log-posteriors.
        tokens: `(batch, column)`, BLANK and the tokens that may extend prefixes.
        log_p: `(batch, column)` float64, those tokens' log-posteriors; −inf in column 0 and in those not in use.
    """
    size, columns = beam.last.shape[1], tokens.shape[1]
    mass = beam.mass()
    in_blank = mass + frame[:, BLANK, None]
    repeated = beam.ends_in_token + frame.gather(1, beam.last)

    # The column of each prefix's last token, 0 where that may extend none: its extension by it is an exception.
    numbers = torch.arange(columns, device=tokens.device).expand_as(tokens)
    column = torch.zeros_like(frame, dtype=torch.int64).scatter_(1, tokens, numbers).gather(1, beam.last)
    arrives_at = mass[:, :, None] + log_p[:, None, :]
    arrives_at.scatter_(2, column[:, :, None], (beam.ends_in_blank + log_p.gather(1, column))[:, :, None])

    # Where prefix j's parent is in the beam as well, the parent's extension by j's last token arrives at j.
    has_parent, parent = _parents(beam)
    # Column 0 is impossible so far: as the arrival of prefixes without a parent, move 0 adds nothing.
    arrival = torch.where(has_parent, parent * columns + column, 0)
    moves = arrives_at.view(-1, size * columns)
    arriving = moves.gather(1, arrival)
    moves.scatter_(1, arrival, _IMPOSSIBLE)

    in_token = torch.logaddexp(repeated, arriving)
    stay = torch.logaddexp(in_blank, in_token)
    arrives_at[:, :, 0] = stay
    from_parent = arriving > stay - _LN_2  # more than half of the mass
    itself = torch.arange(size, device=tokens.device)
    return _Moves(
        arrives_at, in_blank, in_token, Step(torch.where(from_parent, parent, itself), beam.last * from_parent)
    )


def _parents(beam: _Beam) -> tuple[Tensor, Tensor]:
    """Return whether the beam holds each prefix's parent, and in which slot, both `(batch, beam)`."""
    ascending, slots = beam.hash.sort(dim=1)
    place = torch.searchsorted(ascending, beam.parent_hash).clamp_(max=ascending.shape[1] - 1)
    return ascending.gather(1, place) == beam.parent_hash, slots.gather(1, place)


def _select(beam: _Beam, moves: _Moves, tokens: Tensor, gains: Tensor) -> tuple[_Beam, Step, Step]:
    """Make the best moves.

    Args:
        beam: the prefixes before the frame.
        moves: what they can become.
        tokens: `(batch, column)`.
        gains: `(batch, beam, column)` float64, what an extension adds to the prefix's gain.

    Returns:
        The prefixes after the frame; the step that was made to each, and the step by which most of its mass
        came: where paths merged, these differ.
    """
    size, columns = gains.shape[1:]
    gains[:, :, 0] = 0.0
    rank = moves.mass + gains
    rank += beam.gain[:, :, None]
    best = rank.flatten(1).topk(size, dim=1)
    unused, chosen = best.values == _IMPOSSIBLE, best.indices

    slot = chosen // columns
    token = tokens.gather(1, chosen - slot * columns)
    extended, stays = token != BLANK, token == BLANK
    hash_before = beam.hash.gather(1, slot)
    child_hash = (hash_before ^ token) * _HASH_PRIME
    after = _Beam(
        ends_in_blank=moves.stay_in_blank.gather(1, slot).masked_fill_(extended, _IMPOSSIBLE),
        ends_in_token=torch.where(stays, moves.stay_in_token.gather(1, slot), moves.mass.flatten(1).gather(1, chosen)),
        last=torch.where(stays, beam.last.gather(1, slot), token),
        hash=torch.where(stays, hash_before, child_hash).masked_fill_(unused, _UNUSED_HASH),
        parent_hash=torch.where(stays, beam.parent_hash.gather(1, slot), hash_before).masked_fill_(unused, _NO_PARENT),
        gain=beam.gain.gather(1, slot) + gains.flatten(1).gather(1, chosen),
    )
    came_by = Step(
        torch.where(stays, moves.stay_came_by.slot.gather(1, slot), slot),
        torch.where(stays, moves.stay_came_by.token.gather(1, slot), token),
    )
    return after, Step(slot, token), came_by
