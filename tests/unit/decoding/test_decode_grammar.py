"""The automaton of a grammar against the enumeration of its texts, and its search against CTC's forward algorithm."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping
from contextlib import suppress

import numpy as np
import pytest
import torch
from enumeration import LETTERS, PIECES, WORDS, enumerate_sequences, random_posteriors
from hypothesis import given, settings
from hypothesis import strategies as st

import asr
from asr.decoding import grammar_automaton
from asr.decoding.grammar_automaton import compile_grammar
from asr.decoding.grammar_search import GrammarScorer, GrammarSearch
from asr.errors import LanguageModelError, TokenError
from asr.lm.grammar import Grammar
from asr.text.tokens import SPACE, TokenTable

HEAD = "#JSGF V1.0;\ngrammar g;\n"
LONGEST = 4  # words, in what is enumerated
Texts = Mapping[tuple[str, ...], float]  # the words of a text → its log-weight


def jsgf(rules: str) -> Grammar:
    return Grammar("g.jsgf", HEAD + rules)


def searching(grammar: Grammar, tokens: TokenTable = LETTERS, threshold: float = -math.inf) -> GrammarSearch:
    return GrammarSearch(compile_grammar(grammar, tokens, str), tokens, threshold)


def weight_of(scorer: GrammarScorer, tokens: tuple[int, ...]) -> float:
    """Return what the scorer says of a whole token sequence."""
    state, total = scorer.start(1), 0.0
    for token in tokens:
        total += float(scorer.score(state)[0, token])
        if total == -math.inf:
            return total
        state = scorer.advance(state, np.zeros(1, np.int64), np.array([token]))
    return total + float(scorer.score(state)[0, 0])


# A second implementation: texts as sets, up to a number of words.


def joined(left: Texts, right: Texts) -> Texts:
    texts: dict[tuple[str, ...], float] = {}
    for (a, weight_a), (b, weight_b) in itertools.product(left.items(), right.items()):
        if len(a) + len(b) <= LONGEST:
            texts[a + b] = max(texts.get(a + b, -math.inf), weight_a + weight_b)
    return texts


def any_of(several: list[Texts]) -> Texts:
    texts: dict[tuple[str, ...], float] = {}
    for text, weight in itertools.chain.from_iterable(one.items() for one in several):
        texts[text] = max(texts.get(text, -math.inf), weight)
    return texts


def repeated(texts: Texts) -> Texts:
    found: Texts = {(): 0.0}
    for _ in range(LONGEST):
        found = any_of([found, joined(found, texts)])
    return found


def _word(word: str) -> tuple[str, Texts]:
    return word, {(word,): 0.0}


def _sequence(items: list[tuple[str, Texts]]) -> tuple[str, Texts]:
    texts: Texts = {(): 0.0}
    for _, one in items:
        texts = joined(texts, one)
    return " ".join(text for text, _ in items), texts


def _choice(items: list[tuple[str, Texts]], weights: list[float] | None) -> tuple[str, Texts]:
    if weights is None:
        return f"({' | '.join(text for text, _ in items)})", any_of([texts for _, texts in items])
    pairs = list(zip(items, weights, strict=False))
    best = max(weight for _, weight in pairs)
    shifted = [{text: value + math.log(weight / best) for text, value in texts.items()} for (_, texts), weight in pairs]
    return f"({' | '.join(f'/{weight}/ {text}' for (text, _), weight in pairs)})", any_of(shifted)


def grammars(weighted: bool) -> st.SearchStrategy[tuple[str, Texts]]:
    weights = st.lists(st.sampled_from([0.25, 0.5, 1.0, 3.0]), min_size=3, max_size=3) if weighted else st.none()

    def larger(inner: st.SearchStrategy[tuple[str, Texts]]) -> st.SearchStrategy[tuple[str, Texts]]:
        several = st.lists(inner, min_size=1, max_size=3)
        kinds = [
            several.map(_sequence),
            st.builds(_choice, several, weights),
            inner.map(lambda item: (f"[{item[0]}]", any_of([item[1], {(): 0.0}]))),
        ]
        if not weighted:  # with weights in loops there may be endlessly many states
            kinds.append(inner.map(lambda item: (f"({item[0]})*", repeated(item[1]))))
            kinds.append(inner.map(lambda item: (f"({item[0]})+", joined(item[1], repeated(item[1])))))
        return st.one_of(kinds)

    return st.recursive(st.sampled_from(["a", "b", "ab"]).map(_word), larger, max_leaves=8)


def assert_says(grammar: Grammar, texts: Texts, tokens: TokenTable) -> None:
    """Compare the automaton with the texts: all of up to `LONGEST` words, and no others."""
    scorer = None
    with suppress(LanguageModelError):
        scorer = GrammarScorer(compile_grammar(grammar, tokens, str), len(tokens))
    if scorer is None:
        assert not any(texts)
        with pytest.raises(LanguageModelError, match="nothing can be said"):
            searching(grammar, tokens)
        return
    for length in range(LONGEST + 1):
        for words in itertools.product(["a", "b", "ab"], repeat=length):
            expected = texts.get(words, -math.inf) if words else -math.inf
            assert weight_of(scorer, tuple(tokens.encode(" ".join(words)))) == pytest.approx(expected, abs=1e-6), words


@pytest.mark.parametrize("tokens", [LETTERS, PIECES, WORDS], ids=["letters", "pieces", "words"])
@settings(max_examples=100)
@given(grammar=grammars(weighted=False))
def test_the_automaton_allows_the_texts_of_the_grammar_and_no_others(
    tokens: TokenTable, grammar: tuple[str, Texts]
) -> None:
    text, texts = grammar
    assert_says(jsgf(f"public <x> = {text};"), texts, tokens)


@settings(max_examples=200)
@given(grammar=grammars(weighted=True))
def test_a_text_has_the_weight_of_its_best_reading(grammar: tuple[str, Texts]) -> None:
    text, texts = grammar
    assert_says(jsgf(f"public <x> = {text};"), texts, LETTERS)


def test_rules_refer_to_each_other_and_the_public_ones_are_said() -> None:
    grammar = jsgf("public <x> = a <y>; <y> = b | <z>; <z> = ab; public <u> = <y> <z>;")
    expected = {("a", "b"), ("a", "ab"), ("b", "ab"), ("ab", "ab")}
    assert_says(grammar, dict.fromkeys(expected, 0.0), LETTERS)


@pytest.mark.parametrize(
    "rules",
    [
        "public <x> = a <x> | b;",
        "public <x> = a <y> | b; <y> = <x>;",
        "public <x> = <x> | a [<x>] | <y>; <y> = b | a <x>;",
    ],
)
def test_a_rule_may_end_with_itself(rules: str) -> None:
    texts = {("a",) * count + ("b",): 0.0 for count in range(LONGEST)}
    if "[" in rules:
        texts |= {("a",) * count: 0.0 for count in range(1, LONGEST + 1)}
    assert_says(jsgf(rules), texts, LETTERS)


@pytest.mark.parametrize(
    ("rules", "line", "name"),
    [
        ("public <x> = <x> a | b;", 3, "x"),
        ("public <x> = a\n<x> b | ab;", 4, "x"),
        ("public <x> = a <y>;\n<y> = b <x> a | b;", 4, "x"),
        ("public <x> = a <x>* | b;", 3, "x"),
    ],
)
def test_other_recursion_is_refused_by_its_name(rules: str, line: int, name: str) -> None:
    with pytest.raises(LanguageModelError, match=rf"g.jsgf:{line}: the rule <{name}> refers to itself elsewhere"):
        searching(jsgf(rules))


def test_rules_that_never_end_say_nothing() -> None:
    assert_says(jsgf("public <x> = a <x>; public <y> = b <VOID> | ab;"), {("ab",): 0.0}, LETTERS)
    with pytest.raises(LanguageModelError, match=r"g.jsgf: nothing can be said"):
        searching(jsgf("public <x> = a <x>;"))


def test_words_are_written_as_the_transcripts_of_the_model() -> None:
    grammar = Grammar("g.txt", "A\n\nBABA")
    arcs = compile_grammar(grammar, LETTERS, lambda text: text.lower().replace("baba", "ab a"))
    search = GrammarSearch(arcs, LETTERS)
    assert [search.allows(text) for text in ("a", "ab a", "baba", "")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb a\na cb", r"g.txt:3: 'cb' cannot be written in the model's tokens"),
        ("a\n!\n", r"g.txt:2: '!' is empty when written as the model's transcripts are"),
        ("a\n\x1b[31m\n", r"g.txt:2: '\\x1b\[31m' cannot be written"),
    ],
)
def test_a_word_that_the_model_cannot_write_is_refused_by_its_line(text: str, message: str) -> None:
    with pytest.raises(TokenError, match=message):
        compile_grammar(Grammar("g.txt", text), LETTERS, lambda text: text.replace("!", ""))


def test_where_a_script_writes_no_spaces_they_may_be_missing() -> None:
    tokens = TokenTable.from_texts(["打开灯 on"])
    search = searching(jsgf("public <x> = 打开 (灯 | on);"), tokens)
    allowed = {text: search.allows(text) for text in ("打开灯", "打开 灯", "打开 on", "打开on")}
    assert allowed == {"打开灯": True, "打开 灯": True, "打开 on": True, "打开on": False}


@pytest.mark.parametrize(
    "rules",
    [
        "public <x> = <a>;"
        + "".join(f"<{a}> = <{b}> <{b}>;" for a, b in itertools.pairwise("abcdefghijklmn"))
        + "<n> = a;",
        "public <x> = (/1/ a | /0.5/ b)* a (a | b)*;" + "public <y> = ((/0.3/ a)* b | a (/0.7/ a)*)*;",
        "public <x> = (a | b)* a " + "(a | b) " * 24 + ";",
        "public <x> = " + "".join(f"(/1/ <NULL> | /{math.exp(-(2.0**-n))}/ <NULL>) " for n in range(30)) + "a;",
    ],
    ids=["copies", "weights in loops", "subsets", "ways to say nothing"],
)
def test_a_grammar_that_needs_too_many_states_is_refused_with_the_way_out(
    rules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grammar_automaton, "MOST_STATES", 3000)
    monkeypatch.setattr(grammar_automaton, "_MOST_WORK", 60_000)
    with pytest.raises(LanguageModelError, match=r"g.jsgf: the grammar would need more than 3,000 states; give fewer"):
        searching(jsgf(rules))


def test_rules_in_rules_have_a_greatest_depth() -> None:
    chain = "".join(f"<r{place}> = <r{place + 1}>;\n" for place in range(200))
    with pytest.raises(LanguageModelError, match="deeper than 100 levels"):
        searching(jsgf(f"public <x> = <r0>;\n{chain}<r200> = a;"))


def forward(log_posteriors: np.ndarray, tokens: list[int]) -> float:
    """Return the log-probability of a token sequence by torch's forward algorithm."""
    frames = torch.from_numpy(log_posteriors.astype(np.float64))[:, None]
    lengths = torch.tensor([len(log_posteriors)]), torch.tensor([len(tokens)])
    return -float(torch.nn.functional.ctc_loss(frames, torch.tensor([tokens]), *lengths, reduction="sum"))


