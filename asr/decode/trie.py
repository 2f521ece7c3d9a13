"""A lexicon as a trie over characters, walked by tokens.

A node is the beginning of some words: "c", "ca", "cat". Node 0, `BETWEEN`, is the empty one: no word has begun. Node 1,
`OUTSIDE`, stands for all beginnings that no word has. The trie is over characters, so that a word is the same word
however sub-word pieces spell it; a table says at which node each token leads from each node:

    token   from "ca"         why
    "t"     "cat"
    "tch"   "catch"           a piece walks several characters
    " "     BETWEEN           the space ends the word
    " d"    "d"               a piece with the space ends the word and begins the next
    "x"     OUTSIDE           there is no word in "cax…", and no way back before the next space

What a text's words are, is what `TokenTable.decode` says: spaces before, after and beside other spaces are no words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from asr.data.tokens import BLANK, TokenTable
from asr.errors import LanguageModelError, TokenError

BETWEEN, OUTSIDE = 0, 1
NO_WORD = -1
SPACE = " "

MAX_TABLE_BYTES = 2 * 2**30


class Trie(NamedTuple):
    """A lexicon's trie; a node's parent has a smaller number than the node, `BETWEEN` and `OUTSIDE` apart."""

    next_node: np.ndarray  # (node, token) int32; the blank leaves the node as it is
    word: np.ndarray  # (node,) int64, the place in the lexicon of the word that a node is, or NO_WORD
    parent: np.ndarray  # (node,) int64
    opens_word: np.ndarray  # (token,) bool: the token is a space, or begins with one

    def best_below(self, scores: np.ndarray) -> np.ndarray:
        """Return for each node the best of the `(word,)` scores of words that begin so; −inf for `OUTSIDE`."""
        best = np.where(self.word == NO_WORD, -np.inf, scores[self.word])
        for node in range(len(best) - 1, OUTSIDE, -1):
            parent = self.parent[node]
            best[parent] = max(best[parent], best[node])
        return best


def spellable(words: Iterable[str], tokens: TokenTable) -> list[str]:
    """Return the words that can be written in the tokens' characters."""
    known = characters(tokens)
    return [word for word in words if word and known.issuperset(word)]


def characters(tokens: TokenTable) -> set[str]:
    """Return the characters, space apart, that the tokens hold."""
    return set().union(*tokens.texts[BLANK + 1 :]) - {SPACE}


def build_trie(words: Sequence[str], tokens: TokenTable) -> Trie:
    """Return the trie of words, none of which occurs twice.

    Raises:
        TokenError: a word is empty or holds a space or a character that is in no token.
        LanguageModelError: the table would take more than 2 GiB.
    """
    alphabet = {character: index for index, character in enumerate(sorted(characters(tokens)))}
    children: dict[tuple[int, int], int] = {}
    word_at: dict[int, int] = {}
    for index, word in enumerate(words):
        if not word or not alphabet.keys() >= set(word):
            raise TokenError(f"the word {word!r} cannot be written in the model's tokens")
        node = BETWEEN
        for character in word:
            node = children.setdefault((node, alphabet[character]), len(children) + OUTSIDE + 1)
        word_at[node] = index

    nodes = len(children) + OUTSIDE + 1
    size = 4 * nodes * max(len(tokens), len(alphabet))
    if size > MAX_TABLE_BYTES:
        raise LanguageModelError(
            f"a lexicon of {len(words)} words with {len(tokens)} tokens takes {size / 2**30:.1f} GiB as a table, "
            f"more than {MAX_TABLE_BYTES / 2**30:g}; give fewer words"
        )
    edges = np.array([(*edge, child) for edge, child in children.items()], dtype=np.int64).reshape(-1, 3)
    by_character = np.full((nodes, len(alphabet)), OUTSIDE, dtype=np.int32)
    by_character[edges[:, 0], edges[:, 1]] = edges[:, 2]
    parent = np.arange(nodes)
    parent[edges[:, 2]] = edges[:, 0]
    word_of = np.full(nodes, NO_WORD, dtype=np.int64)
    word_of[list(word_at)] = list(word_at.values())

    texts = ["", *tokens.texts[BLANK + 1 :]]
    opens_word = np.array([text.startswith(SPACE) for text in texts])
    next_node = np.empty((nodes, len(texts)), dtype=np.int32)
    for token, text in enumerate(texts):
        node_after = np.full(nodes, BETWEEN, dtype=np.int32) if opens_word[token] else np.arange(nodes, dtype=np.int32)
        for character in text.strip(SPACE):
            node_after = by_character[node_after, alphabet[character]]
        next_node[:, token] = node_after
    return Trie(next_node, word_of, parent, opens_word)
