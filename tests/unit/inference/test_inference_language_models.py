"""Each language model of a folder, and hotwords, through the recogniser: they overrule hand-made posteriors."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import TINY
from torch import Tensor

import asr
from asr.bundle.bundle import ModelBundle
from asr.bundle.files import RNN_LM
from asr.bundle.settings import load_decode_settings
from asr.errors import ConfigError, LanguageModelError, ModelError, TokenError
from asr.features.batch import collate
from asr.inference.decoder import Search
from asr.lm.arpa import write_arpa
from asr.lm.estimate import token_ngram
from asr.lm.kneser_ney import kneser_ney
from asr.lm.rnnlm import LmUnits, RnnLm
from asr.model.acoustic import AcousticModel
from asr.search_config import RnnLmSettings
from asr.settings_file import load_config
from asr.text.tokens import TokenTable

TOKENS = TokenTable.from_texts([" abcdefghijklmnopqrstuvwxyz"])
TEXTS = ["the cat sat", "a cat ate", "the dog sat"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder without language models; the acoustic model is not asked by these tests."""
    config = load_config(None, [*TINY, "text.remove='!'", "text.replace.zogg=zog"])
    ModelBundle(config, TOKENS, AcousticModel(config, len(TOKENS))).save(tmp_path)
    return tmp_path


def heard(text: str, doubts: dict[int, tuple[str, float]] | None = None) -> tuple[Tensor, Tensor]:
    """Return the posteriors of a text, letter by letter with a blank after each; all else is improbable.

    Args:
        text: what the acoustics hear.
        doubts: at places of the text, another letter and its posterior.
    """
    posteriors = torch.full((1, 2 * len(text), len(TOKENS)), 1e-6)
    posteriors[0, 1::2, 0] = 1.0
    for place, token in enumerate(TOKENS.encode(text)):
        posteriors[0, 2 * place, token] = 1.0
        if doubts and place in doubts:
            letter, share = doubts[place]
            posteriors[0, 2 * place, token] -= share
            posteriors[0, 2 * place, TOKENS.encode(letter)[0]] = share
    return posteriors.log(), torch.tensor([2 * len(text)])


# A "k" that may be a "c", at odds of 3 to 1.
KAT = heard("the kat sat", {4: ("c", 0.25)})


def best(folder: Path, utterance: tuple[Tensor, Tensor], hotwords: dict[str, float] | None = None, **decode) -> str:
    recognizer = asr.load(folder, accelerator="cpu", decode=decode)
    [[hypothesis, *_]] = recognizer.decoder.search(*utterance, Search("beam", hotwords or {}))
    return TOKENS.decode(hypothesis.tokens)


def save_recurrent(folder: Path, units: LmUnits, favourite: str) -> Tensor:
    """Save a recurrent model to which one unit is e² times as probable as each other; return its log-probabilities."""
    lm = RnnLm(RnnLmSettings(hidden_size=4, layers=1), units)
    assert lm.bias is not None
    torch.nn.init.zeros_(lm.embedding.weight)  # so that the distribution is the bias', whatever has been read
    torch.nn.init.zeros_(lm.bias)
    lm.bias.data[units.symbols.index(favourite)] = 2.0
    lm.save(folder / RNN_LM)
    return lm.bias.detach().double().log_softmax(0)


def test_without_a_language_model_the_acoustics_decide_and_greedy_search_is_the_default(folder: Path) -> None:
    assert best(folder, KAT) == "the kat sat"
    assert asr.load(folder).decoder.method_of(Search()) == "greedy"


def test_the_token_n_gram_is_used_as_soon_as_it_is_there(folder: Path) -> None:
    write_arpa(token_ngram(TEXTS, TOKENS, 3), folder / "lm.arpa.gz")
    assert best(folder, KAT, lm_weight=1.0) == "the cat sat"
    assert best(folder, KAT, lm_weight=0.0) == "the kat sat"
    assert asr.load(folder).decoder.method_of(Search()) == "beam"
    assert asr.load(folder, decode={"lm_weight": 0}).decoder.method_of(Search()) == "beam"  # the insertion bonus holds


def test_the_word_n_gram_closes_the_vocabulary_or_opens_it_at_a_price(folder: Path) -> None:
    write_arpa(kneser_ney([text.split() for text in TEXTS], 2), folder / "lm.words.arpa.gz")
    sure = heard("the kat sat", {4: ("c", 1e-4)})
    assert best(folder, sure, lm="words", lm_weight=0.1) == "the cat sat"
    assert best(folder, sure, lm="words", lm_weight=0.1, oov_penalty=1.0) == "the kat sat"
    assert best(folder, sure, lm="words", lm_weight=0.1, oov_penalty=200.0) == "the cat sat"
    assert asr.load(folder).decoder.method_of(Search()) == "greedy"  # it is there, but not asked for
    assert asr.load(folder, decode={"lm": "words"}).decoder.method_of(Search()) == "beam"


