"""Hotwords: expected words and phrases, each with a bonus, as a scorer of the beam search.

An automaton of the phrases reads a text character by character (`automaton.py`). Text and phrases have a space before,
after and between their words:

    text       " call anna lee now "
    phrases    " anna lee "   " lee "           both occur: their bonuses are added

The spaces make a phrase match whole words only. Every occurrence counts, overlapping ones too. A phrase is complete
only at the space after it, or at the end of the sentence. Until then a partial match lends a share of the bonus, so
that the beam keeps it:

    lent(node) = max over phrases that begin so:  bonus · characters matched / characters of the phrase

Moving from node to node adds the difference of what is lent. If the phrase fails, the automaton falls back, the loan is
taken back, and the sum is zero. If the phrase is completed, the bonus replaces the loan. A finished sentence has
exactly `Σ bonus(phrase) · occurrences(phrase)`, whichever tokens spell it.

A row's state is a node of the automaton. With few hotwords, two dense tables `(node, token)` hold what each token gains
and where it leads. With many, a row of gains is put together when a prefix of the beam needs it (`_SparseScorer`).

A script without spaces has no such ends of words. A phrase in it matches anywhere, and what is beside it ends a word of
another script:

    text       "我的iphone很好"
    phrases    "的"   "iphone"   "iphone很"   all occur, "phone" does not

The automaton then reads an edge, a sign of its own, before and after each character of such a script. A phrase that
begins or ends with a letter of another script is there once with a space at this end and once with an edge.

A closed vocabulary rules out a hotword that it lacks, with any bonus. `word_scorer.with_words(hotwords.words)` adds
the hotwords to the lexicon; they are scored as `<unk>` there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, pairwise
from numbers import Real
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.decoding.automaton import AFTER_OTHER, AFTER_SPACE, EDGE, Automaton, Phrase, TokenSigns, entries, ranges
from asr.decoding.frames import Float64s, Floats, Ints
from asr.decoding.scorers import Scorer, TableScorer
from asr.errors import ConfigError, TokenError
from asr.text.tokens import BLANK, SPACE, TokenTable, WordTable
from asr.text.units import is_written_without_spaces

# For hotwords without one. On AN4's dev set, bonuses of 4 to 6 find the most hotwords and add no errors, see
# benchmarks/hotwords.py.
DEFAULT_BONUS = 5.0

MOST_BONUS = 1000.0  # no text outweighs it, and sums of such bonuses keep their digits

# Dense tables are quicker for a few hotwords. Beyond this size, sparse ones take their place.
DENSE_BYTES = 64 * 2**20
_BYTES_PER_ENTRY = 8 + 8  # a float64 gain and an int64 node

_NAMED = 5  # phrases in an error
_SHOWN_CHARACTERS = 100


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


def parse_hotwords(given: Iterable[str]) -> dict[str, float]:
    """Return the bonus of each phrase of `PHRASE` or `PHRASE=BONUS`; if a phrase is given twice, the last one holds.

    Raises:
        ConfigError: the text after the `=` is not a number.
    """
    bonuses = {}
    for item in given:
        phrase, separator, bonus = item.partition("=")
        try:
            bonuses[phrase] = float(bonus) if separator else DEFAULT_BONUS
        except ValueError:
            raise ConfigError(f"{item!r}: {bonus!r} is not a number") from None
    return bonuses


class HotwordScorer:
    """Phrases with bonuses, as a `Scorer` of weight 1.

    Attributes:
        words: the words of the phrases, each once.
    """

    def __init__(self, bonuses: Mapping[str, float], tokens: TokenTable, *, dense_bytes: int = DENSE_BYTES) -> None:
        """Build the automaton.

        Args:
            bonuses: natural-log bonus of each phrase, words separated by spaces; above 0.
            tokens: the acoustic model's tokens.
            dense_bytes: the tables are dense if they take no more memory than this.

        Raises:
            TokenError: phrases are empty, or hold characters that are in no token.
            ConfigError: a bonus is not above 0, or is above `MOST_BONUS`.
        """
        phrases = _checked(bonuses, tokens)
        self.words = tuple(dict.fromkeys(word for phrase in phrases for word in phrase.split()))
        signs = _Signs(phrases, tokens.characters)
        automaton = Automaton(signs.of_phrases(phrases), signs.alphabet)
        token_signs = TokenSigns(["", *map(signs.of, tokens.texts[BLANK + 1 :])], automaton)
        sparse = _SparseScorer(_tables(automaton, token_signs), automaton.bases[AFTER_SPACE])
        is_small = len(automaton.parent) * len(tokens) * _BYTES_PER_ENTRY <= dense_bytes
        self._scorer: Scorer = sparse.dense() if is_small else sparse

    def start(self, batch: int) -> object:
        """Return `batch` rows at a sentence's start."""
        return self._scorer.start(batch)

    def score(self, state: object) -> Floats:
        """Return `(row, token)` float64 gains; column 0 is the sentence's end."""
        return self._scorer.score(state)

    def advance(self, state: object, parents: Ints, tokens: Ints) -> object:
        """Return the states of new rows, see `Scorer`."""
        return self._scorer.advance(state, parents, tokens)


