"""CTC prefix beam search: log-posteriors → the most probable token sequences, for a whole batch at once.

The probability of a token sequence is the sum over all frame-by-frame paths that collapse to it. So the search keeps
*prefixes* (the token sequences so far), not paths. For each prefix it keeps two log-masses: of the paths that end in a
blank, and of the paths that end in its last token. They must be kept apart, because the last token once more means two
things: after a blank it is a new token, otherwise a repetition that collapses. At each frame, every prefix can

    stay     by blank              both masses      → ends in blank
             by its last token     mass in token    → ends in token
    extend   by token c ≠ last     both masses      → a new prefix, which ends in token
             by its last token     mass in blank    → a new prefix, which ends in token

The `beam_size` best of all stays and extensions are kept, ranked by

    log mass + Σ weight · log p_scorer(prefix) + insertion_bonus · length(prefix).

So language models are asked while the prefixes grow. This is called shallow fusion.

An example: two frames, in each of which p(blank) = 0.6 and p(a) = 0.4. These are the masses, before the logarithm:

                   ""                      "a"                             "aa"
                   in blank   in token     in blank   in token             in token
    at the start     1           0           0          0                    0
    after frame 1    0.6         0           0          0.4                  0
    after frame 2    0.36        0           0.24       0.16 + 0.24 = 0.4    0

In frame 2, "a" stays by blank (0.4 · 0.6) and by its last token (0.4 · 0.4), and "" is extended by a (0.6 · 0.4). "aa"
needs a blank between its tokens, so it is impossible. "a" wins with 0.64, while greedy search takes "" (`greedy.py`).

An extension may be a prefix that the beam holds already ("a" extended by "b", where "ab" is kept too). Both are the
same token sequence. So the extension's mass is added to that prefix, and the extension is struck out. Nothing is lost
and nothing counts twice: merging is exact. 64-bit rolling hashes tell which prefix is the parent of which. A prefix's
hash yields the hash of its parent, and prefix j is prefix i plus one token exactly if j's parent has i's hash. So
looking up all parents' hashes among the hashes finds every merge, with any number of tokens. (An hour of speech at beam
100 compares about 10⁹ pairs; by chance, one false merge happens in 10¹⁰ hours.)

There is no loop over utterances or prefixes. One frame costs about fifty numpy operations on `(batch, beam)` and a few
on `(batch, beam, column)`, where a column is a token that may extend prefixes in this frame. The longest utterances
come first, and each leaves the batch when it ends. Masses are float64: the state is small, so this costs little, and
sums over thousands of frames keep the digits by which close hypotheses differ. The search is on the CPU, also where
the network is on a GPU. All that it needs is numpy, so that an exported model searches in the same way. The same
operations of torch take twice as long, because arrays of this size cost more to hand over than to compute with.
Dropping prefixes far below the best, or tokens that cannot enter the beam, saves nothing, because nearly always one
utterance of the batch needs them.

    beam.py        the search, from log-posteriors to hypotheses
    frames.py      which frames are searched, and which tokens extend prefixes in each
    prefixes.py    the prefixes: through one frame, and along the back-pointers to their tokens
    scorers.py     what a language model must offer, and the sum of several; ngram_scorer.py, word_scorer.py,
                   hotwords.py and asr/lm/rnn_scorer.py offer it

Sources: Graves 2012, "Supervised sequence labelling with recurrent neural networks", section 7.5 (prefix search);
Hannun et al. 2014, arXiv:1408.2873, algorithm 1 (as a beam, with a language model and a length bonus); Gulcehre et al.
2015, arXiv:1503.03535 (shallow fusion).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asr.decoding.frames import Float64s, Floats, KeptFrames, active_tokens, frame_mask, keep_frames
from asr.decoding.prefixes import IMPOSSIBLE, BackPointers, Frame, backtrace, initial_beam, through_frame
from asr.decoding.scorers import WeightedScorer, advance_states, end_gains, extension_gains, start_states
from asr.errors import ConfigError, ModelError
from asr.text.tokens import BLANK, TokenTable
from asr.transcript.words import Hypothesis


@dataclass(frozen=True)
class BeamOptions:
    """How wide and how thorough the search is; `DecodeSettings` describes the same settings for users.

    Attributes:
        beam_size: number of prefixes kept per frame.
        insertion_bonus: added to the score for each token, because language models prefer short texts.
        blank_skip: frames with a blank posterior above this are taken as blank without a search; 1 searches all.
        token_floor: only tokens with a posterior above this extend prefixes in a frame; 0 leaves out none.
    """

    beam_size: int
    insertion_bonus: float = 0.0
    blank_skip: float = 1.0
    token_floor: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigError: there is one.
        """
        if self.beam_size < 1:
            raise ConfigError(f"beam_size={self.beam_size}: a beam keeps at least one prefix")
        if not 0 < self.blank_skip <= 1:
            raise ConfigError(f"blank_skip={self.blank_skip}: a posterior above 0, at most 1")
        if not 0 <= self.token_floor < 1:
            raise ConfigError(f"token_floor={self.token_floor}: a posterior from 0 to below 1")