@pytest.mark.parametrize("seed", range(30))
def test_a_wide_beam_finds_every_phrase_with_its_forward_probability(seed: int) -> None:
    rng = random.Random(seed)
    phrases = {
        " ".join("".join(rng.choices("ab", k=rng.randint(1, 3))) for _ in range(rng.randint(1, 2))) for _ in range(9)
    }
    (log_posteriors,) = random_posteriors(seed, rng.randint(6, 12), len(LETTERS))
    expected = {phrase: forward(log_posteriors, LETTERS.encode(phrase)) for phrase in phrases}
    expected = {phrase: score for phrase, score in expected.items() if math.isfinite(score)}
    search = searching(asr.load_grammar(sorted(phrases)))
    ((hypotheses, evidence),) = search.matches(log_posteriors[None], np.array([len(log_posteriors)]), 200)
    found = {LETTERS.decode(hypothesis.tokens): hypothesis.score for hypothesis in hypotheses}
    assert found == pytest.approx(expected, abs=1e-4)
    assert evidence == pytest.approx(np.logaddexp.reduce(list(expected.values())), abs=1e-4)
    assert LETTERS.decode(hypotheses[0].tokens) == max(expected, key=lambda phrase: expected[phrase])


@pytest.mark.parametrize("tokens", [LETTERS, PIECES], ids=["letters", "pieces"])
@pytest.mark.parametrize("seed", range(10))
def test_the_evidence_is_the_sum_over_all_token_sequences_that_spell_a_text_of_the_grammar(
    seed: int, tokens: TokenTable
) -> None:
    (log_posteriors,) = random_posteriors(seed, 5, len(tokens))
    texts = {"a", "b ab", "ab", "bab", "aab b"}
    total = [
        score
        for sequence, score in enumerate_sequences(log_posteriors).items()
        if _spelling("".join(tokens.texts[token] for token in sequence), tokens) in texts
    ]
    search = searching(asr.load_grammar(sorted(texts)), tokens)
    ((_, evidence),) = search.matches(log_posteriors[None], np.array([5]), 2000)
    assert evidence == pytest.approx(np.logaddexp.reduce(total), abs=1e-4)


