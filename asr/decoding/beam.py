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
the same token sequence, so its mass is added to that prefix and the extension itself struck out: nothing is
lost or counted twice, which is why merging is exact. Which prefix is whose parent is told by 64-bit rolling
hashes. A prefix's hash yields its parent's, and prefix j is prefix i plus a token exactly if j's parent hash is
i's hash, so that looking every parent hash up among the hashes finds every merge, whatever the number of
tokens. (An hour of speech at beam 100 compares about 10⁹ pairs; a false merge by chance comes once in 10¹⁰
hours.)

There is no loop over utterances or prefixes: one frame costs some sixty tensor operations on `(batch, beam)`
and a few on `(batch, beam, column)`, a column being a token that may extend prefixes in this frame. None of
them waits for the device. Utterances are searched the longest first, and leave the batch when they end.
Masses are float64 on every device: the state is small, so that it costs little, and sums over thousands of
frames keep the digits by which close hypotheses differ. Dropping prefixes that are far below the best, or
tokens that cannot enter the beam, saves nothing: of the utterances of a batch, there is nearly always one that
needs them.

    this file            the search from log-posteriors to hypotheses
    prefixes.py          the prefixes, and their way through one frame
    blank_skip.py        which frames are searched
    active_tokens.py     which tokens extend prefixes in each of them
    scorers.py           what a language model must offer; fusion.py sums several
    backtrace.py         from the last frame's prefixes back to their tokens and frames

Sources: Graves 2012, "Supervised sequence labelling with recurrent neural networks", section 7.5 (prefix
search); Hannun et al. 2014, arXiv:1408.2873, algorithm 1 (as a beam, with a language model and a length
bonus).


Utterances that end within a word, where a closed vocabulary lets no prefix of the beam be a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asr.decoding.frames import active_tokens, frame_mask, keep_frames
from asr.decoding.prefixes import IMPOSSIBLE, Frame, Moves, root, through_frame, trace
from asr.decoding.scorers import Scorer, WeightedScorer, advance_states, end_gains, extension_gains, start_states
from asr.errors import ModelError, ShapeError
from asr.text.tokens import BLANK
from asr.transcript.hypothesis import Hypothesis


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
    mask = frame_mask(log_posteriors, lengths)
    batch = len(log_posteriors)
    if batch == 0:
        return []

    kept = keep_frames(log_posteriors, mask, blank_skip)
    scorers = [weighted for weighted in scorers if weighted.weight != 0]
    device = log_posteriors.device
    bonus = torch.full((1, 1, 1), insertion_bonus, dtype=torch.float64, device=device)
    active = active_tokens(kept.log_posteriors, kept.valid, token_floor)
    frames, skips, log_blank = (part.unbind(1) for part in (kept.log_posteriors, kept.skips, kept.log_blank))
    states = start_states(scorers, batch, beam_size, device)
    beam = root(batch, beam_size, device)
    moves: list[Moves] = []
    ends: list[Tensor] = []
    # The utterances that still run are the first of the batch. The others have left it: their scores are in `ends`.
    for place, running in enumerate([*kept.running, 0]):
        if blank_skip < 1:
            beam = beam.after_blanks(skips[place][: len(beam.last)], log_blank[place][: len(beam.last)])
        if running < len(beam.last):
            ends.append(torch.stack([beam.mass, end_gains(scorers, states, beam.gain)], dim=2)[running:])
            beam = beam.first(running)
        if running == 0:
            break
        tokens, extending = active.tokens[place], active.log_posteriors[place][:running]
        tokens = None if tokens is None else tokens[:running]
        gains = extension_gains(scorers, states, bonus, (running, beam_size, extending.shape[1]), tokens)
        beam, passage = through_frame(beam, Frame(frames[place][:running], tokens, extending, gains))
        states = advance_states(scorers, states, passage.slot, passage.token)
        moves.append(Moves(passage.came_by, extending.shape[1], tokens))

    acoustic, gain = torch.cat(ends[::-1]).unbind(2)
    score = acoustic + gain
    best_first = score.argsort(dim=1, descending=True, stable=True)
    all_scores = torch.stack([scores.gather(1, best_first) for scores in (score, acoustic, gain)], dim=2).tolist()
    all_traced = trace(moves, best_first, kept.number)
    result = []
    for utterance, place in enumerate(kept.utterance.argsort().tolist()):
        prefixes = [
            Hypothesis(tokens, score, acoustic, gain - insertion_bonus * len(tokens) if scorers else 0.0, frames)
            for (tokens, frames), (score, acoustic, gain) in zip(all_traced[place], all_scores[place], strict=True)
            if acoustic > IMPOSSIBLE  # else the slot is not in use
        ]
        hypotheses = [prefix for prefix in prefixes if prefix.score > IMPOSSIBLE]
        if prefixes and not hypotheses:  # sorted stably by equal scores, they are still in the beam's order
            beginning = finished_beginning(prefixes[0], scorers, insertion_bonus, device)
            hypotheses = [] if beginning is None else [beginning]
        if not hypotheses:
            raise ModelError(f"utterance {utterance} of the batch: its log-posteriors are NaN or rule out all tokens")
        result.append(hypotheses)
    return result


def finished_beginning(
    prefix: Hypothesis,
    scorers: Sequence[tuple[Scorer, float]],
    insertion_bonus: float,
    device: torch.device,
) -> Hypothesis | None:
    """Return the longest beginning of a prefix that the scorers let be a sentence, or None if not even the empty one.

    As a recording may be cut anywhere, its last word may be a fragment. It is left out, or cut to a word that it
    begins with; the acoustic score remains that of the whole prefix, since that is what was heard.

    Args:
        prefix: that cannot be a sentence.
        scorers: with their weights; at least one.
        insertion_bonus: as in the search.
        device: on which the scorers work.
    """
    row = torch.zeros(1, dtype=torch.int64, device=device)
    states = [scorer.start(1, device) for scorer, _ in scorers]
    lm = 0.0
    best: tuple[int, float] | None = None
    for length, token in enumerate((*prefix.tokens, None)):
        weighted = [
            weight * scorer.score(state)[0].double() for (scorer, weight), state in zip(scorers, states, strict=True)
        ]
        scores = torch.stack(weighted).sum(dim=0)
        if lm + float(scores[BLANK]) > float("-inf"):
            best = length, lm + float(scores[BLANK])
        if token is not None:
            lm += float(scores[token])
            tokens = torch.full_like(row, token)
            states = [scorer.advance(state, row, tokens) for (scorer, _), state in zip(scorers, states, strict=True)]
    if best is None:
        return None
    length, lm = best
    score = prefix.acoustic_score + lm + insertion_bonus * length
    return Hypothesis(prefix.tokens[:length], score, prefix.acoustic_score, lm, prefix.frames[:length])