def test_the_recurrent_model_gives_the_same_scores_within_the_search_and_after_it(folder: Path) -> None:
    log_probs = save_recurrent(folder, LmUnits.of_tokens(TOKENS), "c")
    expected = 0.8 * log_probs[[*TOKENS.encode("the cat sat"), 0]].sum().item()
    for weights in ({"rnn_weight": 0.8}, {"rescore_weight": 0.8}, {"rnn_weight": 0.3, "rescore_weight": 0.5}):
        recognizer = asr.load(folder, accelerator="cpu", decode=weights | {"insertion_bonus": 0.1})
        assert recognizer.decoder.method_of(Search()) == "beam"
        [hypotheses] = recognizer.decoder.search(*KAT, Search("beam"))
        assert TOKENS.decode(hypotheses[0].tokens) == "the cat sat"
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        assert hypotheses[0].lm_score == pytest.approx(expected, abs=1e-4)
        for hypothesis in hypotheses:
            parts = hypothesis.acoustic_score + hypothesis.lm_score + 0.1 * len(hypothesis.tokens)
            assert hypothesis.score == pytest.approx(parts)


def test_a_recurrent_model_of_words_rescores_and_cannot_do_more(folder: Path) -> None:
    save_recurrent(folder, LmUnits.of_words(TEXTS), "cat")
    assert best(folder, KAT, rescore_weight=1.0) == "the cat sat"
    with pytest.raises(LanguageModelError, match="not the acoustic model's 28 tokens"):
        best(folder, KAT, rnn_weight=1.0)


def test_the_weighted_scores_of_models_are_summed(folder: Path) -> None:
    # Each alone is too weak to turn odds of 3 to 1.
    write_arpa(token_ngram(["the cat sat", "the kat sat"], TOKENS, 1), folder / "lm.arpa.gz")
    save_recurrent(folder, LmUnits.of_tokens(TOKENS), "c")
    assert best(folder, KAT, lm_weight=0.3, rnn_weight=0.4) == "the kat sat"
    assert best(folder, KAT, {"cat": 0.7}, lm_weight=0.3) == "the kat sat"
    assert best(folder, KAT, {"cat": 0.7}, lm_weight=0.3, rnn_weight=0.4) == "the cat sat"


@pytest.mark.parametrize("hotword", ["zog", "ZOG", "the Zog!", "zog sat", "Zogg", "the zogg sat"])
def test_a_hotword_outside_the_vocabulary_is_found_when_boosted(folder: Path, hotword: str) -> None:
    write_arpa(kneser_ney([text.split() for text in TEXTS], 2), folder / "lm.words.arpa.gz")
    write_arpa(token_ngram(TEXTS, TOKENS, 3), folder / "lm.arpa.gz")
    dog = heard("the dog sat", {4: ("z", 0.3)})
    for lm in ("words", "tokens"):
        assert best(folder, dog, lm=lm) == "the dog sat"
        assert best(folder, dog, {hotword: 9.0}, lm=lm) == "the zog sat"
        assert best(folder, dog, {"zig": 9.0}, lm=lm) == "the dog sat"


def test_each_search_has_its_own_hotwords(folder: Path) -> None:
    write_arpa(kneser_ney([text.split() for text in TEXTS], 2), folder / "lm.words.arpa.gz")
    recognizer = asr.load(folder, accelerator="cpu", decode={"lm": "words"})
    dog = heard("the dog sat", {4: ("z", 0.3)})

    def found(hotwords: dict[str, float]) -> str:
        [[hypothesis, *_]] = recognizer.decoder.search(*dog, Search("beam", hotwords or {}))
        return TOKENS.decode(hypothesis.tokens)

    wanted = [{}, {"zog": 9.0}, {"dog": 9.0}, {"zog": 1.0}, {"zog": 9.0}, {}]
    assert [found(hotwords).split()[1] for hotwords in wanted] == ["dog", "zog", "dog", "dog", "zog", "dog"]


def test_hotwords_alone_make_the_search_a_beam_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = asr.load(folder, accelerator="cpu")
    batch = collate([torch.zeros(16000)], [[]], ["a"])
    monkeypatch.setattr(recognizer.decoder, "log_posteriors", lambda batch: KAT)
    for hotwords, expected in ((None, "the kat sat"), ({"cat": 3.0}, "the cat sat")):
        [decoded] = recognizer.decoder.decode(batch, Search("beam", hotwords or {}))
        assert TOKENS.decode(decoded.hypotheses[0].tokens) == expected
    with pytest.raises(ConfigError, match=r"hotwords \(cat\) need the beam search"):
        recognizer.decoder.decode(batch, Search("greedy", {"cat": 3.0}))


