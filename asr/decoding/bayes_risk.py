"""The n-best lists of several models → one list, whose first text has the fewest expected word errors.

A list gives each of its texts a posterior probability: the softmax of `SCALE` times the scores. The joined list has the
mean over the models. The expected word errors of a text are its edit distances to all texts of the list, weighted by
their posteriors. The text with the fewest is chosen: that is minimum Bayes risk. Models that agree on a word outvote
one that is sure of another, even where no two lists have a whole text in common.

Models may have other tokens, other frames and other language models, because only texts and posteriors are compared.

Measured on AN4 dev (591 words, five seeds, three at a time; n-gram weight 0.5; `benchmarks/ensemble.py`), in errors:

                                          with the n-gram   without   greedy
    one model                                        29.6      35.8     36.8
    three: mean of their frames' posteriors          25.0      36.7     34.0
    three: mean of their log-posteriors              27.0                46.0
    three: joined lists, most probable text          25.1      30.9     34.5
    three: joined lists, fewest expected errors      24.1      27.9     30.8

Frames were averaged at first. That loses, because networks trained apart emit a token at different frames. Choosing by
expected errors from the list of one model gains nothing (29.2 at its best scale), so it is no option of the search.

Sources: Goel & Byrne 2000, "Minimum Bayes-risk automatic speech recognition"; Fiscus 1997, "A post-processing system to
yield reduced word error rates" (ROVER); Xu et al. 2011, "Minimum Bayes risk decoding and system combination".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from asr.text.units import words_of

SCALE = 0.7  # of the scores: they are too sure. On AN4 dev 0.5 is as good, 0.3 and 1 make up to 0.9 errors more


@dataclass(frozen=True)
class Candidate:
    """One text of joined n-best lists.

    Attributes:
        text: what may have been said.
        posterior: its probability; those of a joined list sum to 1.
        expected_errors: word errors that are expected if it is chosen.
        model: the number of the list that gives it the highest posterior.
        place: its place in that list.
    """

    text: str
    posterior: float
    expected_errors: float
    model: int
    place: int


def join(lists: Sequence[tuple[Sequence[str], Sequence[float]]]) -> list[Candidate]:
    """Return the texts of several n-best lists: first that with the fewest expected errors, the others by posterior.

    Of equal ones the one that comes first in the lists is first.

    Args:
        lists: of each model the texts, no two the same, and their natural-log scores; at least one each.
    """
    found: dict[str, tuple[float, float, int, int]] = {}  # posterior, highest share, its model, place there
    for model, (texts, scores) in enumerate(lists):
        for place, (text, share) in enumerate(zip(texts, _posteriors(scores) / len(lists), strict=True)):
            posterior, most, *owner = found.get(text, (0.0, -1.0, 0, 0))
            first = (model, place) if share > most else (owner[0], owner[1])
            found[text] = (posterior + share, max(most, share), *first)
    errors = expected_errors([words_of(text) for text in found], [entry[0] for entry in found.values()])
    candidates = [
        Candidate(text, posterior, float(error), model, place)
        for (text, (posterior, _, model, place)), error in zip(found.items(), errors, strict=True)
    ]
    by_posterior = sorted(candidates, key=lambda candidate: -candidate.posterior)
    best = min(by_posterior, key=lambda candidate: candidate.expected_errors)
    return [best, *(candidate for candidate in by_posterior if candidate is not best)]


def expected_errors(texts: Sequence[Sequence[str]], posteriors: Sequence[float]) -> NDArray[np.float64]:
    """Return `(text,)`: the edit distance of each text to all of them, in words, weighted by their posteriors.

    Args:
        texts: the words of each.
        posteriors: of the texts.
    """
    distances = np.zeros((len(texts), len(texts)))
    for row, text in enumerate(texts):
        for column in range(row):
            distances[row, column] = distances[column, row] = Levenshtein.distance(text, texts[column])
    return distances @ np.asarray(posteriors, np.float64)


def _posteriors(scores: Sequence[float]) -> NDArray[np.float64]:
    scaled = SCALE * np.asarray(scores, np.float64)
    weights = np.exp(scaled - scaled.max())
    posteriors: NDArray[np.float64] = weights / weights.sum()
    return posteriors
