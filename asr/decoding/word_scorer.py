"""The word n-gram in a search over tokens: a trie of the lexicon within words, the n-gram from word to word.

**The trie** has a node for each beginning of a word: "c", "ca", "cat". Node 0, `BETWEEN`, is the empty beginning: no
word has begun. Node 1, `OUTSIDE`, is every beginning that no word has. The trie is over characters, so a word is
the same word however sub-word pieces spell it. A table says to which node each token leads from each node:

    token   from "ca"         why
    "t"     "cat"
    "tch"   "catch"           a piece goes over several characters
    " "     BETWEEN           the space ends the word
    " d"    "d"               a piece with the space ends the word and begins the next
    "x"     OUTSIDE           no word begins with "cax", and nothing leads back before the next space

`TokenTable.decode` defines the words of a text: spaces before, after and beside other spaces are no words.

**The state of a row** is the node of the word that is being spelled, and the words before it (a context of the n-gram,
see `ngram_scorer.py`):

    tokens so far   the cat s       node "s", context ("the", "cat")

The n-gram scores a word when a space or the end of the sentence finishes it. By that alone, every beginning of a word
would look free until then, and beginnings of long or rare words would push good ones out of the beam. So each node
counts as much as the best word that begins so, by the unigram: `ahead(node) = max log p(word)`. Moving from node to
node adds the difference. Finishing the word replaces `ahead` by the word's probability after its context. The
differences cancel: a finished sentence has exactly `Σ log p(word | words before) + log p(</s> | words)`.

**The vocabulary** is closed by default: a token that leads out of the trie is impossible. With an OOV penalty any
spelling is allowed. Then a word outside the lexicon has `log p(<unk> | words before) − penalty`, and the words after it
see `<unk>`. Words of the lexicon that the n-gram lacks are `<unk>` too, but without the penalty.

The tables are `(node, token)` int32 and a few numbers for each node, n-gram or context. In most frames most rows stay
as they are. The state keeps their scores, and the tables are read only for rows that took a token.

Source: Ortmanns, Ney and Eiden 1996, "Language-model look-ahead for large vocabulary speech recognition" (there with
the context's own probabilities instead of the unigram's).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.decoding.frames import Bools, Float64s, Ints
from asr.decoding.ngram_scorer import MAX_TABLE_BYTES, backoff_table
from asr.errors import LanguageModelError, TokenError
from asr.lm.ngram import MARKS, SENTENCE_END, UNKNOWN, NgramLm
from asr.text.tokens import BLANK, SPACE, TokenTable

BETWEEN, OUTSIDE = 0, 1
NO_WORD = -1


class Trie(NamedTuple):
    """A lexicon's trie. A node's parent has a smaller number than the node, except for `BETWEEN` and `OUTSIDE`."""

    next_node: NDArray[np.int32]  # (node, token); the blank leaves the node as it is
    word: Ints  # (node,), the place in the lexicon of the node's word, or NO_WORD
    parent: Ints  # (node,)
    opens_word: Bools  # (token,): the token is a space, or begins with one

    def best_below(self, scores: Float64s) -> Float64s:
        """Return for each node the best `(word,)` score of the words that begin so; −inf for `OUTSIDE`."""
        best = np.where(self.word == NO_WORD, -np.inf, scores[self.word])
        for node in range(len(best) - 1, OUTSIDE, -1):
            parent = self.parent[node]
            best[parent] = max(best[parent], best[node])
        return best


def build_trie(words: Sequence[str], tokens: TokenTable) -> Trie:
    """Return the trie of words; no word may occur twice.

    Raises:
        TokenError: a word is empty, or holds a space or a character that is in no token.
        LanguageModelError: the table would take more than 2 GiB.
    """
    alphabet = {character: index for index, character in enumerate(sorted(tokens.characters))}
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


_IMPOSSIBLE = float("-inf")


class WordState(NamedTuple):
    """Where each row is, and its scores of the next token."""

    places: Ints  # (row, 3): the node of the word being spelled, the context, and the context if the word ends
    scores: Float64s  # (row, token), of the next token


class _Tables(NamedTuple):
    next_node: NDArray[np.int32]  # (node, token)
    opens_word: Bools  # (token,)
    opening: Ints  # the tokens that open a word
    end: Float64s  # (context,), log-probability of the sentence's end
    arrive: Float64s  # (node,): what the node counts; −inf if no row may be there
    ahead: Float64s  # (node,): the same, but finite
    unit: Ints  # (node,), the n-gram's unit for the word that is spelled
    extra: Float64s  # (node,), added for the word: 0, minus the OOV penalty, or −inf if it is no word


class WordNgramScorer:
    """A word n-gram with a lexicon, as a `Scorer`.

    Attributes:
        words: the lexicon.
    """

    def __init__(
        self,
        lm: NgramLm,
        tokens: TokenTable,
        words: Iterable[str] | None = None,
        *,
        oov_penalty: float | None = None,
    ) -> None:
        """Build the tables.

        Args:
            lm: an n-gram over words.
            tokens: the acoustic model's tokens.
            words: the lexicon; by default the n-gram's words that can be written in the tokens.
            oov_penalty: natural log, subtracted for each word outside the lexicon; None forbids such words.

        Raises:
            TokenError: a word of `words` cannot be written in the tokens.
            LanguageModelError: the lexicon is empty, words need `<unk>` and the n-gram has none, or the trie's table
                would take more than 2 GiB.
        """
        self._ngram, self._units = backoff_table(lm)
        self._tokens, self._oov_penalty = tokens, oov_penalty
        if words is None:
            words = tokens.spellable(word for word in self._units if word not in MARKS)
        self.words = tuple(dict.fromkeys(words))
        if not self.words:
            raise LanguageModelError(
                "the lexicon is empty: none of the language model's words can be written in the acoustic model's "
                "tokens; was it estimated over tokens, or from text of another case?"
            )
        self._sentence_end = self._unit(SENTENCE_END)
        self._tables = self._build()

    def with_words(self, words: Iterable[str]) -> WordNgramScorer:
        """Return a scorer with more words in its lexicon, such as those of hotwords. Both share the n-gram.

        Raises:
            TokenError, LanguageModelError: as for the class.
        """
        more = copy.copy(self)
        more.words = tuple(dict.fromkeys([*self.words, *words]))
        if len(more.words) > len(self.words):
            more._tables = more._build()
        return more

    def start(self, batch: int) -> WordState:
        """Return `batch` rows at a sentence's start."""
        return self._state(np.full(batch, BETWEEN), np.full(batch, self._ngram.start))

    def score(self, state: WordState) -> Float64s:
        """Return `(row, token)` natural logs; column 0 is the sentence's end."""
        return state.scores

    def advance(self, state: WordState, parents: Ints, tokens: Ints) -> WordState:
        """Return the states of new rows, see `Scorer`."""
        tables = self._tables
        places, scores = state.places.take(parents, axis=0), state.scores.take(parents, axis=0)
        (rows,) = tokens.nonzero()
        node, context, context_after = places.take(rows, axis=0).T
        token = tokens.take(rows)
        node = tables.next_node.take(node * tables.next_node.shape[1] + token).astype(np.int64)
        context = np.where(tables.opens_word.take(token), context_after, context)
        places[rows], scores[rows] = self._state(node, context)
        return WordState(places, scores)

    def _state(self, node: Ints, context: Ints) -> WordState:
        tables, between = self._tables, node == BETWEEN
        log_prob, context_after = self._ngram.look_up(context, tables.unit.take(node))
        # The word's log-probability if it ends here: 0 between words, −inf if it cannot.
        finish = np.where(between, 0.0, log_prob + tables.extra.take(node))
        context_after = np.where(between, context, context_after)

        ahead = tables.ahead.take(node)
        scores = tables.arrive.take(tables.next_node.take(node, axis=0))
        scores -= ahead[:, None]
        scores[:, tables.opening] += finish[:, None]
        scores[:, BLANK] = finish + tables.end.take(context_after) - ahead
        return WordState(np.stack([node, context, context_after], axis=1), scores)

    def _build(self) -> _Tables:
        trie = build_trie(self.words, self._tokens)
        units = np.array([self._unit(word) for word in self.words])
        no_word = trie.word == NO_WORD
        oov = self._sentence_end if self._oov_penalty is None else self._unit(UNKNOWN)  # −inf follows if closed
        extra = _IMPOSSIBLE if self._oov_penalty is None else -self._oov_penalty
        contexts = np.arange(len(self._ngram.backoff))
        best = trie.best_below(self._log_probs(np.zeros_like(units), units))
        if self._oov_penalty is not None:
            best = np.maximum(best, self._log_probs(np.array([0]), np.array([oov])) + extra)
        best[BETWEEN] = 0.0
        return _Tables(
            trie.next_node,
            trie.opens_word,
            trie.opens_word.nonzero()[0],
            self._log_probs(contexts, np.full_like(contexts, self._sentence_end)),
            best,
            np.where(best == _IMPOSSIBLE, 0.0, best),
            np.where(no_word, oov, units[trie.word]),
            np.where(no_word, extra, 0.0),
        )

    def _log_probs(self, contexts: Ints, units: Ints) -> Float64s:
        return self._ngram.look_up(contexts, units)[0]

    def _unit(self, word: str) -> int:
        """Return the n-gram's unit for a word."""
        unit = self._units.get(word, self._units.get(UNKNOWN))
        if unit is None:
            raise LanguageModelError(
                f"the language model has neither {word!r} nor {UNKNOWN}, so that it gives {word!r} no probability; "
                "estimate it with `asr lm ngram`, which adds <unk>, or leave the word out"
            )
        return unit
