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
is i's hash, so that `beam × beam` comparisons find every merge, whatever the number of tokens. (An hour of
speech at beam 100 makes about 10⁹ comparisons; a false merge by chance comes once in 10¹⁰ hours.)

There is no loop over utterances or prefixes: one frame costs a few dozen tensor operations on `(batch, beam,
token)`, and none of them waits for the device. Masses are float64 on every device: the state is small, so
that it costs little beside the top-k, and sums over thousands of frames keep the digits by which close
hypotheses differ.

Sources: Graves 2012, "Supervised sequence labelling with recurrent neural networks", section 7.5 (prefix
search); Hannun et al. 2014, arXiv:1408.2873, algorithm 1 (as a beam, with a language model and a length
bonus).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.data.tokens import BLANK
from asr.decode.blank_skip import keep_frames
from asr.decode.hypothesis import Hypothesis
from asr.decode.posteriors import frame_mask
from asr.decode.scorers import Scorer
from asr.decode.unfinished import finished_beginning
from asr.errors import ModelError, ShapeError

_IMPOSSIBLE = float("-inf")

# FNV-1a (Fowler, Noll, Vo) over token ids: hash ← (hash XOR token) · prime, modulo 2⁶⁴.
_EMPTY_HASH = 0xCBF29CE484222325 - 2**64  # the offset basis as a signed integer
_HASH_PRIME = 0x100000001B3
_NO_HASH = 0  # the empty prefix has no parent


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
    length: Tensor  # int64 tokens
    lm: Tensor  # float64, the scorers' weighted sum so far

    def mass(self) -> Tensor:
        """Return the log-probability that the frames so far collapse to the prefix."""
        return torch.logaddexp(self.ends_in_blank, self.ends_in_token)


class _Moves(NamedTuple):
    """What each prefix can become in one frame.

    A move is one integer, `slot · token_count + token`: the prefix in `slot` extended by `token`, or left as
    it is if the token is BLANK. Column BLANK of a `(batch, beam, token)` tensor is therefore the stays'.
    """

    in_blank: Tensor  # (batch, beam) float64 log-mass of stays that ends in blank; extensions have none
    in_token: Tensor  # (batch, beam, token) float64 log-mass of every move that ends in a token
    route: Tensor  # (batch, beam) int64, the move by which most of a staying prefix's mass comes


