"""`Recognizer.transcribe` with networks that were never trained: what a transcript holds besides its words."""

import json

import numpy as np
import pytest
from conftest import TINY, tone_speech

import asr
from asr.bundle.bundle import ModelBundle
from asr.errors import ConfigError
from asr.inference.decoder import Decoder
from asr.inference.recognizer import Recognizer
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable


@pytest.fixture
def recognizer() -> Recognizer:
    config, tokens = load_config(None, TINY), TokenTable.from_texts(["abcd "])
    return Recognizer(Decoder(ModelBundle(config, tokens, AcousticModel(config, len(tokens)).eval())))


def test_the_n_best_texts_are_those_of_the_search_in_its_order(recognizer, rng):
    audio = tone_speech("ab cd", rng)
    found = recognizer.transcribe(audio, sample_rate_hz=16000, method="beam", segment="none", n_best=5)
    assert len(found.n_best) == 5
    assert found.n_best[0].text == found.text
    scores = [item.score for item in found.n_best]
    assert scores == sorted(scores, reverse=True)
    assert [item["text"] for item in json.loads(found.to_json())["n_best"]] == [item.text for item in found.n_best]
    without = recognizer.transcribe(audio, sample_rate_hz=16000, method="beam", segment="none")
    assert (without.words, without.n_best) == (found.words, ())


def test_greedy_search_and_silence_have_one_text(recognizer, rng):
    audio = tone_speech("ab cd", rng)
    (best,) = recognizer.transcribe(audio, sample_rate_hz=16000, method="greedy", segment="none", n_best=5).n_best
    assert best.score < 0
    silence = recognizer.transcribe(np.zeros(16000), sample_rate_hz=16000, n_best=5)
    assert [item.text for item in silence.n_best] == [silence.text] == [""]
    with pytest.raises(ConfigError, match="n_best=-1"):
        recognizer.transcribe(audio, sample_rate_hz=16000, n_best=-1)


def test_the_parts_of_an_n_best_list_are_public():
    assert asr.Transcript("", (), 0.0, 0.0, n_best=(asr.Alternative("a", 0.0),)).n_best[0].text == "a"
