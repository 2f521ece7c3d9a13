"""An Aho–Corasick automaton of weighted phrases in arrays, and what each token does in each of its states.

A state, or node, is a beginning of a phrase; `ROOT` is the empty one. A node's fallback is the longest other node that
its text ends with. Two numbers belong to each node:

    earned   the weights of the phrases that the node's text ends with
    lent     a share of the weight of the phrases that begin so, see `hotwords.py`

A token is read sign by sign. It gains what is earned on the way, and the difference of what is lent. A table of all
gains would take 16 bytes for each node and token: for 100,000 phrases and 5,000 tokens that is 100 GB. But nearly all
tokens do in a node what they do in its fallback. So only the differences are kept:

    gain(node, token) = gain(fallback, token)  +  lent(fallback) − lent(node)  +  entry(node, token)

The entry is not 0 in two cases only, so that a node has a few:

    the node's text and the token begin a phrase    what is lent there, less what is lent at the fallback there
    a phrase that begins with the node's text       the phrase's weight
    ends within the token

The sum ends at one of three nodes, the bases: the root, the lone space and the lone edge. Their rows are kept whole.
What is earned by a space or an edge at a token's beginning is no entry but one number a node, because it is the same
for all such tokens. A token is read in another way after a space or an edge (`TokenSigns`). The fallbacks of a node end
in the same sign as the node, down to the base, so they read it alike.

Source: Aho and Corasick 1975, "Efficient string matching: an aid to bibliographic search".
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.text.tokens import BLANK, SPACE

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

ROOT = 0
EDGE = "\n"  # no token holds a line end
AFTER_OTHER, AFTER_SPACE, AFTER_EDGE = range(3)  # by which sign a text ends

_BEHIND_ALL = chr(0x10FFFF)  # sorts after every sign


class Phrase(NamedTuple):
    """A text to be found, in signs; what it earns; and what is lent after each of its signs."""

    signs: str
    weight: float
    lent: Sequence[float]


class Automaton:
    """Nodes in ascending order of depth, then of the parent, then of the sign.

    Attributes:
        parent: `(node,)`.
        fallback: `(node,)`; of `ROOT` itself.
        ends: `(node,)`, how the text ends, for instance `AFTER_SPACE`; `AFTER_OTHER` for `ROOT`.
        own: `(node,)`, the weight of the phrase that is the text.
        earned: `(node,)`, own and that of all fallbacks.
        lent: `(node,)`, at least that of the fallback.
        levels: the first node of each depth, and at last the number of nodes.
        bases: the node at which the fallbacks end, by the end of the text.
    """

    def __init__(self, phrases: Sequence[Phrase], alphabet: Sequence[str]) -> None:
        """Build the nodes.

        Args:
            phrases: each of at least one sign.
            alphabet: all signs that will be read, in ascending order; with the space, perhaps with the edge.
        """
        self._alphabet = np.array([ord(sign) for sign in alphabet], dtype=np.uint32)
        ends = {mark: end for mark, end in ((SPACE, AFTER_SPACE), (EDGE, AFTER_EDGE)) if mark in alphabet}
        self._grow([*(Phrase(mark, 0.0, (0.0,)) for mark in ends), *phrases])
        self.parent = np.append(ROOT, self._keys // len(alphabet))
        self.sign = np.append(-1, self._keys % len(alphabet))
        self.ends = np.full(len(self.sign), AFTER_OTHER)
        bases = [ROOT, ROOT, ROOT]
        for mark, end in ends.items():
            self.ends[self.sign == self.encode(mark)] = end
            bases[end] = int(self.child(np.array([ROOT]), self.encode(mark))[0])
        self.bases = tuple(bases)
        self._fall_back()

    def encode(self, signs: str) -> IntArray:
        """Return the places of signs in the alphabet."""
        codes = np.frombuffer(signs.encode("utf-32-le"), np.uint32)
        return np.searchsorted(self._alphabet, codes).astype(np.int64)

    def _grow(self, phrases: Sequence[Phrase]) -> None:
        """Make the nodes level by level. A node's key is `parent · alphabet + sign`; `_keys[node - 1]` ascend."""
        signs = self.encode("".join(phrase.signs for phrase in phrases))
        lent = np.fromiter((share for phrase in phrases for share in phrase.lent), np.float64, len(signs))
        weight = np.array([phrase.weight for phrase in phrases])
        length = np.array([len(phrase.signs) for phrase in phrases])
        first = np.cumsum(length) - length
        node = np.full(len(phrases), ROOT)
        self.levels = [ROOT, ROOT + 1]
        keys, own, lent_at = [], [np.zeros(1)], [np.zeros(1)]
        for depth in range(int(length.max())):
            growing = np.flatnonzero(length > depth)
            place = first[growing] + depth
            level, which = np.unique(node[growing] * len(self._alphabet) + signs[place], return_inverse=True)
            node[growing] = self.levels[-1] + which
            complete = length[growing] == depth + 1
            own.append(np.zeros(len(level)))
            np.add.at(own[-1], which[complete], weight[growing[complete]])
            lent_at.append(np.zeros(len(level)))
            np.maximum.at(lent_at[-1], which, lent[place])
            keys.append(level)
            self.levels.append(self.levels[-1] + len(level))
        self._keys = np.concatenate(keys)
        self.own, self.lent = np.concatenate(own), np.concatenate(lent_at)

    def _fall_back(self) -> None:
        """Go through the nodes by depth: a fallback's text is shorter, so it is finished already."""
        self.fallback = np.full(len(self.sign), ROOT)
        self.earned = self.own.copy()
        for first, beyond in zip(self.levels[2:-1], self.levels[3:], strict=True):
            level = slice(first, beyond)
            fallback = self.step(self.fallback[self.parent[level]], self.sign[level])
            self.fallback[level] = fallback
            self.earned[level] += self.earned[fallback]
            self.lent[level] = np.maximum(self.lent[level], self.lent[fallback])

    def child(self, nodes: IntArray, signs: IntArray) -> IntArray:
        """Return the nodes whose texts have one more sign, −1 where there is none."""
        return find(self._keys, self.key(nodes, signs), ROOT + 1)

    def key(self, parents: IntArray, signs: IntArray) -> IntArray:
        """Return one integer for each parent and sign."""
        return parents * len(self._alphabet) + signs

    def children(self, nodes: IntArray) -> tuple[IntArray, IntArray]:
        """Return the first child of each node, and the node after its last."""
        bounds = np.searchsorted(self._keys, np.stack([nodes, nodes + 1]) * len(self._alphabet)) + ROOT + 1
        return bounds[0], bounds[1]

    def step(self, nodes: IntArray, signs: IntArray) -> IntArray:
        """Return the nodes after one more sign each."""
        nodes, after = nodes.copy(), np.full(len(nodes), ROOT)
        pending = np.arange(len(nodes))
        while len(pending):
            child = self.child(nodes[pending], signs[pending])
            exists = child >= 0
            after[pending[exists]] = child[exists]
            pending = pending[~exists & (nodes[pending] != ROOT)]
            nodes[pending] = self.fallback[nodes[pending]]
        return after

    def read(self, node: int, texts: Sequence[str]) -> tuple[FloatArray, IntArray]:
        """Return what each text in signs earns from a node on, plus what is lent at its end; and the node there."""
        nodes, gains = np.full(len(texts), node), np.zeros(len(texts))
        lengths = np.array([len(text) for text in texts])
        for place in range(int(lengths.max(initial=0))):
            texts_left = np.flatnonzero(lengths > place)
            signs = self.encode("".join(texts[text][place] for text in texts_left.tolist()))
            nodes[texts_left] = self.step(nodes[texts_left], signs)
            gains[texts_left] += self.earned[nodes[texts_left]]
        return gains + self.lent[nodes], nodes

    def earned_by(self, mark: str) -> FloatArray:
        """Return `(node,)`, what a space or an edge earns; 0 where it is not read, see `TokenSigns`."""
        read = self.ends != AFTER_SPACE if mark == SPACE else self.ends == AFTER_OTHER
        earned = np.zeros(len(read))
        if mark == SPACE or self.bases[AFTER_EDGE] != ROOT:
            nodes = np.flatnonzero(read)
            earned[nodes] = self.earned[self.step(nodes, np.repeat(self.encode(mark), len(nodes)))]
        return earned