@torch.inference_mode()
def beam_search(
    log_posteriors: Tensor,
    lengths: Tensor,
    *,
    beam_size: int,
    scorers: Sequence[WeightedScorer] = (),
    insertion_bonus: float = 0.0,
    blank_skip: float = 1.0,
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

    Returns:
        At most `beam_size` hypotheses an utterance; scores are natural logs. Where the scorers let none of the
        beam's prefixes be a sentence, it is the one of `unfinished.py`.

    Raises:
        ShapeError: a length exceeds the number of frames, the tensors do not fit, the beam is empty, or `blank_skip`
            is not above 0.
        ModelError: no token sequence of an utterance has a probability, as where log-posteriors are NaN.
    """
    if beam_size < 1:
        raise ShapeError(f"a beam keeps at least one prefix, not {beam_size}")
    if not 0 < blank_skip <= 1:
        raise ShapeError(f"blank_skip is a posterior above 0, at most 1, not {blank_skip}")
    kept = keep_frames(log_posteriors, frame_mask(log_posteriors, lengths), blank_skip)
    batch, _, token_count = log_posteriors.shape
    device = log_posteriors.device

    # Past an utterance's end comes a certain blank: it leaves every prefix, mass and rank as they are.
    certain_blank = torch.full((token_count,), _IMPOSSIBLE, dtype=torch.float64, device=device)
    certain_blank[BLANK] = 0.0
    first_row = beam_size * torch.arange(batch, device=device)[:, None]
    no_scores = torch.zeros(batch, beam_size, token_count, dtype=torch.float64, device=device)

    scorers = [weighted for weighted in scorers if weighted.weight != 0]
    states = _start(scorers, batch, beam_size, device)
    beam = _root(batch, beam_size, device)
    backpointers: list[Tensor] = []
    skips, log_blank = kept.skips.unbind(1), kept.log_blank.unbind(1)
    for place, (frame, is_valid) in enumerate(zip(kept.log_posteriors.unbind(1), kept.valid.unbind(1), strict=True)):
        if blank_skip < 1:
            beam = _skip(beam, skips[place], log_blank[place])
        moves = _moves(beam, torch.where(is_valid[:, None], frame.double(), certain_blank))
        beam, chosen, came_by = _select(beam, moves, _score(scorers, states, no_scores), insertion_bonus)
        rows, tokens = first_row + chosen // token_count, chosen % token_count
        states = [
            weighted.scorer.advance(state, rows.flatten(), tokens.flatten())
            for weighted, state in zip(scorers, states, strict=True)
        ]
        backpointers.append(came_by)

    acoustic = _skip(beam, skips[-1], log_blank[-1]).mass()
    lm = beam.lm + _score(scorers, states, no_scores)[:, :, BLANK]
    score = acoustic + lm + insertion_bonus * beam.length.double()
    best_first = score.argsort(dim=1, descending=True, stable=True)
    paths = _trace(backpointers, best_first, token_count).cpu().numpy()
    all_scores = torch.stack([scores.gather(1, best_first) for scores in (score, acoustic, lm)], dim=2).tolist()
    result = []
    for utterance, (path, frame_numbers) in enumerate(zip(paths, kept.number.cpu().numpy(), strict=True)):
        prefixes = _prefixes(path, frame_numbers, all_scores[utterance])
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
    ends_in_blank = torch.full(shape, _IMPOSSIBLE, dtype=torch.float64, device=device)
    ends_in_blank[:, 0] = 0.0
    return _Beam(
        ends_in_blank=ends_in_blank,
        ends_in_token=torch.full_like(ends_in_blank, _IMPOSSIBLE),
        last=torch.full(shape, BLANK, device=device),
        hash=torch.full(shape, _EMPTY_HASH, device=device),
        parent_hash=torch.full(shape, _NO_HASH, device=device),
        length=torch.zeros(shape, dtype=torch.int64, device=device),
        lm=torch.zeros_like(ends_in_blank),
    )


def _skip(beam: _Beam, skips: Tensor, log_blank: Tensor) -> _Beam:
    """Return the beam after blanks of `(batch,)` log-probability, in utterances with `(batch,)` such frames."""
    skips = skips[:, None]
    return beam._replace(
        ends_in_blank=torch.where(skips, beam.mass() + log_blank[:, None], beam.ends_in_blank),
        ends_in_token=beam.ends_in_token.masked_fill(skips, _IMPOSSIBLE),
    )


def _moves(beam: _Beam, frame: Tensor) -> _Moves:
    """Return the log-mass of every move through a frame of `(batch, token)` log-posteriors, merges done."""
    size, token_count = beam.last.shape[1], frame.shape[1]
    mass = beam.mass()
    repeat = frame.gather(1, beam.last)  # (batch, beam): the prefix's last token again

    in_blank = mass + frame[:, BLANK, None]
    repeated = beam.ends_in_token + repeat
    in_token = mass[:, :, None] + frame[:, None, :]
    in_token.scatter_(2, beam.last[:, :, None], (beam.ends_in_blank + repeat)[:, :, None])
    in_token[:, :, BLANK] = _IMPOSSIBLE  # filled with the stays below

    # Where prefix j's parent is in the beam as well, the parent's extension by j's last token arrives at j.
    is_parent = beam.parent_hash[:, :, None] == beam.hash[:, None, :]  # (batch, j, parent)
    in_use = mass > _IMPOSSIBLE
    is_parent &= in_use[:, :, None] & in_use[:, None, :]
    has_parent, parent = is_parent.max(dim=2)  # a prefix stands in the beam once, so has one parent at most
    # Move 0 is impossible so far: as the arrival of prefixes without a parent it adds nothing.
    arrival = torch.where(has_parent, parent * token_count + beam.last, 0)
    flat = in_token.view(-1, size * token_count)
    arriving = flat.gather(1, arrival)
    flat.scatter_(1, arrival, _IMPOSSIBLE)

    stay = torch.arange(size, device=frame.device) * token_count
    route = torch.where(arriving > torch.logaddexp(in_blank, repeated), arrival, stay)
    in_token[:, :, BLANK] = torch.logaddexp(repeated, arriving)
    return _Moves(in_blank, in_token, route)


def _select(beam: _Beam, moves: _Moves, language: Tensor, insertion_bonus: float) -> tuple[_Beam, Tensor, Tensor]:
    """Make the best moves.

    Args:
        beam: the prefixes before the frame.
        moves: what they can become.
        language: `(batch, beam, token)` float64, the scorers' weighted log-probabilities of the next token.
        insertion_bonus: for each token.

    Returns:
        The prefixes after the frame; for each `(batch, beam)` the move that was made, and the move by which
        most of its mass came: where paths merged, these differ.
    """
    size, token_count = language.shape[1:]
    lm = beam.lm[:, :, None] + language
    lm[:, :, BLANK] = beam.lm
    mass = moves.in_token.clone()
    mass[:, :, BLANK] = torch.logaddexp(moves.in_blank, moves.in_token[:, :, BLANK])
    rank = mass + lm + insertion_bonus * beam.length.double()[:, :, None]
    rank[:, :, BLANK + 1 :] += insertion_bonus
    chosen = rank.flatten(1).topk(size, dim=1).indices

    slot, token = chosen // token_count, chosen % token_count
    stays = token == BLANK
    hash_before = beam.hash.gather(1, slot)
    after = _Beam(
        ends_in_blank=torch.where(stays, moves.in_blank.gather(1, slot), _IMPOSSIBLE),
        ends_in_token=moves.in_token.flatten(1).gather(1, chosen),
        last=torch.where(stays, beam.last.gather(1, slot), token),
        hash=torch.where(stays, hash_before, (hash_before ^ token) * _HASH_PRIME),
        parent_hash=torch.where(stays, beam.parent_hash.gather(1, slot), hash_before),
        length=beam.length.gather(1, slot) + ~stays,
        lm=lm.flatten(1).gather(1, chosen),
    )
    return after, chosen, torch.where(stays, moves.route.gather(1, slot), chosen)


def _start(scorers: Sequence[WeightedScorer], batch: int, beam_size: int, device: torch.device) -> list[Any]:
    """Return each scorer's state of `batch · beam` rows."""
    parents = torch.arange(batch, device=device).repeat_interleave(beam_size)
    unchanged = torch.full_like(parents, BLANK)
    return [weighted.scorer.advance(weighted.scorer.start(batch, device), parents, unchanged) for weighted in scorers]


def _score(scorers: Sequence[WeightedScorer], states: Sequence[Any], no_scores: Tensor) -> Tensor:
    """Return `(batch, beam, token)` float64, the scorers' weighted sum; `no_scores`, zeros, is that of none."""
    total = no_scores
    for (scorer, weight), state in zip(scorers, states, strict=True):
        total = total + weight * scorer.score(state).view(no_scores.shape)
    return total


def _trace(backpointers: Sequence[Tensor], slots: Tensor, token_count: int) -> Tensor:
    """Follow the backpointers from the last frame's `slots (batch, beam)` to the first frame.

    Returns:
        `(batch, beam, frame)` int64: the token that each prefix gained at each frame, BLANK where none.
    """
    tokens = []
    for came_by in reversed(backpointers):
        move = came_by.gather(1, slots)
        tokens.append(move % token_count)
        slots = move // token_count
    return torch.stack(tokens[::-1], dim=2) if tokens else slots.new_zeros((*slots.shape, 0))


def _prefixes(
    paths: np.ndarray, frame_numbers: np.ndarray, scores: Sequence[tuple[float, float, float]]
) -> list[Hypothesis]:
    """Return an utterance's prefixes that have a mass, from `(beam, frame)` paths, in their order."""
    prefixes = []
    for path, (score, acoustic_score, lm_score) in zip(paths, scores, strict=True):
        if acoustic_score > _IMPOSSIBLE:  # else the slot is not in use
            places = np.flatnonzero(path)
            tokens, frames = tuple(path[places].tolist()), tuple(frame_numbers[places].tolist())
            prefixes.append(Hypothesis(tokens, score, acoustic_score, lm_score, frames))
    return prefixes