def require_writable(phrase: str, tokens: TokenTable) -> None:
    """Refuse a phrase that the tokens cannot write.

    Raises:
        TokenError: with the reason.
    """
    _checked({phrase: DEFAULT_BONUS}, tokens)


def _checked(bonuses: Mapping[str, object], tokens: TokenTable) -> dict[str, float]:
    """Return the phrases with one space between words.

    Raises: as `HotwordScorer`.
    """
    phrases: dict[str, float] = {}
    alphabet = tokens.characters | {SPACE} if any(SPACE in text for text in tokens.texts) else tokens.characters
    strange: dict[str, list[str]] = {}
    for given, bonus in bonuses.items():
        phrase = SPACE.join(given.split())
        if not phrase:
            raise TokenError(f"the hotword {given!r} is empty")
        if not alphabet.issuperset(phrase):
            strange[given] = sorted(set(phrase) - alphabet)
        elif isinstance(tokens, WordTable):
            tokens.encode(phrase)  # an error for a word that is no token
        if not isinstance(bonus, Real) or not 0 < float(bonus) <= MOST_BONUS:
            raise ConfigError(
                f"the hotword {given!r} has the bonus {bonus!r}; give one above 0, at most {MOST_BONUS:g}"
            )
        phrases[phrase] = float(bonus)
    if strange:
        raise TokenError(_unwritable(strange, "".join(sorted(alphabet - {SPACE}))))
    return phrases


def _unwritable(strange: Mapping[str, Iterable[str]], known: str) -> str:
    """Return the message about phrases with the characters that no token holds."""
    named = [
        f"the hotword {phrase!r} holds {', '.join('a space' if sign == SPACE else repr(sign) for sign in signs)}"
        for phrase, signs in islice(strange.items(), _NAMED)
    ]
    more = f", and {len(strange) - _NAMED} more hold such characters" if len(strange) > _NAMED else ""
    known = known if len(known) <= _SHOWN_CHARACTERS else f"{known[:_SHOWN_CHARACTERS]}… ({len(known)} characters)"
    return f"{', '.join(named)}{more}; the model's tokens write only: {known}"