class TokenSigns:
    """The tokens as the automaton reads them.

    Several spaces count as one, so a space at a token's beginning is not read after a space. An edge is read neither
    after an edge nor after a space.

    Attributes:
        texts: `texts[end][token]`, the signs of each token, by the sign before it, for instance `AFTER_SPACE`.
    """

    def __init__(self, signs: Sequence[str], automaton: Automaton) -> None:
        """Build a trie of the beginnings of tokens; the automaton numbers its signs.

        Args:
            signs: of each token `AFTER_OTHER`; the blank has none.
            automaton: that reads them.
        """
        after_edge = [text.removeprefix(EDGE) for text in signs]
        self.texts = (signs, [text.removeprefix(SPACE) for text in after_edge], after_edge)
        self._automaton = automaton
        beginnings = {text[:length] for texts in self.texts for text in texts for length in range(len(text) + 1)}
        prefixes = sorted(beginnings, key=lambda prefix: (len(prefix), prefix))
        number = {prefix: place for place, prefix in enumerate(prefixes)}
        last = automaton.encode("".join(prefix[-1] for prefix in prefixes[1:]))
        self._keys = automaton.key(np.array([number[prefix[:-1]] for prefix in prefixes[1:]], dtype=np.int64), last)
        # The tokens that begin with a prefix are neighbours in the order of their texts, those equal to it first.
        orders, bounds = [], []
        for end, texts in enumerate(self.texts):
            order = sorted(range(BLANK + 1, len(texts)), key=texts.__getitem__)
            ordered = [texts[token] for token in order]
            limits = [
                (
                    bisect_left(ordered, prefix),
                    bisect_right(ordered, prefix),
                    bisect_left(ordered, prefix + _BEHIND_ALL),
                )
                for prefix in prefixes
            ]
            orders.append(order)
            bounds.append(np.array(limits) + end * len(order))
        self._order, self._bounds = np.array(orders).reshape(-1), np.stack(bounds)

    def longer(self, prefixes: IntArray, signs: IntArray) -> IntArray:
        """Return the beginnings with one more sign, −1 where no token begins so. Number 0 is the empty beginning."""
        return find(self._keys, self._automaton.key(prefixes, signs), 1)

    def equal_to(self, prefixes: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
        """Return the tokens that are one of the beginnings: the row of each, and the token. `ends` as in `texts`."""
        row, place = ranges(self._bounds[ends, prefixes, 0], self._bounds[ends, prefixes, 1])
        return row, self._order[place]

    def beginning_with(self, prefixes: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
        """Return the tokens that begin so, as `equal_to` does."""
        row, place = ranges(self._bounds[ends, prefixes, 0], self._bounds[ends, prefixes, 2])
        return row, self._order[place]


class Entries(NamedTuple):
    """Entries in ascending order of `key`, at most one for each."""

    key: IntArray  # node · tokens + token
    gain: FloatArray
    next_node: NDArray[np.int32]  # where the token leads, or −1 if the fallback says it


def entries(automaton: Automaton, tokens: TokenSigns) -> Entries:
    """Return the entries of all nodes but the bases, see the top of the file.

    The signs of tokens are followed down the automaton without fallbacks: first from all nodes with the empty beginning
    of a token, then with beginnings of one sign, and so on. Few lead far, so each step has fewer pairs to follow.
    """
    count = len(tokens.texts[AFTER_OTHER])
    node = np.flatnonzero(~np.isin(np.arange(len(automaton.parent)), automaton.bases))
    reached, prefix = node, np.zeros_like(node)
    found: list[Entries] = []
    signs_read = 0
    while len(node) or not found:
        ends = automaton.ends[node]
        row, token = tokens.equal_to(prefix, ends)
        at = reached[row]
        lent = automaton.lent[at] - automaton.lent[automaton.fallback[at]]
        found.append(Entries(node[row] * count + token, lent, at.astype(np.int32)))
        # What a first sign earns that is a space or an edge is in `Automaton.earned_by`.
        is_entry = (signs_read > 1) | (signs_read == 1) & (automaton.ends[reached] == AFTER_OTHER)
        earns = np.flatnonzero(is_entry & (automaton.own[reached] > 0))
        row, token = tokens.beginning_with(prefix[earns], ends[earns])
        row = earns[row]
        earned = automaton.own[reached[row]]
        found.append(Entries(node[row] * count + token, earned, np.full(len(row), -1, dtype=np.int32)))

        row, reached = ranges(*automaton.children(reached))
        prefix = tokens.longer(prefix[row], automaton.sign[reached])
        known = prefix >= 0
        node, reached, prefix = node[row[known]], reached[known], prefix[known]
        signs_read += 1
    return _summed(found)


def _summed(found: Sequence[Entries]) -> Entries:
    """Return the entries with those of the same key as one."""
    key, gain, next_node = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.flatnonzero(np.append(True, key[1:] != key[:-1])[: len(key)])
    if len(first) == 0:
        return Entries(key, gain, next_node)
    return Entries(key[first], np.add.reduceat(gain[order], first), np.maximum.reduceat(next_node[order], first))


def find(ascending: IntArray, wanted: IntArray, first: int) -> IntArray:
    """Return the places of numbers in an array, counted from `first`; −1 for those that it lacks."""
    place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
    return np.where(ascending[place] == wanted, place + first, -1)


def ranges(first: IntArray, beyond: IntArray) -> tuple[IntArray, IntArray]:
    """Return the numbers of all ranges `first … beyond − 1`, one after the other, and the range of each number."""
    lengths = beyond - first
    row = np.repeat(np.arange(len(first)), lengths)
    place = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return row, first[row] + place