def test_hotwords_that_the_model_cannot_write_are_refused_by_name(folder: Path) -> None:
    with pytest.raises(TokenError, match="the hotword 'café 2' holds '2', 'é'; the model's tokens write only: abc"):
        best(folder, KAT, {"Café 2": 3.0})
    with pytest.raises(TokenError, match="the hotword ' !' is empty"):
        best(folder, KAT, {" !": 3.0})
    with pytest.raises(ConfigError, match="the hotword 'cat' has the bonus -1"):
        best(folder, KAT, {"cat": -1.0})


@pytest.mark.parametrize(
    ("decode", "way_out"),
    [
        ({"lm": "words"}, "lm.words.arpa.gz; `asr lm ngram TEXT --model {folder} --words`"),
        ({"rnn_weight": 0.1}, "rnnlm/rnnlm.safetensors; `asr lm rnn TEXT --model {folder}`"),
        ({"rescore_weight": 0.1}, "rnnlm/rnnlm.safetensors; `asr lm rnn TEXT --model {folder}`"),
    ],
)
def test_a_language_model_that_is_asked_for_and_not_there_is_named(
    folder: Path, decode: dict[str, object], way_out: str
) -> None:
    with pytest.raises(ModelError) as error:
        best(folder, KAT, **decode)
    assert way_out.format(folder=folder) in str(error.value)


def test_surely_blank_frames_are_skipped_if_the_settings_say_so(folder: Path) -> None:
    posteriors = torch.full((1, 2, len(TOKENS)), 1e-30)
    a = TOKENS.encode("a")[0]
    posteriors[0, 0, [0, a]] = torch.tensor([0.4, 0.6])
    posteriors[0, 1, [0, a]] = torch.tensor([0.95, 0.05])
    for blank_skip, expected in ((1.0, 0.6 + 0.4 * 0.05), (0.9, 0.6 * 0.95)):
        recognizer = asr.load(folder, accelerator="cpu", decode={"blank_skip": blank_skip})
        [[hypothesis, *_]] = recognizer.decoder.search(posteriors.log(), torch.tensor([2]), Search("beam"))
        assert hypothesis.tokens == (a,)
        assert math.exp(hypothesis.acoustic_score) == pytest.approx(expected, rel=1e-5)


def test_decoder_settings_of_before_these_models_still_load(folder: Path) -> None:
    old = {"beam_size": 24, "lm_order": 4, "lm_weight": 0.5, "insertion_bonus": 0.75}
    (folder / "decoder.yaml").write_text(yaml.safe_dump(old))
    loaded = load_decode_settings(folder)
    assert loaded.model_dump(include=set(old)) == old
    assert (loaded.lm, loaded.rnn_weight, loaded.rescore_weight, loaded.blank_skip) == ("tokens", 0, 0, 1)
    assert asr.load(folder).decoder.bundle.config.decode == loaded


def test_settings_given_at_load_replace_the_folders_and_are_checked(folder: Path) -> None:
    decoder = asr.load(folder, decode={"beam_size": 3}).decoder.bundle.config.decode
    assert decoder == load_decode_settings(folder).model_copy(update={"beam_size": 3})
    for wrong, message in (
        ({"beam": 3}, "beam: unknown key; known here: beam_size"),
        ({"lm": "letters"}, "lm: 'letters' is not 'tokens' or 'words'"),
        ({"blank_skip": 0}, "blank_skip: 0 is not above 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            asr.load(folder, decode=wrong)


def test_an_n_gram_of_another_models_tokens_is_named_by_its_file(folder: Path) -> None:
    other = TokenTable.from_texts([" abcø"])
    write_arpa(token_ngram(["ab ø"], other, order=2), folder / "lm.arpa.gz")
    with pytest.raises(
        LanguageModelError, match=rf"^{re.escape(str(folder / 'lm.arpa.gz'))}: .*\['ø'\] are not tokens"
    ):
        best(folder, KAT, lm_weight=1.0)


def test_a_waveform_is_transcribed_with_hotwords(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recognizer = asr.load(folder, accelerator="cpu")
    seen = []

    def log_posteriors(batch) -> tuple[Tensor, Tensor]:
        seen.append(len(batch.ids))
        return KAT

    monkeypatch.setattr(recognizer.decoder, "log_posteriors", log_posteriors)
    waveform = 0.1 * np.sin(np.arange(16000, dtype=np.float32))
    transcript = recognizer.transcribe(waveform, sample_rate_hz=16000, hotwords={"cat": 3.0}, segment="none")
    assert transcript.text == "the cat sat"
    assert seen == [1]