class _Signs:
    """Texts → the signs that the automaton reads."""

    def __init__(self, phrases: Iterable[str], characters: frozenset[str]) -> None:
        used = set().union(*phrases) - {SPACE}
        self._anywhere = frozenset(filter(_matches_anywhere, characters))
        # Without words of other scripts nobody asks for an edge, and there are half as many nodes.
        self._with_edges = self._anywhere if used - self._anywhere else frozenset()
        self.alphabet = sorted({*characters, SPACE, *([EDGE] if self._with_edges else [])})

    def of(self, text: str) -> str:
        """Return the signs of a text that follows a letter of a script with spaces; several spaces are one."""
        signs: list[str] = []
        for character in text:
            if character in self._with_edges:
                if not signs or signs[-1] not in (SPACE, EDGE):
                    signs.append(EDGE)
                signs += (character, EDGE)
            elif character != SPACE or signs[-1:] != [SPACE]:
                signs.append(character)
        return "".join(signs)

    def of_phrases(self, phrases: Mapping[str, float]) -> list[Phrase]:
        """Return the phrases, each with every kind of end that it may have in a text."""
        return [variant for phrase, bonus in phrases.items() for variant in self._variants(phrase, bonus)]

    def _variants(self, phrase: str, bonus: float) -> Iterator[Phrase]:
        ends = (SPACE, EDGE) if self._with_edges else (SPACE,)
        body = self.of(phrase).strip(EDGE)
        lent, matched = [], 0
        for sign in body:
            matched += sign != EDGE
            lent.append(bonus * matched / len(phrase))
        begins, is_over = phrase[0] in self._anywhere, phrase[-1] in self._anywhere
        if is_over:
            lent[-1] = 0.0  # it is complete there
        for before in ("",) if begins else ends:
            for behind in ("",) if is_over else ends:
                yield Phrase(before + body + behind, bonus, [*([0.0] * len(before)), *lent, *([0.0] * len(behind))])


def _matches_anywhere(character: str) -> bool:
    """Return whether a word ends beside a character without a space: a letter or a stop of a script without spaces."""
    if is_written_without_spaces(character):
        return True
    return unicodedata.category(character)[0] == "P" and unicodedata.east_asian_width(character) in "WF"


class _Tables(NamedTuple):
    """The automaton as arrays. A node's `end` is the sign that its text ends with, for instance `AFTER_SPACE`."""

    end: Ints  # (node,)
    lent: Float64s  # (node,)
    by_space: Float64s  # (node,), what a space earns
    by_edge: Float64s  # (node,), what an edge earns
    shorter: Ints  # (node,), the longest of its fallbacks that has entries, −1 for none
    base_gains: Float64s  # (end, token), of the bases, if they lent nothing
    base_next: Ints  # (end, token)
    begins_with_space: Float64s  # (token,), 1 or 0
    begins_with_edge: Float64s  # (token,), 1 or 0
    first: Ints  # (node + 1,), the first entry of each node
    keys: Ints  # (entry,), ascending: node · tokens + token; the last is the greatest integer
    gains: Float64s  # (entry,)
    next_node: NDArray[np.int32]  # (entry,), −1 if a fallback says it


def _tables(automaton: Automaton, tokens: TokenSigns) -> _Tables:
    count = len(tokens.texts[AFTER_OTHER])
    found = entries(automaton, tokens)
    first = np.searchsorted(found.key, np.arange(len(automaton.parent) + 1) * count)
    shorter = np.full(len(automaton.parent), -1)
    for begin, beyond in pairwise(automaton.levels):
        fallback = automaton.fallback[begin:beyond]
        has_entries = first[fallback + 1] > first[fallback]
        shorter[begin:beyond] = np.where(has_entries, fallback, shorter[fallback])
    base_gains, base_next = zip(*map(automaton.read, automaton.bases, tokens.texts), strict=True)
    return _Tables(
        automaton.ends,
        automaton.lent,
        automaton.earned_by(SPACE),
        automaton.earned_by(EDGE),
        shorter,
        np.stack(base_gains),
        np.stack(base_next),
        _begin_with(SPACE, tokens),
        _begin_with(EDGE, tokens),
        first,
        np.append(found.key, np.iinfo(np.int64).max),
        np.append(found.gain, 0.0),
        np.append(found.next_node, np.int32(-1)),
    )


def _begin_with(sign: str, tokens: TokenSigns) -> Float64s:
    return np.array([text[:1] == sign for text in tokens.texts[AFTER_OTHER]], np.float64)


