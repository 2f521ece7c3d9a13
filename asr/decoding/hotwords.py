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

A script without spaces has no such ends of words. A phrase in it matches anywhere, and what is beside it ends a word of
another script:

    text       "我的iphone很好"
    phrases    "的"   "iphone"   "iphone很"   all occur, "phone" does not

The automaton then reads an edge, a sign of its own, before and after each character of such a script. A phrase that
begins or ends with a letter of another script is there once with a space at this end and once with an edge.

A closed vocabulary rules out a hotword that it lacks, with any bonus. `word_scorer.with_words(hotwords.words)` adds
the hotwords to the lexicon; they are scored as `<unk>` there.

Source: Aho and Corasick 1975, "Efficient string matching: an aid to bibliographic search".
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from asr.decoding.scorers import TableScorer
from asr.errors import ConfigError, TokenError
from asr.text.tokens import BLANK, SPACE, TokenTable
from asr.text.units import is_written_without_spaces

# For hotwords without one. On AN4's dev set, bonuses of 4 to 6 find the most hotwords and add no errors, see
# benchmarks/hotwords.py.
DEFAULT_BONUS = 5.0

_ROOT = 0
_EDGE = "\n"  # no token holds a line end


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
        automaton = _automaton(phrases, alphabet)
        super().__init__(*_tables(automaton, tokens), automaton.read(_ROOT, SPACE)[0])


class _Automaton(NamedTuple):
    """Nodes are the beginnings of phrases; `_ROOT` is the empty one. Lists have one entry for each node."""

    children: list[dict[str, int]]
    fallback: list[int]  # the longest other node that the node's text ends with
    earned: list[float]  # sum of the bonuses of the phrases that the node's text ends with
    lent: list[float]
    after: list[str]  # the last character of the node's text if it is a space or an edge, else empty
    with_edges: frozenset[str]  # the characters that have an edge on both sides

    def read(self, node: int, text: str) -> tuple[int, float]:
        """Return the node after reading `text`, and the sum of the bonuses earned on the way."""
        earned = 0.0
        for character in text:
            if character == SPACE and self.after[node] == SPACE:
                continue  # several spaces count as one
            if character in self.with_edges:
                signs = [character, _EDGE] if self.after[node] else [_EDGE, character, _EDGE]
            else:
                signs = [character]
            for sign in signs:
                node = self.step(node, sign)
                earned += self.earned[node]
        return node, earned

    def step(self, node: int, sign: str) -> int:
        """Return the node after one more character or edge."""
        while node != _ROOT and sign not in self.children[node]:
            node = self.fallback[node]
        return self.children[node].get(sign, _ROOT)


def _automaton(bonuses: Mapping[str, float], alphabet: Iterable[str]) -> _Automaton:
    children: list[dict[str, int]] = [{}]
    earned, lent, after = [0.0], [0.0], [""]

    def child(node: int, sign: str) -> int:
        if sign not in children[node]:
            children[node][sign] = len(children)
            children.append({})
            earned.append(0.0)
            lent.append(0.0)
            after.append(sign if sign in (SPACE, _EDGE) else "")
        return children[node][sign]

    # Without words of other scripts nobody asks for an edge, and there are half as many nodes.
    spaced = any(not (_matches_anywhere(sign) or sign == SPACE) for phrase in bonuses for sign in phrase)
    with_edges = frozenset(filter(_matches_anywhere, alphabet)) if spaced else frozenset()
    child(_ROOT, SPACE)  # every text starts there, even if there are no phrases
    if with_edges:
        child(_ROOT, _EDGE)
    for phrase, bonus in bonuses.items():
        ends = (SPACE, _EDGE) if with_edges else (SPACE,)
        body = _with_edges(phrase, with_edges)
        for before in ("",) if _matches_anywhere(phrase[0]) else ends:
            node = child(_ROOT, before) if before else _ROOT
            matched = 0
            for sign in body:
                node = child(node, sign)
                matched += sign != _EDGE
                if matched < len(phrase) or not _matches_anywhere(phrase[-1]):  # else it is complete
                    lent[node] = max(lent[node], bonus * matched / len(phrase))
            for behind in ("",) if _matches_anywhere(phrase[-1]) else ends:
                earned[child(node, behind) if behind else node] += bonus

    automaton = _Automaton(children, [_ROOT] * len(children), earned, lent, after, with_edges)
    _fill_in_fallbacks(automaton)
    return automaton


def _matches_anywhere(character: str) -> bool:
    """Return whether a word ends beside a character without a space: a letter or a stop of a script without spaces."""
    if is_written_without_spaces(character):
        return True
    return unicodedata.category(character)[0] == "P" and unicodedata.east_asian_width(character) in "WF"


def _with_edges(phrase: str, with_edges: frozenset[str]) -> str:
    """Return the signs that the automaton reads within a phrase, without those at its ends."""
    signs = ""
    for character in phrase:
        if character in with_edges:
            signs += (_EDGE if signs and signs[-1] not in (SPACE, _EDGE) else "") + character + _EDGE
        else:
            signs += character
    return signs.removesuffix(_EDGE)


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
