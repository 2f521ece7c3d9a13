"""A grammar → a deterministic automaton over a model's tokens, whose paths are the texts that may be said.

It is made in three steps.

1. The expressions become an automaton over characters that may be in several states at once. Before each word it reads
   a space; at a text's beginning there is none, and where a script writes no spaces it may be missing. A rule that
   ends with itself leads back to its beginning (right recursion). Any other recursion needs a stack, so it is refused.
2. States that it may be in together become one state. Each character then leads to at most one state. A state keeps
   how far the weights of those in it are behind the greatest, so the weight of a text is that of its best reading.
   States from which no text can be finished are removed.
3. From each state, the tokens are read as far as the characters lead.

Step 2 may need very many states, and with weights in loops endlessly many. Step 1 may, too: ten rules that each use the
next one twice are a thousand copies of the last. So there is a limit.

Sources: Hopcroft, Motwani & Ullman 2001, section 2.3 (subset construction); Mohri 1997, "Finite-state transducers in
language and speech processing", section 3.3 (with weights).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from asr.decoding.frames import Float64s, Ints
from asr.errors import LanguageModelError, TokenError
from asr.lm.grammar import Grammar
from asr.lm.jsgf import Choice, Expression, Reference, Repeated, Sequence, Words
from asr.reading import shown
from asr.text.tokens import BLANK, SPACE, TokenTable
from asr.text.units import is_written_without_spaces

MOST_STATES = 500_000
_MOST_WORK = 20 * MOST_STATES  # states that are visited to find which ones go together
_MOST_DEPTH = 100  # of rules that refer to rules
_START, _END = 0, 1
_DIGITS = 9  # of a weight; states are the same if they differ by less


@dataclass(frozen=True)
class Arcs:
    """The arcs of a deterministic automaton, by state and then by label. State 0 is the start.

    Attributes:
        source, label, target: `(arc,)`; a label is a character's code or a token.
        weight: `(arc,)` natural logs, at most 0.
        final: `(state,)`, the weight of a text that ends here; −inf where none does.
        first: `(state + 1,)`, the first arc of each state, and at last the number of arcs.
    """

    source: Ints
    label: Ints
    target: Ints
    weight: Float64s
    final: Float64s
    first: Ints

    @classmethod
    def of(cls, source: Ints, label: Ints, target: Ints, weight: Float64s, final: Float64s) -> Arcs:
        """Return the arcs in their order."""
        order = np.lexsort((label, source))
        first = np.searchsorted(source[order], np.arange(len(final) + 1))
        return cls(source[order], label[order], target[order], weight[order], final, first)


def compile_grammar(grammar: Grammar, tokens: TokenTable, normalise: Callable[[str], str]) -> Arcs:
    """Return the automaton of a grammar over a model's tokens.

    Args:
        grammar: what may be said.
        tokens: the model's.
        normalise: writes a text as the model's transcripts are written.

    Raises:
        TokenError: words hold a character that is in no token, or nothing of them is left. The message names the line.
        LanguageModelError: a rule refers to itself elsewhere than at its end, nothing can be said, or the automaton
            would be too large.
    """
    unsettled = _Unsettled(grammar, tokens, normalise)
    opening_space = any(text.startswith(SPACE) and text != SPACE for text in tokens.texts[BLANK + 1 :])
    characters = _trimmed(_determined(unsettled, grammar.name, opening_space=opening_space), grammar.name)
    return _over_tokens(characters, tokens)


class _Unsettled:
    """An automaton over characters that may be in several states at once.

    Attributes:
        silent: of each state, the states that it also is, with weights.
        spoken: of each state, the characters that lead on, each with its state.
    """

    def __init__(self, grammar: Grammar, tokens: TokenTable, normalise: Callable[[str], str]) -> None:
        self._grammar, self._tokens, self._normalise = grammar, tokens, normalise
        self.silent: list[list[tuple[int, float]]] = [[], []]
        self.spoken: list[list[tuple[str, int]]] = [[], []]
        root, self._rules = grammar.expressions
        self._add(root, _START, _END, {})

    def _state(self) -> int:
        if len(self.spoken) == MOST_STATES:
            raise LanguageModelError(_too_large(self._grammar.name))
        self.silent.append([])
        self.spoken.append([])
        return len(self.spoken) - 1

    def _add(self, what: Expression, start: int, end: int, open_rules: dict[str, tuple[int, int]]) -> None:
        """Let an expression lead from a state to another one; `open_rules` are those that it is in."""
        if isinstance(what, Words):
            self._add_words(what, start, end)
        elif isinstance(what, Sequence):
            for place, item in enumerate(what.items, 1):
                after = end if place == len(what.items) else self._state()
                self._add(item, start, after, open_rules)
                start = after
            if not what.items:
                self.silent[start].append((end, 0.0))
        elif isinstance(what, Choice):
            for item, weight in what.items:
                begin = start
                if not isinstance(item, Words) or weight != 0:
                    begin = self._state()
                    self.silent[start].append((begin, weight))
                self._add(item, begin, end, open_rules)
        elif isinstance(what, Repeated):
            loop = self._state()
            self.silent[start].append((loop, 0.0))
            self._add(what.item, loop, loop, open_rules)
            self.silent[loop].append((end, 0.0))
        else:
            self._add_rule(what, start, end, open_rules)

    def _add_rule(self, what: Reference, start: int, end: int, open_rules: dict[str, tuple[int, int]]) -> None:
        place = f"{self._grammar.name}:{what.line}"
        if what.rule in open_rules:
            begin, its_end = open_rules[what.rule]
            if end != its_end:
                raise LanguageModelError(
                    f"{place}: the rule <{what.rule}> refers to itself elsewhere than at its end, which needs a "
                    "memory that the search does not have; write the repetition with * or +"
                )
            self.silent[start].append((begin, 0.0))
            return
        if len(open_rules) == _MOST_DEPTH:
            raise LanguageModelError(f"{place}: rules refer to rules deeper than {_MOST_DEPTH} levels")
        begin = self._state()
        self.silent[start].append((begin, 0.0))
        self._add(self._rules[what.rule], begin, end, {**open_rules, what.rule: (begin, end)})

    def _add_words(self, what: Words, start: int, end: int) -> None:
        words = self._normalise(what.text).split()
        place = f"{self._grammar.name}:{what.line}"
        if not words:
            raise TokenError(f"{place}: {shown(what.text)} is empty when written as the model's transcripts are")
        if len(self._tokens.spellable(words)) < len(words):
            (word, *_) = [word for word in words if not self._tokens.spellable([word])]
            raise TokenError(
                f"{place}: {shown(word)} cannot be written in the model's tokens, because its training text has no "
                "such characters or words; write it as it is spoken, or leave it out"
            )
        for number, word in enumerate(words, 1):
            here = self._state()
            self.spoken[start].append((SPACE, here))
            if is_written_without_spaces(word[0]):
                self.silent[start].append((here, 0.0))
            for character in word[:-1]:
                after = self._state()
                self.spoken[here].append((character, after))
                here = after
            start = end if number == len(words) else self._state()
            self.spoken[here].append((word[-1], start))


class _Together:
    """States that an automaton may be in together, numbered as they are found."""

    def __init__(self, unsettled: _Unsettled, name: str) -> None:
        self._unsettled, self._name = unsettled, name
        self._numbers: dict[tuple[tuple[int, float], ...], int] = {}
        self._work = 0
        self.pending: list[dict[int, float]] = []

    def number(self, states: dict[int, float]) -> int:
        """Return the number of states with their weights, of which the greatest is 0."""
        key = tuple(sorted(states.items()))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.pending)
            self.pending.append(states)
        return number

    def with_silent(self, states: dict[int, float]) -> dict[int, float]:
        """Return the states and those that they also are, each with its greatest weight."""
        silent = self._unsettled.silent
        found, left = dict(states), list(states)
        while left:
            state = left.pop()
            self._work += 1  # not once a state: by its weights, one may be reached better again and again
            if self._work > _MOST_WORK:
                raise LanguageModelError(_too_large(self._name))
            for other, weight in silent[state]:
                reached = found[state] + weight
                if reached > found.get(other, -np.inf):
                    found[other] = reached
                    left.append(other)
        if len(self.pending) > MOST_STATES:
            raise LanguageModelError(_too_large(self._name))
        return found

    def spoken(self, states: dict[int, float]) -> dict[str, dict[int, float]]:
        """Return the states after each character, with their weights."""
        after: dict[str, dict[int, float]] = {}
        for state, weight in states.items():
            for sign, target in self._unsettled.spoken[state]:
                found = after.setdefault(sign, {})
                found[target] = max(found.get(target, weight), weight)
        return after


def _determined(unsettled: _Unsettled, name: str, *, opening_space: bool) -> Arcs:
    """Return the automaton in which a character leads to one state.

    Args:
        unsettled: the automaton that may be in several.
        name: of the grammar, for messages.
        opening_space: whether a text may begin with a space, as tokens that are pieces or words do.
    """
    together = _Together(unsettled, name)
    together.number({_START: 0.0})
    arcs: list[tuple[int, int, int, float]] = []
    final: list[float] = []
    while len(final) < len(together.pending):
        place = len(final)
        states = together.with_silent(together.pending[place])
        after = together.spoken(states)
        if place == 0:  # the space before the first word need not be there, and silence is nothing that is said
            states.pop(_END, None)
            without_space = together.spoken(together.with_silent(after.get(SPACE, {})))
            after = {**without_space, **({SPACE: after[SPACE]} if opening_space and SPACE in after else {})}
        final.append(states.get(_END, -np.inf))
        for sign, targets in after.items():
            best = max(targets.values())
            number = together.number({one: round(weight - best, _DIGITS) for one, weight in targets.items()})
            arcs.append((place, ord(sign), number, best))
    table = np.array(arcs).reshape(-1, 4)
    source, label, target = table[:, :3].astype(np.int64).T
    return Arcs.of(source, label, target, table[:, 3], np.array(final))


def _trimmed(arcs: Arcs, name: str) -> Arcs:
    """Return the automaton without the states from which no text can be finished.

    Raises:
        LanguageModelError: nothing can be said.
    """
    sources: list[list[int]] = [[] for _ in arcs.final]
    for source, target in zip(arcs.source.tolist(), arcs.target.tolist(), strict=True):
        sources[target].append(source)
    left = np.flatnonzero(arcs.final > -np.inf).tolist()
    alive = set(left)
    while left:
        for source in sources[left.pop()]:
            if source not in alive:
                alive.add(source)
                left.append(source)
    if _START not in alive:
        raise LanguageModelError(f"{name}: nothing can be said by this grammar: each rule needs an end, and words")
    if len(alive) == len(arcs.final):
        return arcs
    kept = np.array(sorted(alive))
    number = np.full(len(arcs.final), -1)
    number[kept] = np.arange(len(kept))
    source, target = number[arcs.source], number[arcs.target]
    both = (source >= 0) & (target >= 0)
    return Arcs.of(source[both], arcs.label[both], target[both], arcs.weight[both], arcs.final[kept])


def _over_tokens(characters: Arcs, tokens: TokenTable) -> Arcs:
    """Return the automaton whose labels are tokens, each of which is read character by character."""
    number = {"": 0}  # of each beginning of a token
    children: dict[int, int] = {}  # beginning and character → longer beginning
    token_at: dict[int, int] = {}
    for token, text in enumerate(tokens.texts[BLANK + 1 :], BLANK + 1):
        for length in range(1, len(text) + 1):
            if text[:length] not in number:
                number[text[:length]] = len(number)
                children[number[text[: length - 1]] << 21 | ord(text[length - 1])] = number[text[:length]]
        token_at[number[text]] = token
    keys = np.array(sorted(children))
    longer = np.array([children[key] for key in keys.tolist()])
    token_of = np.full(len(number), BLANK)
    token_of[list(token_at)] = list(token_at.values())

    origin = here = np.arange(len(characters.final))
    beginning, weight = np.zeros_like(here), np.zeros(len(here))
    found: list[tuple[Ints, Ints, Ints, Float64s]] = []
    while len(here):
        counts = characters.first[here + 1] - characters.first[here]
        arc = np.arange(counts.sum()) + (characters.first[here] - np.cumsum(counts) + counts).repeat(counts)
        key = beginning.repeat(counts) << 21 | characters.label[arc]
        place = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
        exists = keys[place] == key
        arc, beginning = arc[exists], longer[place[exists]]
        origin, here = origin.repeat(counts)[exists], characters.target[arc]
        weight = weight.repeat(counts)[exists] + characters.weight[arc]
        ends = token_of[beginning] != BLANK
        found.append((origin[ends], token_of[beginning[ends]], here[ends], weight[ends]))
    sources, labels, targets, weights = zip(*found, strict=True)
    arcs = np.concatenate(sources), np.concatenate(labels), np.concatenate(targets), np.concatenate(weights)
    return Arcs.of(*arcs, characters.final)


def _too_large(name: str) -> str:
    return (
        f"{name}: the grammar would need more than {MOST_STATES:,} states; give fewer or shorter phrases, use rules "
        "fewer times, or leave out weights within * and +"
    )
