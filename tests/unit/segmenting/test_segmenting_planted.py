"""Faults that are planted into a text: what they are, how those that escape are counted, what follows from them."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tone_recognizer import ToneDecoder, draw_phrases, record

from asr.config import TextSettings
from asr.inference.heard import hear
from asr.inference.long_alignment import align_words
from asr.segmenting.planted import _has_fault, _plant, _wrong_shares, suitable_strictness
from asr.segmenting.utterances import CutUtterance, Edges, Strictness, cut_utterances
from asr.text.written import WrittenWord, written, written_words


def test_about_a_tenth_of_the_words_gets_a_fault_and_the_others_keep_their_order():
    words = [WrittenWord(f"w{number}", 2 * number, 2 * number + 1) for number in range(5000)]
    origins, planted = _plant(words, ["other", "words"], random.Random(1))
    kept = [origin for origin in origins if origin is not None]
    assert kept == sorted(set(kept))
    assert [planted[place].spelled for place, origin in enumerate(origins) if origin is not None] == [
        words[origin].spelled for origin in kept
    ]
    strange = [one for one, origin in zip(planted, origins, strict=True) if origin is None]
    assert {one.spelled for one in strange} == {"other", "words"}
    assert len(words) - len(kept) == pytest.approx(5000 * 0.1 * 2 / 3, rel=0.15)  # replaced or dropped
    assert len(strange) == pytest.approx(5000 * 0.1 * 2 / 3, rel=0.15)  # replaced or added
    assert [one.start for one in planted] == list(range(len(planted)))


@pytest.mark.parametrize(
    ("origins", "first", "last", "expected"),
    [
        ([0, 1, 2, 3], 0, 3, False),
        ([0, None, 2, 3], 0, 3, True),  # replaced
        ([0, 1, None, 2], 1, 2, True),  # added
        ([0, 1, 3, 4], 0, 3, True),  # dropped
        ([0, 1, 3, 4], 2, 3, False),  # dropped before it
        ([None, 1, 2, None], 1, 2, False),  # faults on either side
        ([None, 1, 2, None], 0, 2, True),
    ],
)
def test_an_utterance_has_a_fault_if_its_words_do_not_follow_each_other(origins, first, last, expected):
    alignment = SimpleNamespace(words=[WrittenWord("x", place, place + 1) for place in range(len(origins))])
    assert _has_fault(CutUtterance(0.0, 1.0, first, last), alignment, origins) is expected


def test_the_share_of_wrong_words_is_that_of_the_faults_that_escape():
    accepted, right, wrong = np.array([0.0, 60.0, 80.0]), np.array([0.0, 40.0, 40.0]), np.array([0.0, 1.0, 10.0])
    # Of 20 words that got a fault beside them 1 escapes, of 40 there are 10. Of the text's 100 words 20 may be wrong.
    assert _wrong_shares(accepted, right, wrong, 100).tolist() == pytest.approx([1.0, 1 / 20 * 20 / 60, 10 / 40 / 4])


def test_what_a_poor_model_hears_is_judged_more_strictly(tmp_path: Path, loud_is_speech: None, rng):
    phrases = draw_phrases(40, rng)
    record(tmp_path / "talk.wav", phrases, rng)
    decoder = ToneDecoder()
    heard = hear(decoder, tmp_path / "talk.wav")
    sure = replace(heard, logs=heard.logs * np.float16(3))
    poor = replace(heard, logs=heard.logs * np.float16(0.25))  # all letters are nearly as probable as the right one
    faulty = range(0, 40, 4)
    shown = [
        "abba" + phrase[phrase.index(" ") :] if place in faulty else phrase for place, phrase in enumerate(phrases)
    ]
    text = "\n".join(shown)
    words = written_words(text, TextSettings())

    def accepted(heard, strictness=None):
        alignment = align_words(heard, words, decoder.bundle.tokens)
        edges = Edges(heard, alignment)
        strictness = strictness or suitable_strictness(heard, edges, words, decoder.bundle.tokens)
        found = cut_utterances(edges, strictness)
        return strictness.scale, {written(text, alignment.words[one.first_word : one.last_word + 1]) for one in found}

    wrong = {shown[place] for place in faulty} - set(phrases)
    scale, found = accepted(sure)
    assert scale == 1
    assert found == set(shown) - wrong
    poor_scale, found = accepted(poor)
    assert poor_scale < scale
    assert len(found & wrong) < len(accepted(poor, Strictness(scale))[1] & wrong)
