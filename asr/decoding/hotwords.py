"""Hotwords: expected words and phrases, each with a bonus, as a scorer of the beam search.

An Aho–Corasick automaton of the phrases reads a text character by character. Text and phrases have a space before,
after and between their words:

    text       " call anna lee now "
    phrases    " anna lee "   " lee "           both occur: their bonuses are added

The spaces make a phrase match whole words only. Every occurrence counts, overlapping ones too. A phrase is complete
only at the space after it, or at the end of the sentence. Until then a partial match lends a share of the bonus, so
that the beam keeps it:

    lent(node) = max over phrases that begin so:  bonus · characters matched / characters of the phrase

Moving from node to node adds the difference of what is lent. If the phrase fails, the automaton falls back, the loan is
taken back, and the sum is zero. If the phrase is completed, the bonus replaces the loan. A finished sentence has
exactly `Σ bonus(phrase) · occurrences(phrase)`, whichever tokens spell it. The tables `(state, token)` are those of the
automaton; a token's characters are read in one step.

A closed vocabulary rules out a hotword that it lacks, with any bonus. `word_scorer.with_words(hotwords.words)` adds
the hotwords to the lexicon; they are scored as `<unk>` there.

Source: Aho and Corasick 1975, "Efficient string matching: an aid to bibliographic search".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.decoding.scorers import TableScorer
from asr.errors import ConfigError, TokenError
from asr.text.tokens import BLANK, SPACE, TokenTable

# For hotwords without one. On AN4's dev set, bonuses of 4 to 6 find the most hotwords and add no errors, see
# benchmarks/hotwords.py.
DEFAULT_BONUS = 5.0

_ROOT = 0


def hotword_bonuses(hotwords: Mapping[str, float] | Iterable[str]) -> dict[str, float]:
    """Return the bonus of each hotword; hotwords without a bonus get `DEFAULT_BONUS`.

    Raises:
        ConfigError: the hotwords are neither a mapping nor a list of texts.
    """
    if isinstance(hotwords, Mapping):
        return dict(hotwords)
    phrases = [hotwords] if isinstance(hotwords, str) else list(hotwords or ())
    if isinstance(hotwords, str) or not all(isinstance(phrase, str) for phrase in phrases):
        raise ConfigError(f"hotwords={hotwords!r}: a list such as ['anna'], or bonuses such as {{'anna': 5.0}}")
    return dict.fromkeys(phrases, DEFAULT_BONUS)


class HotwordScorer(TableScorer):
    """Phrases with bonuses, as a `Scorer` of weight 1. Its state is a `(row,)` int64 tensor.

    Attributes:
        words: the words of the phrases, each once.
        scores: `(state, token)` float64; column 0 is the sentence's end.
        next_states: `(state, token)` int64; column 0 is the state itself.
    """

    def __init__(self, bonuses: Mapping[str, float], tokens: TokenTable) -> None:
        """Build the automaton.

        Args:
            bonuses: natural-log bonus of each phrase, words separated by spaces; above 0.
            tokens: the acoustic model's tokens.

        Raises:
            TokenError: a phrase is empty or holds a character that is in no token.
            ConfigError: a bonus is not above 0 and finite.
        """
        phrases: dict[str, float] = {}
        alphabet = tokens.characters | {SPACE}
        for phrase, bonus in bonuses.items():
            words = phrase.split()
            strange = sorted(set().union(*words) - alphabet)
            if not words:
                raise TokenError(f"the hotword {phrase!r} is empty")
            if strange:
                known = "".join(sorted(alphabet - {SPACE}))
                names = ", ".join(map(repr, strange))
                raise TokenError(f"the hotword {phrase!r} holds {names}; the model's tokens write only: {known}")
            if not 0 < bonus < math.inf:
                raise ConfigError(f"the hotword {phrase!r} has the bonus {bonus}; give one above 0")
            phrases[SPACE.join(words)] = bonus
        self.words = tuple(dict.fromkeys(word for phrase in phrases for word in phrase.split()))
        automaton = _automaton(phrases)
        super().__init__(*_tables(automaton, tokens), automaton.read(_ROOT, SPACE)[0])


class _Automaton(NamedTuple):
    """Nodes are the beginnings of phrases; `_ROOT` is the empty one. Lists have one entry for each node."""

    children: list[dict[str, int]]
    fallback: list[int]  # the longest other node that the node's text ends with
    earned: list[float]  # sum of the bonuses of the phrases that the node's text ends with
    lent: list[float]
    after_space: list[bool]

    def read(self, node: int, text: str) -> tuple[int, float]:
        """Return the node after reading `text`, and the sum of the bonuses earned on the way."""
        earned = 0.0
        for character in text:
            if character == SPACE and self.after_space[node]:
                continue  # several spaces count as one
            while node != _ROOT and character not in self.children[node]:
                node = self.fallback[node]
            node = self.children[node].get(character, _ROOT)
            earned += self.earned[node]
        return node, earned


def _automaton(bonuses: Mapping[str, float]) -> _Automaton:
    children: list[dict[str, int]] = [{}]
    earned, lent, after_space = [0.0], [0.0], [False]

    def child(node: int, character: str) -> int:
        if character not in children[node]:
            children[node][character] = len(children)
            children.append({})
            earned.append(0.0)
            lent.append(0.0)
            after_space.append(character == SPACE)
        return children[node][character]

    child(_ROOT, SPACE)  # every text starts there, even if there are no phrases
    for phrase, bonus in bonuses.items():
        node = child(_ROOT, SPACE)
        for matched, character in enumerate(phrase, start=1):
            node = child(node, character)
            lent[node] = max(lent[node], bonus * matched / len(phrase))
        earned[child(node, SPACE)] += bonus

    automaton = _Automaton(children, [_ROOT] * len(children), earned, lent, after_space)
    _fill_in_fallbacks(automaton)
    return automaton


def _fill_in_fallbacks(automaton: _Automaton) -> None:
    """Go through the nodes by the length of their texts: a fallback's text is shorter, so it is finished already."""
    level = [_ROOT]
    while level:
        deeper = []
        for node in level:
            for character, child in automaton.children[node].items():
                deeper.append(child)
                fallback = automaton.fallback[node]
                while fallback != _ROOT and character not in automaton.children[fallback]:
                    fallback = automaton.fallback[fallback]
                if node != _ROOT:
                    automaton.fallback[child] = automaton.children[fallback].get(character, _ROOT)
                fallback = automaton.fallback[child]
                automaton.earned[child] += automaton.earned[fallback]
                automaton.lent[child] = max(automaton.lent[child], automaton.lent[fallback])
        level = deeper


def _tables(automaton: _Automaton, tokens: TokenTable) -> tuple[Tensor, Tensor]:
    """Return `scores (node, token)` and `next_states (node, token)`: each token's characters read from each node."""
    alphabet = {character: column for column, character in enumerate(sorted(tokens.characters | {SPACE}))}
    nodes = np.arange(len(automaton.lent))
    moves = [[automaton.read(node, character) for character in alphabet] for node in nodes.tolist()]
    node_after = np.array([[node for node, _ in row] for row in moves])
    earned_by = np.array([[earned for _, earned in row] for row in moves])
    lent = np.array(automaton.lent)
    scores = np.empty((len(nodes), len(tokens)))
    next_states = np.empty(scores.shape, dtype=np.int64)
    for token, text in enumerate(["", *tokens.texts[BLANK + 1 :]]):
        after, earned = nodes, -lent
        for character in text:
            earned = earned + earned_by[after, alphabet[character]]
            after = node_after[after, alphabet[character]]
        scores[:, token], next_states[:, token] = earned + lent[after], after
    scores[:, BLANK] = earned_by[:, alphabet[SPACE]] - lent  # at the sentence's end
    return torch.from_numpy(scores), torch.from_numpy(next_states)