class _SparseState(NamedTuple):
    """Where each row is, and its gains."""

    node: Ints  # (row,)
    gains: Float64s  # (row, token)


class _SparseScorer:
    """The automaton as a `Scorer` without dense tables; see the top of `automaton.py`.

    In most frames most rows stay as they are. The state keeps their gains, and the tables are read only for rows that
    took a token.
    """

    def __init__(self, tables: _Tables, start: int) -> None:
        self._tables, self._start = tables, start
        self._count = tables.base_gains.shape[1]

    def start(self, batch: int) -> _SparseState:
        node = np.full(batch, self._start)
        return _SparseState(node, self._gains(node))

    def score(self, state: _SparseState) -> Float64s:
        return state.gains

    def advance(self, state: _SparseState, parents: Ints, tokens: Ints) -> _SparseState:
        node, gains = state.node.take(parents), state.gains.take(parents, axis=0)
        (rows,) = tokens.nonzero()
        after = self._after(node.take(rows), tokens.take(rows))
        node[rows], gains[rows] = after, self._gains(after)
        return _SparseState(node, gains)

    def dense(self) -> TableScorer:
        """Return the same scorer as dense tables."""
        nodes = np.arange(len(self._tables.lent))
        next_states = self._tables.base_next.take(self._tables.end, axis=0)
        for row, node in reversed(list(self._with_fallbacks(nodes))):  # the longest has the last word
            which, entry = self._entries(node)
            leads = self._tables.next_node.take(entry) >= 0
            which, entry = which[leads], entry[leads]
            next_states.reshape(-1)[self._place(row, node, which, entry)] = self._tables.next_node.take(entry)
        next_states[:, BLANK] = nodes
        return TableScorer(self._gains(nodes), next_states, self._start)

    def _gains(self, node: Ints) -> Float64s:
        """Return `(row, token)` gains of nodes; column 0 is the sentence's end."""
        tables = self._tables
        lent, by_space = tables.lent.take(node), tables.by_space.take(node)
        gains = tables.base_gains.take(tables.end.take(node), axis=0)
        gains -= lent[:, None]
        gains += by_space[:, None] * tables.begins_with_space
        gains += tables.by_edge.take(node)[:, None] * tables.begins_with_edge
        for row, with_entries in self._with_fallbacks(node):
            which, entry = self._entries(with_entries)
            # No row has two entries of one token here, so that each place is added to once.
            gains.reshape(-1)[self._place(row, with_entries, which, entry)] += tables.gains.take(entry)
        gains[:, BLANK] = by_space - lent
        return gains

    def _after(self, node: Ints, token: Ints) -> Ints:
        """Return the nodes after tokens that are not the blank; all `(row,)`."""
        tables = self._tables
        after: Ints = tables.base_next.take(tables.end.take(node) * self._count + token)
        is_open = np.ones(len(node), bool)
        for row, with_entries in self._with_fallbacks(node):
            key = with_entries * self._count + token.take(row)
            entry = np.searchsorted(tables.keys, key)
            next_node = tables.next_node.take(entry)
            leads = (tables.keys.take(entry) == key) & (next_node >= 0) & is_open.take(row)
            after[row[leads]], is_open[row[leads]] = next_node[leads], False
        return after

    def _with_fallbacks(self, node: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Yield all rows and their nodes, then those with a fallback that has entries and these, and so on."""
        row = np.arange(len(node))
        while len(row):
            yield row, node
            node = self._tables.shorter.take(node)
            exists = node >= 0
            row, node = row[exists], node[exists]

    def _entries(self, node: Ints) -> tuple[Ints, Ints]:
        """Return all entries of nodes, and before them which node each belongs to."""
        return ranges(self._tables.first.take(node), self._tables.first.take(node + 1))

    def _place(self, row: Ints, node: Ints, which: Ints, entry: Ints) -> Ints:
        """Return the places of entries in a flat `(row, token)` array."""
        places: Ints = self._tables.keys.take(entry) + (row - node).take(which) * self._count
        return places
