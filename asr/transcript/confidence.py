"""Confidences: how probable it is that a recognised word is right.

Two facts are known of each word of the best hypothesis:

* Its *posterior*: of the probability of all hypotheses in the beam, the share of those that have the same word at the
  same place. It is low where the search wavers between words.
* Its *acoustic* value: the mean log-posterior of its tokens. It is low where the audio fits no word well. The posterior
  cannot show that, because there all hypotheses are wrong.

A logistic regression with three coefficients, fitted on dev, turns both into a probability.

Sources: Wessel et al. 2001, "Confidence measures for large vocabulary continuous speech recognition" (posteriors);
Platt 1999, "Probabilistic outputs for support vector machines" (the logistic map).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np
from numpy.typing import NDArray

# A beam holds few of all word sequences. So it proves no more than this if all its hypotheses agree on a word.
_MOST_LOG_ODDS = 3.0
_LEAST_ACOUSTIC = -20.0


@dataclass(frozen=True)
class Evidence:
    """What is known of one recognised word.

    Attributes:
        posterior: share of the beam's probability, 0 to 1; None without competing hypotheses (greedy search).
        acoustic: mean natural log of its tokens' posteriors, at most 0.
    """

    posterior: float | None
    acoustic: float


@dataclass(frozen=True)
class Calibration:
    """log-odds of being right = bias + posterior · log-odds of the posterior + acoustic · acoustic value.

    The defaults fit the AN4 recipe's dev set. Models without a calibration of their own use them.
    """

    bias: float = 0.6
    posterior: float = 1.0
    acoustic: float = 1.0

    def confidence(self, evidence: Evidence) -> float:
        """Return the probability, 0 to 1, that the word is right.

        Without competing hypotheses it is the geometric mean of the tokens' posteriors. That is not calibrated.
        """
        if evidence.posterior is None:
            return math.exp(min(evidence.acoustic, 0.0))
        log_odds = float(evidence_features([evidence])[0] @ [self.bias, self.posterior, self.acoustic])
        return 1 / (1 + math.exp(-max(log_odds, -700.0)))  # beyond, exp would overflow


def word_posteriors(hypotheses: Sequence[Sequence[str]], scores: Sequence[float]) -> list[float]:
    """Return for each word of the first hypothesis the share of the probability with this word at this place.

    Args:
        hypotheses: the words of each, best first, at least one.
        scores: natural-log scores of the hypotheses.
    """
    best = hypotheses[0]
    weights = np.exp(np.asarray(scores, np.float64) - max(scores))
    shares = np.zeros(len(best))
    for words, weight in zip(hypotheses, weights / weights.sum(), strict=True):
        for block in SequenceMatcher(None, best, words, autojunk=False).get_matching_blocks():
            shares[block.a : block.a + block.size] += weight
    return [min(share, 1.0) for share in shares.tolist()]


def evidence_features(evidence: Sequence[Evidence]) -> NDArray[np.float64]:
    """Return `(word, 3)`: 1, log-odds of the posterior, acoustic value."""
    posterior = np.clip([item.posterior or 0.0 for item in evidence], 1e-9, 1 - 1e-9)
    log_odds = np.clip(np.log(posterior / (1 - posterior)), -_MOST_LOG_ODDS, _MOST_LOG_ODDS)
    acoustic = np.clip([item.acoustic for item in evidence], _LEAST_ACOUSTIC, 0.0)
    return np.stack([np.ones(len(evidence)), log_odds, acoustic], axis=1)
