"""The word n-gram through a lexicon against the model's own word-by-word scores, and cases worked by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from enumeration import LETTERS, log_softmax, word_score

from asr.decoding import word_scorer as trie
from asr.decoding.beam import BeamOptions, beam_search
from asr.decoding.hotwords import HotwordScorer
from asr.decoding.ngram_scorer import backoff_table
from asr.decoding.scorers import WeightedScorer
from asr.decoding.word_scorer import WordNgramScorer
from asr.errors import LanguageModelError, TokenError
from asr.lm.kneser_ney import kneser_ney
from asr.lm.ngram import LOG10_ZERO, SENTENCE_END, SENTENCE_START, UNKNOWN, NgramEntry, NgramLm
from asr.text.tokens import TokenTable

SENTENCES = [text.split() for text in ("the cat sat", "the dog sat", "a cat ate the dog", "the cathedral", "a dog")]
LM = kneser_ney(SENTENCES, 3)
LM_WORDS = sorted(set().union(*SENTENCES))
ENGLISH = TokenTable.from_texts([" abcdefghijklmnopqrstuvwxyz"])


@pytest.mark.parametrize("oov_penalty", [None, 3.0])
def test_the_scores_of_a_long_sentence_add_up_to_the_models(oov_penalty: float | None) -> None:
    rng = random.Random(1)
    scorer = WordNgramScorer(LM, ENGLISH, oov_penalty=oov_penalty)
    words = rng.choices([*scorer.words, *(["catx", "do", "zebra"] if oov_penalty else [])], k=300)
    text = "  " + "".join(word + " " * rng.randint(1, 2) for word in words)
    state, total, row = scorer.start(1), 0.0, np.array([0])
    for token in ENGLISH.encode(text):
        total += scorer.score(state)[0, token].item()
        state = scorer.advance(state, row, np.array([token]))
    total += scorer.score(state)[0, 0].item()
    assert total == pytest.approx(word_score(LM, words, set(scorer.words), oov_penalty), abs=1e-8)


def test_within_a_word_the_prefix_counts_as_much_as_the_best_word_that_begins_so() -> None:
    scorer, row = WordNgramScorer(LM, ENGLISH), np.array([0])
    state, total = scorer.start(1), 0.0
    for token in ENGLISH.encode("cat"):
        total += scorer.score(state)[0, token].item()
        state = scorer.advance(state, row, np.array([token]))
    assert total == pytest.approx(max(LM.log_prob([], "cat"), LM.log_prob([], "cathedral")))
    allowed = {ENGLISH.symbols[token] for token in np.flatnonzero(np.isfinite(scorer.score(state)[0]))}
    assert allowed == {"<blank>", " ", "h"}  # the sentence's end, the word's end, "cathedral"


@pytest.mark.parametrize("beam_size", [2, 8, 30])
def test_a_closed_vocabulary_emits_no_word_outside(beam_size: int) -> None:
    scorer = WeightedScorer(WordNgramScorer(LM, ENGLISH), 0.5)
    rng = np.random.default_rng(beam_size)
    # Noise, in which the searched text stands out, now and then by the wrong letter.
    text = np.array(ENGLISH.encode("the cat ate the dog a cathedral"))
    log_posteriors = rng.normal(size=(16, len(text), len(ENGLISH)))
    log_posteriors[:, np.arange(len(text)), text] += 5.0
    log_posteriors = log_softmax(log_posteriors)
    for hypotheses in beam_search(
        log_posteriors, np.array([len(text)] * 16), BeamOptions(beam_size=beam_size), [scorer]
    ):
        for hypothesis in hypotheses:
            assert set(ENGLISH.decode(hypothesis.tokens).split()) <= set(scorer.scorer.words)


@pytest.mark.parametrize(
    ("heard", "expected"), [("the cat sat on", "the cat sat "), ("cathed", "cat"), ("on", ""), ("a dog", "a dog")]
)
def test_where_a_recording_ends_within_a_word_the_longest_finished_beginning_is_left(heard: str, expected: str) -> None:
    tokens = np.array(ENGLISH.encode(heard))
    log_posteriors = log_softmax(9.0 * np.eye(len(ENGLISH))[tokens])[None]
    scorers = [WeightedScorer(WordNgramScorer(LM, ENGLISH, [*LM_WORDS, "once"]), 0.5)]
    [hypotheses] = beam_search(
        log_posteriors, np.array([len(tokens)]), BeamOptions(beam_size=1, insertion_bonus=0.2), scorers
    )
    [best] = hypotheses
    assert "".join(ENGLISH.symbols[token] for token in best.tokens) == expected
    assert best.lm_score == pytest.approx(0.5 * word_score(LM, expected.split(), set(LM_WORDS), None))
    assert best.score == pytest.approx(best.acoustic_score + best.lm_score + 0.2 * len(expected))
    assert best.frames == tuple(range(len(expected)))


def test_a_hotword_that_the_lexicon_lacks_is_found_once_its_words_are_added() -> None:
    text = "the ann sat"
    tokens = np.array(ENGLISH.encode(text.replace("nn", "n") + " "))  # the acoustics hear "an"
    log_posteriors = (8.0 * np.eye(len(ENGLISH))[tokens]).repeat(2, axis=0)
    log_posteriors[::2, 0] += 4.0
    log_posteriors = log_softmax(log_posteriors)[None]
    hotwords = HotwordScorer({"ann": 6.0}, ENGLISH)
    closed = WordNgramScorer(LM, ENGLISH)

    def best(*scorers: WeightedScorer) -> str:
        lengths = np.array([log_posteriors.shape[1]])
        [[hypothesis, *_]] = beam_search(log_posteriors, lengths, BeamOptions(beam_size=50), scorers)
        return ENGLISH.decode(hypothesis.tokens)

    assert best(WeightedScorer(closed, 0.5), WeightedScorer(hotwords, 1.0)) != text
    assert best(WeightedScorer(closed.with_words(hotwords.words), 0.5), WeightedScorer(hotwords, 1.0)) == text
    assert closed.words == WordNgramScorer(LM, ENGLISH).words  # the scorer itself stays as it was


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_a_look_up_is_the_models_back_off_for_any_history(order: int) -> None:
    rng = random.Random(order)
    lm = kneser_ney(SENTENCES, order)
    table, units = backoff_table(lm)
    vocabulary = [unit for unit in units if unit not in (SENTENCE_START, SENTENCE_END)]
    context, histories = np.full(20, table.start), [[SENTENCE_START] for _ in range(20)]
    for _ in range(30):
        chosen = rng.choices(vocabulary, k=20)
        log_prob, context = table.look_up(context, np.array([units[unit] for unit in chosen]))
        expected = [lm.log_prob(history, unit) for history, unit in zip(histories, chosen, strict=True)]
        assert log_prob.tolist() == pytest.approx(expected, abs=1e-9)
        for history, unit in zip(histories, chosen, strict=True):
            history.append(unit)


def test_contexts_cut_from_the_middle_back_off() -> None:
    # Pruned models may list "a b c" without "b c".
    lm = NgramLm(
        (
            {
                (SENTENCE_START,): NgramEntry(LOG10_ZERO, -0.1),
                (SENTENCE_END,): NgramEntry(-0.5),
                ("a",): NgramEntry(-0.6, -0.2),
                ("b",): NgramEntry(-0.7, -0.3),
                ("c",): NgramEntry(-0.8, -0.4),
            },
            {(SENTENCE_START, "a"): NgramEntry(-0.4, -0.15), ("a", "b"): NgramEntry(-0.25, -0.35)},
            {("a", "b", "c"): NgramEntry(-0.05)},
        )
    )
    table, units = backoff_table(lm)
    for text in ("abca", "babac", "bacba", "cabcbac"):
        context, history = np.array([table.start]), [SENTENCE_START]
        for unit in text:
            log_prob, context = table.look_up(context, np.array([units[unit]]))
            assert log_prob.item() == pytest.approx(lm.log_prob(history, unit))
            history.append(unit)


def test_words_that_the_tokens_cannot_write_are_left_out_of_the_models_vocabulary() -> None:
    lm = kneser_ney([["ab", "naïve"], ["ba"]], 2)
    assert set(WordNgramScorer(lm, LETTERS).words) == {"ab", "ba"}
    with pytest.raises(TokenError, match="'naïve' cannot be written"):
        WordNgramScorer(lm, LETTERS, ["naïve"])
    with pytest.raises(LanguageModelError, match="none of the language model's words can be written"):
        WordNgramScorer(kneser_ney([["xyz"]], 1), LETTERS)


def test_without_unk_a_word_that_the_model_lacks_is_refused_by_name() -> None:
    lm = NgramLm(({(SENTENCE_END,): NgramEntry(-0.3), ("a",): NgramEntry(-0.3)},))
    assert UNKNOWN not in backoff_table(lm)[1]
    for refused in (
        lambda: WordNgramScorer(lm, LETTERS, ["b"]),
        lambda: WordNgramScorer(lm, LETTERS).with_words(["b"]),
    ):
        with pytest.raises(LanguageModelError, match="neither 'b' nor <unk>"):
            refused()
    with pytest.raises(LanguageModelError, match="<unk>"):
        WordNgramScorer(lm, LETTERS, oov_penalty=3.0)
    assert WordNgramScorer(lm, LETTERS).words == ("a",)


def test_a_word_of_probability_zero_leaves_numbers_behind_it() -> None:
    lm = NgramLm(({(SENTENCE_END,): NgramEntry(-0.3), ("a",): NgramEntry(-math.inf), ("b",): NgramEntry(-0.3)},))
    scorer = WordNgramScorer(lm, LETTERS)
    state = scorer.start(1)
    for token in LETTERS.encode("aa b"):
        assert not np.isnan(scorer.score(state)).any()
        state = scorer.advance(state, np.array([0]), np.array([token]))


def test_a_lexicon_that_would_not_fit_is_refused_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trie, "MAX_TABLE_BYTES", 1000)
    with pytest.raises(LanguageModelError, match=r"a lexicon of 7 words with 28 tokens takes .* GiB"):
        WordNgramScorer(LM, ENGLISH)
