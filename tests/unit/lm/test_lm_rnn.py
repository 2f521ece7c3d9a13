"""The recurrent language model: distributions, carried states, sentences one by one, its file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.errors import ConfigError, LanguageModelError
from asr.lm.ngram import NgramEntry, NgramLm
from asr.lm.rnnlm import LmUnits, RnnLm
from asr.search_config import RnnLmSettings
from asr.settings_file import parse_rnnlm_settings
from asr.text.tokens import TokenTable

UNITS = 60


def words(count: int) -> LmUnits:
    return LmUnits("words", ("</s>", "<unk>", *(f"w{n}ß" for n in range(count - 2))))


def tiny(units: int = UNITS, **values: object) -> RnnLm:
    torch.manual_seed(3)
    lm = RnnLm(RnnLmSettings.model_validate({"hidden_size": 16, **values}), words(units)).eval()
    with torch.no_grad():
        for parameter in lm.parameters():  # biases too, so that nothing is zero by chance
            parameter += 0.3 * torch.randn_like(parameter)
    return lm


KINDS = pytest.mark.parametrize(
    "values",
    [{"rnn": "lstm"}, {"rnn": "gru", "layers": 3}, {"rnn": "lstm", "softmax": "adaptive"}],
    ids=["lstm", "gru", "adaptive"],
)


@torch.inference_mode()
def one_by_one(lm: RnnLm, sentence: list[int]) -> list[float]:
    """Read a sentence unit by unit, and look up in each whole distribution what came next."""
    state, found = lm.start(1), []
    for read, target in zip([0, *sentence], [*sentence, 0], strict=True):
        hidden, state = lm(torch.tensor([[read]]), state)
        found.append(float(lm.log_probs(hidden[:, 0])[0, target]))
    return found


@KINDS
def test_the_distribution_after_any_history_sums_to_1(values: dict[str, Any]) -> None:
    lm = tiny(**values)
    hidden, _ = lm(torch.randint(UNITS, (3, 7)), lm.start(3))
    totals = lm.log_probs(hidden.flatten(0, 1)).double().exp().sum(-1)
    torch.testing.assert_close(totals, torch.ones(21, dtype=torch.float64), atol=1e-5, rtol=0)


@KINDS
def test_a_target_has_the_probability_that_the_whole_distribution_gives_it(values: dict[str, Any]) -> None:
    lm = tiny(**values)
    hidden, targets = torch.randn(UNITS, 16), torch.randperm(UNITS)
    expected = lm.log_probs(hidden)[torch.arange(UNITS), targets]
    torch.testing.assert_close(lm.target_log_probs(hidden, targets), expected)


@given(cuts=st.lists(st.integers(1, 19), unique=True), rnn=st.sampled_from(["lstm", "gru"]))
@settings(max_examples=8, deadline=None)
def test_windows_with_the_state_handed_on_give_what_one_pass_gives(cuts: list[int], rnn: str) -> None:
    lm = tiny(rnn=rnn)
    units = torch.randint(UNITS, (2, 20), generator=torch.Generator().manual_seed(1))
    whole, end = lm(units, lm.start(2))
    state, parts = lm.start(2), []
    for window in units.tensor_split(sorted(cuts), dim=1):
        hidden, state = lm(window, state)
        parts.append(hidden)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(state, end)


def test_without_the_state_a_window_would_differ() -> None:
    lm = tiny()
    units = torch.randint(UNITS, (2, 20))
    whole, _ = lm(units, lm.start(2))
    second, _ = lm(units[:, 10:], lm.start(2))
    assert not torch.allclose(second, whole[:, 10:], atol=1e-3)


@KINDS
def test_sentences_in_batches_score_as_each_read_alone_unit_by_unit(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = tiny(**values)
    monkeypatch.setattr("asr.lm.rnnlm._MOST_LOGITS", 14 * UNITS)  # several batches
    sentences = [torch.randint(2, UNITS, (length,)).tolist() for length in (5, 0, 3, 13, 20, 1, 5)]
    found = lm.unit_log_probs(sentences)
    for sentence, scores in zip(sentences, found, strict=True):
        assert scores.tolist() == pytest.approx(one_by_one(lm, sentence), abs=1e-5)


def test_perplexity_counts_units_ends_and_oovs_as_the_ngram_does() -> None:
    units = LmUnits("words", ("</s>", "<unk>", "a", "b"))
    lm = RnnLm(RnnLmSettings(hidden_size=4, layers=1), units).eval()
    with torch.no_grad():  # a distribution without memory: the bias alone
        assert lm.bias is not None
        lm.embedding.weight.zero_()
        lm.bias.copy_(torch.tensor([0.4, 0.1, 0.3, 0.2]).log())
    unigrams = {("</s>",): 0.4, ("a",): 0.3, ("b",): 0.2}  # without <unk>, OOVs cannot be scored
    ngram = NgramLm(({unit: NgramEntry(math.log10(p)) for unit, p in unigrams.items()},))
    sentences = [["a", "a", "x", "b"], [], ["y"]]
    found = lm.perplexity([units.encode_words(" ".join(sentence)) for sentence in sentences])
    expected = ngram.perplexity(sentences)
    assert (found.units, found.oovs) == (expected.units, expected.oovs) == (6, 2)
    assert found.perplexity == pytest.approx(expected.perplexity)
    # Six units: a, a, b and three ends.
    assert found.perplexity == pytest.approx((0.3 * 0.3 * 0.2 * 0.4**3) ** (-1 / 6))


def test_the_perplexity_of_nothing_is_nan() -> None:
    assert math.isnan(tiny().perplexity([]).perplexity)


def test_the_output_shares_the_embedding_unless_it_is_adaptive() -> None:
    def outer(lm: RnnLm) -> int:
        inner = sum(p.numel() for p in (*lm.layers.parameters(), *lm.norm.parameters()))
        return lm.parameter_count - inner - lm.embedding.weight.numel()

    assert outer(tiny()) == UNITS  # a bias
    # 3 frequent words and 2 classes; 12 words in 16 / 4 dimensions, 45 in 16 / 16.
    assert outer(tiny(softmax="adaptive")) == 16 * (3 + 2) + (16 * 4 + 4 * 12) + (16 * 1 + 1 * 45)


def test_a_vocabulary_too_small_for_the_adaptive_softmax_is_refused() -> None:
    with pytest.raises(ConfigError, match="use plain"):
        tiny(units=20, softmax="adaptive")


def test_words_are_numbered_by_frequency_and_rare_ones_are_unknown() -> None:
    units = LmUnits.of_words(["b a b", "c a b <unk>"], min_count=2)
    assert units.symbols == ("</s>", "<unk>", "b", "a")
    assert units.encode_words("a c b <unk> </s>") == [3, 1, 2, 1, 1]
    assert units.oov == 1
    with pytest.raises(LanguageModelError, match="min_count"):
        LmUnits.of_words(["a b"], min_count=2)


def test_token_ids_are_the_acoustic_models_and_other_tokens_are_refused() -> None:
    tokens = TokenTable.from_texts(["ab "])
    units = LmUnits.of_tokens(tokens)
    assert units.symbols[1:] == tokens.symbols[1:]
    assert units.oov is None
    units.require_tokens(tokens)
    with pytest.raises(LanguageModelError, match="asr lm rnn --model"):
        units.require_tokens(TokenTable.from_texts(["abc"]))
    with pytest.raises(LanguageModelError, match="words"):
        LmUnits.of_words(["a b"]).require_tokens(tokens)


@KINDS
def test_a_saved_model_loads_with_the_same_probabilities(values: dict[str, Any], tmp_path: Path) -> None:
    lm = tiny(**values)
    lm.save(tmp_path / "lm.safetensors")
    found = RnnLm.load(tmp_path / "lm.safetensors")
    sentences = [[4, 2, 8], [5]]
    assert found.units == lm.units
    assert found.settings == lm.settings
    expected: list[Tensor] = lm.unit_log_probs(sentences)
    assert all(torch.equal(a, b) for a, b in zip(found.unit_log_probs(sentences), expected, strict=True))


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_a_file_that_is_no_model_is_named(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "lm.safetensors"
    if damage == "truncated":
        tiny().save(path)
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "foreign":
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(LanguageModelError, match=r"lm\.safetensors"):
        RnnLm.load(path)


def test_settings_of_a_recurrent_model_are_read_and_checked() -> None:
    assert parse_rnnlm_settings(["hidden_size=16", "rnn=gru", "rnnlm.hidden_size=32"]) == RnnLmSettings(
        hidden_size=32, rnn="gru"
    )
    for wrong, part in [
        ("size=3", "size: unknown key; known here: rnn, layers"),
        ("layers=0", "layers"),
        ("layers", "key=value"),
        ("rnn=[", "YAML"),
    ]:
        with pytest.raises(ConfigError, match=part):
            parse_rnnlm_settings([wrong])
