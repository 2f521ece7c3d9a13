"""What a search and an alignment return: token sequences with scores, and the frames of each token."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Hypothesis:
    """One token sequence that may have been said. Scores are natural logs; frames are the acoustic model's.

    Attributes:
        tokens: token ids, without blanks.
        score: ranks hypotheses: acoustic score + LM score + insertion bonuses.
        acoustic_score: log-probability of the tokens given the audio.
        lm_score: weighted log-probabilities of the scorers, the end of the sentence included; 0 without scorers.
        frames: for each token, the frame at which it is emitted; they never decrease.
    """

    tokens: tuple[int, ...]
    score: float
    acoustic_score: float
    lm_score: float
    frames: tuple[int, ...]


@dataclass(frozen=True)
class TokenSpan:
    """One token's frames, `end` exclusive, and its highest posterior probability among them."""

    token: int
    start: int
    end: int
    probability: float