def beam_search(
    log_posteriors: Floats,
    lengths: NDArray[np.integer],
    options: BeamOptions,
    scorers: Sequence[WeightedScorer] = (),
    *,
    whole: bool = False,
) -> list[list[Hypothesis]]:
    """Return each utterance's most probable token sequences, best first.

    Args:
        log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank.
        lengths: `(batch,)` integer, valid frames of each utterance. The other frames change nothing.
        options: of the search.
        scorers: language models. One of weight 0 is not asked.
        whole: whether only whole sentences count.

    Returns:
        At most `beam_size` hypotheses for each utterance; scores are natural logs. If the scorers let none of the
        beam's prefixes be a sentence, there is one hypothesis, see `finished_beginning`; with `whole` there is none.

    Raises:
        ShapeError: a length exceeds the number of frames, or the arrays do not fit.
        ModelError: no token sequence of an utterance has a probability, for instance because log-posteriors are NaN.
    """
    mask = frame_mask(log_posteriors, lengths)
    if len(log_posteriors) == 0:
        return []
    scorers = [weighted for weighted in scorers if weighted.weight != 0]
    kept = keep_frames(log_posteriors, mask, options.blank_skip)
    with np.errstate(invalid="ignore"):  # −inf − −inf where a slot is not in use; NaN is an error in the end
        back_pointers, ends = _through_all_frames(kept, options, scorers)
    return _hypotheses(kept, back_pointers, ends, options, scorers, whole=whole)


def _through_all_frames(
    kept: KeptFrames, options: BeamOptions, scorers: Sequence[WeightedScorer]
) -> tuple[list[BackPointers], Float64s]:
    """Return how the prefixes came through each frame, and what they are worth at the end of their utterance.

    Returns:
        The back-pointers of each frame, and `(batch, beam, 2)`: log-masses, and the gains with the sentence's end.
    """
    batch, size = len(kept.utterance), options.beam_size
    active = active_tokens(kept.log_posteriors, kept.valid, options.token_floor)
    states = start_states(scorers, batch, size)
    beam = initial_beam(batch, size)
    back_pointers: list[BackPointers] = []
    ends: list[Float64s] = []
    # The utterances that still run are the first of the batch. The others have left it: their scores are in `ends`.
    for place, running in enumerate([*kept.running, 0]):
        if options.blank_skip < 1:
            now = slice(0, len(beam.last)), place
            beam = beam.after_blanks(kept.skips[now], kept.log_blank[now])
        if running < len(beam.last):
            ends.append(np.stack([beam.mass, end_gains(scorers, states, beam.gain)], axis=2)[running:])
            beam = beam.first(running)
        if running == 0:
            break
        tokens, extending = active.tokens[place], active.log_posteriors[place][:running]
        tokens = None if tokens is None else tokens[:running]
        gains = extension_gains(scorers, states, options.insertion_bonus, (running, size, extending.shape[1]), tokens)
        beam, step = through_frame(beam, Frame(kept.log_posteriors[:running, place], tokens, extending, gains))
        states = advance_states(scorers, states, step.slot, step.token)
        back_pointers.append(BackPointers(step.back_pointer, extending.shape[1], tokens))
    return back_pointers, np.concatenate(ends[::-1])