def _spelling(text: str, tokens: TokenTable) -> str:
    """Return a text without the space that pieces begin with; one with other loose spaces is no spelling."""
    return text.removeprefix(SPACE) if tokens is PIECES else text


def test_weights_rank_texts_but_are_no_evidence() -> None:
    log_posteriors = np.log(np.array([[[0.2, 0.0, 0.3, 0.5]]]) + 1e-30)  # blank, space, a, b
    search = searching(jsgf("public <x> = /1/ a | /0.1/ b;"))
    ((hypotheses, evidence),) = search.matches(log_posteriors, np.array([1]), 8)
    assert [LETTERS.decode(one.tokens) for one in hypotheses] == ["a", "b"]
    assert [one.score for one in hypotheses] == pytest.approx([math.log(0.3), math.log(0.05)])
    assert evidence == pytest.approx(math.log(0.8))


@pytest.mark.parametrize(("threshold", "text"), [(-math.inf, "a"), (math.log(0.29), "a"), (math.log(0.31), "")])
def test_up_to_the_threshold_none_of_the_texts_was_said(threshold: float, text: str) -> None:
    log_posteriors = np.log(np.array([[[0.2, 0.0, 0.3, 0.5]]]) + 1e-30)
    ((best, *_),) = searching(asr.load_grammar(["a"]), LETTERS, threshold).search(log_posteriors, np.array([1]), 8)
    assert LETTERS.decode(best.tokens) == text
    assert best.score == pytest.approx(math.log(0.3 if text else 0.7))


def test_an_utterance_too_short_for_any_text_is_none_of_them_whatever_the_threshold() -> None:
    lengths = np.array([1, 3])
    log_posteriors = random_posteriors(0, 3, len(LETTERS), batch=2)
    short, long = searching(asr.load_grammar(["abb"]), threshold=-1e9).search(log_posteriors, lengths, 8)
    assert [one.tokens for one in short] == [()]
    assert short[0].score == 0.0
    assert [LETTERS.decode(one.tokens) for one in long] == [""]  # abb needs a blank between its two b


def test_ten_thousand_phrases_become_an_automaton_that_allows_just_them() -> None:
    rng = random.Random(0)
    tokens = TokenTable.from_texts(["abcdefghij "])
    texts = {" ".join("".join(rng.choices("abcdefghij", k=5)) for _ in range(3)) for _ in range(10_000)}
    search = searching(asr.load_grammar(sorted(texts)), tokens)
    assert all(search.allows(text) for text in itertools.islice(texts, 200))
    assert not any(search.allows(text[:-1]) for text in itertools.islice(texts, 200))
