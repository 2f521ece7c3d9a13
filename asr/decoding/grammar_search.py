"""Log-posteriors → which of a grammar's texts was said, or nothing if none of them was.

The grammar is a scorer of the beam search: 0 or a weight for what it allows, −inf for all else. No language model takes
part.

The probabilities of all token sequences sum to 1, so the sum over those of the grammar is the probability that one of
its texts was said, as far as the model knows. The hypotheses of the beam have nearly all of this sum. Its logarithm is
the evidence for the grammar. If it is not above the threshold of the model folder, the answer is the empty text, which
no grammar allows: none of these was said. `asr tune --grammar` sets the threshold (`asr/tuning/rejection.py`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from asr.decoding.beam import BeamOptions, beam_search, merge_texts
from asr.decoding.frames import Float64s, Floats, Ints
from asr.decoding.grammar_automaton import Arcs
from asr.decoding.scorers import WeightedScorer
from asr.errors import TokenError
from asr.text.tokens import BLANK, TokenTable
from asr.transcript.words import Hypothesis

_LEAST = 1e-300  # a probability, whose logarithm is finite


class GrammarScorer:
    """The automaton of a grammar as a `Scorer` of weight 1. Its state is a `(row,)` array of the automaton's states."""

    def __init__(self, arcs: Arcs, token_count: int) -> None:
        """Make keys of states and tokens, so that an arc is found by bisection."""
        self._arcs, self._token_count = arcs, token_count
        self._keys = arcs.source * token_count + arcs.label

    def start(self, batch: int) -> Ints:
        """Return `batch` rows at a sentence's start."""
        return np.zeros(batch, np.int64)

    def score(self, state: Ints) -> Float64s:
        """Return `(row, token)` weights, −inf for what the grammar does not allow; column 0 is the sentence's end."""
        arcs = self._arcs
        scores = np.full((len(state), self._token_count), -np.inf)
        counts = arcs.first[state + 1] - arcs.first[state]
        row = np.arange(len(state)).repeat(counts)
        arc = np.arange(counts.sum()) + (arcs.first[state] - np.cumsum(counts) + counts).repeat(counts)
        scores[row, arcs.label[arc]] = arcs.weight[arc]
        scores[:, BLANK] = arcs.final[state]
        return scores

    def advance(self, state: Ints, parents: Ints, tokens: Ints) -> Ints:
        """Return the states of new rows, see `Scorer`; a row that takes what is not allowed stays where it is."""
        state = state.take(parents)
        key = state * self._token_count + tokens
        arc = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return np.where((self._keys[arc] == key) & (tokens != BLANK), self._arcs.target[arc], state)


class GrammarSearch:
    """The search for the texts of one grammar with one model."""

    def __init__(self, arcs: Arcs, tokens: TokenTable, threshold: float = -np.inf) -> None:
        """Search in an automaton.

        Args:
            arcs: what `compile_grammar` returns.
            tokens: the model's.
            threshold: the evidence, a natural log, up to which none of the texts counts as said.
        """
        self._arcs, self._tokens, self._threshold = arcs, tokens, threshold
        self._scorers = [WeightedScorer(GrammarScorer(arcs, len(tokens)), 1.0)]

    def allows(self, text: str) -> bool:
        """Return whether a normalised text is one of the grammar's."""
        scorer, state = self._scorers[0].scorer, np.zeros(1, np.int64)
        try:
            tokens = self._tokens.encode(text)
        except TokenError:
            return False
        for token in tokens:
            if scorer.score(state)[0, token] == -np.inf:
                return False
            state = scorer.advance(state, np.zeros(1, np.int64), np.array([token]))
        return bool(scorer.score(state)[0, BLANK] > -np.inf)

    def matches(
        self, log_posteriors: Floats, lengths: NDArray[np.integer], beam_size: int
    ) -> list[tuple[list[Hypothesis], float]]:
        """Return of each utterance the texts that fit best, best first, and the evidence for the grammar.

        Args:
            log_posteriors: `(batch, frame, token)`, natural log; token 0 is blank.
            lengths: `(batch,)`, valid frames.
            beam_size: number of prefixes kept per frame.

        Returns:
            No text and −inf where the beam holds no whole text at the end.
        """
        searched = beam_search(log_posteriors, lengths, BeamOptions(beam_size), self._scorers, whole=True)
        return [
            (
                merge_texts(hypotheses, self._tokens),
                min(0.0, float(np.logaddexp.reduce([one.acoustic_score for one in hypotheses], initial=-np.inf))),
            )
            for hypotheses in searched
        ]

    def search(self, log_posteriors: Floats, lengths: NDArray[np.integer], beam_size: int) -> list[list[Hypothesis]]:
        """Return of each utterance the texts that fit best, best first, or the empty one alone if it was none of them.

        The score of the empty text is the natural log of the probability that it was none of them. Arguments are those
        of `matches`.
        """
        return [
            hypotheses if evidence > self._threshold and hypotheses else [_none(evidence)]
            for hypotheses, evidence in self.matches(log_posteriors, lengths, beam_size)
        ]


def _none(evidence: float) -> Hypothesis:
    score = math.log(max(-math.expm1(evidence), _LEAST))
    return Hypothesis((), score, score, 0.0, ())