def _hypotheses(
    kept: KeptFrames,
    back_pointers: Sequence[BackPointers],
    ends: Float64s,
    options: BeamOptions,
    scorers: Sequence[WeightedScorer],
    *,
    whole: bool,
) -> list[list[Hypothesis]]:
    """Return each utterance's hypotheses, best first, in the order of the batch that was given.

    Raises:
        ModelError: an utterance has none.
    """
    acoustic, gain = ends[:, :, 0], ends[:, :, 1]
    score = acoustic + gain
    best_first = np.argsort(-score, axis=1, kind="stable")
    all_scores = np.take_along_axis(np.stack([score, acoustic, gain], axis=2), best_first[:, :, None], 1).tolist()
    all_traced = backtrace(back_pointers, best_first, kept.number)
    bonus = options.insertion_bonus
    result = []
    for utterance, place in enumerate(kept.utterance.argsort().tolist()):
        prefixes = [
            Hypothesis(tokens, score, acoustic, gain - bonus * len(tokens) if scorers else 0.0, frames)
            for (tokens, frames), (score, acoustic, gain) in zip(all_traced[place], all_scores[place], strict=True)
            if acoustic > IMPOSSIBLE  # else the slot is not in use
        ]
        hypotheses = [prefix for prefix in prefixes if prefix.score > IMPOSSIBLE]
        if prefixes and not hypotheses and not whole:
            # All scores are equal, and the sort is stable: they are in the beam's order.
            beginning = finished_beginning(prefixes[0], scorers, bonus)
            hypotheses = [] if beginning is None else [beginning]
        if not hypotheses and not (whole and prefixes):
            raise ModelError(f"utterance {utterance} of the batch: its log-posteriors are NaN or rule out all tokens")
        result.append(hypotheses)
    return result


def finished_beginning(
    prefix: Hypothesis, scorers: Sequence[WeightedScorer], insertion_bonus: float
) -> Hypothesis | None:
    """Return the longest beginning of a prefix that the scorers let be a sentence, or None if there is none.

    With a closed vocabulary, an utterance that ends within a word may leave no prefix in the beam that is a sentence. A
    recording may be cut anywhere, so its last word may be a fragment. The fragment is left out, or cut to a word that
    it begins with. The acoustic score remains that of the whole prefix, because that is what was heard.

    Args:
        prefix: that cannot be a sentence.
        scorers: at least one.
        insertion_bonus: as in the search.
    """
    row = np.zeros(1, np.int64)
    states = [scorer.start(1) for scorer, _ in scorers]
    lm = 0.0
    best: tuple[int, float] | None = None
    for length, token in enumerate((*prefix.tokens, None)):
        scores = np.sum(
            [
                np.multiply(scorer.score(state)[0], weight, dtype=np.float64)
                for (scorer, weight), state in zip(scorers, states, strict=True)
            ],
            axis=0,
        )
        if lm + float(scores[BLANK]) > float("-inf"):
            best = length, lm + float(scores[BLANK])
        if token is not None:
            lm += float(scores[token])
            tokens = np.full_like(row, token)
            states = [scorer.advance(state, row, tokens) for (scorer, _), state in zip(scorers, states, strict=True)]
    if best is None:
        return None
    length, lm = best
    score = prefix.acoustic_score + lm + insertion_bonus * length
    return Hypothesis(prefix.tokens[:length], score, prefix.acoustic_score, lm, prefix.frames[:length])


def merge_texts(hypotheses: Sequence[Hypothesis], tokens: TokenTable) -> list[Hypothesis]:
    """Return hypotheses of which no two spell the same text, best first.

    Different tokens may spell one text: pieces divide a word in several ways, and a space more at an end is no text.
    What counts is the text, so the probabilities of its spellings are summed. The tokens and the LM score are those of
    its most probable spelling.

    Args:
        hypotheses: of one utterance, best first.
        tokens: what the tokens spell.
    """
    by_text: dict[str, list[Hypothesis]] = {}
    for hypothesis in hypotheses:
        by_text.setdefault(tokens.decode(hypothesis.tokens), []).append(hypothesis)
    merged = [
        replace(
            spellings[0],
            score=float(np.logaddexp.reduce([spelling.score for spelling in spellings])),
            acoustic_score=float(np.logaddexp.reduce([spelling.acoustic_score for spelling in spellings])),
        )
        if len(spellings) > 1
        else spellings[0]
        for spellings in by_text.values()
    ]
    return sorted(merged, key=lambda hypothesis: -hypothesis.score)
