"""Shallow fusion with a recurrent language model, against the model itself; rescoring, against cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from asr.errors import LanguageModelError
from asr.lm.rnn_scorer import RnnScorer, rescore
from asr.lm.rnnlm import LmUnits, RnnLm
from asr.search_config import RnnLmSettings
from asr.text.tokens import TokenTable
from asr.transcript.words import Hypothesis


def random_lm(seed: int, letters: str, rnn: str = "lstm") -> tuple[TokenTable, RnnLm]:
    torch.manual_seed(seed)
    table = TokenTable.from_texts([letters])
    lm = RnnLm(RnnLmSettings.model_validate({"hidden_size": 6, "rnn": rnn}), LmUnits.of_tokens(table))
    with torch.no_grad():
        for parameter in lm.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
    return table, lm.eval()


def memoryless(units: LmUnits, probabilities: list[float]) -> RnnLm:
    lm = RnnLm(RnnLmSettings(hidden_size=4, layers=1), units).eval()
    with torch.no_grad():
        assert lm.bias is not None
        lm.embedding.weight.zero_()
        lm.bias.copy_(torch.tensor(probabilities).log())
    return lm


@pytest.mark.parametrize("rnn", ["lstm", "gru"])
def test_the_scores_along_a_sentence_sum_to_its_log_probability(rnn: str) -> None:
    table, lm = random_lm(1, "abcd", rnn)
    sentences = torch.randint(1, 5, (3, 6))
    scorer = RnnScorer(lm, table)
    state, rows, total = scorer.start(3), np.arange(3), np.zeros(3)
    for tokens in sentences.numpy().T:
        total += scorer.score(state)[rows, tokens]
        state = scorer.advance(state, rows, tokens)
        state = scorer.advance(state, rows, np.zeros(3, np.int64))  # a blank changes nothing
    total += scorer.score(state)[:, 0]
    expected = [float(scores.sum()) for scores in lm.unit_log_probs(sentences.tolist())]
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_new_rows_continue_the_rows_they_name_some_by_a_token_some_not() -> None:
    table, lm = random_lm(2, "abc")
    scorer = RnnScorer(lm, table)
    before = scorer.advance(scorer.start(2), np.array([0, 1]), np.array([1, 2]))
    kept = before.log_probs.copy(), [part.clone() for part in before.hidden]
    after = scorer.advance(before, np.array([1, 1, 0, 1]), np.array([0, 3, 0, 1]))

    def next_token(*history: int) -> torch.Tensor:
        hidden, _ = lm(torch.tensor([[0, *history]]), lm.start(1))
        return lm.log_probs(hidden[:, -1])[0]

    expected = torch.stack([next_token(2), next_token(2, 3), next_token(1), next_token(2, 1)])
    np.testing.assert_allclose(scorer.score(after), expected.detach(), rtol=1e-5)
    assert np.array_equal(before.log_probs, kept[0])  # the search may go back to it
    assert all(torch.equal(mine, old) for mine, old in zip(before.hidden, kept[1], strict=True))


def test_a_model_over_other_units_is_refused() -> None:
    table, lm = random_lm(0, "ab")
    with pytest.raises(LanguageModelError, match="asr lm rnn --model"):
        RnnScorer(lm, TokenTable.from_texts(["abc"]))
    with pytest.raises(LanguageModelError, match="asr lm rnn --model"):
        rescore([], lm, TokenTable.from_texts(["abc"]), weight=1.0)
    words = memoryless(LmUnits("words", ("</s>", "<unk>", "a")), [0.5, 0.2, 0.3])
    with pytest.raises(LanguageModelError, match="words"):
        RnnScorer(words, table)


def hypothesis(table: TokenTable, text: str, acoustic: float, lm: float) -> Hypothesis:
    tokens = tuple(table.encode(text))
    return Hypothesis(tokens, acoustic + lm, acoustic, lm, tuple(range(len(tokens))))


def test_rescoring_with_tokens_ranks_by_the_weighted_sum() -> None:
    table = TokenTable.from_texts(["ab"])
    lm = memoryless(LmUnits.of_tokens(table), [0.5, 0.1, 0.4])
    one, two = hypothesis(table, "a", -1.0, -0.5), hypothesis(table, "b", -1.2, -0.6)
    [[first, second], []] = rescore([[one, two], []], lm, table, weight=0.5)
    # ln(0.4 · 0.5) = ln 0.2 and ln(0.1 · 0.5) = ln 0.05: half the difference, 0.69, outweighs 0.3.
    assert (first.tokens, second.tokens) == (two.tokens, one.tokens)
    assert first.score == pytest.approx(-1.8 + 0.5 * math.log(0.2))
    assert second.score == pytest.approx(-1.5 + 0.5 * math.log(0.05))
    assert (first.acoustic_score, first.lm_score) == (-1.2, pytest.approx(-0.6 + 0.5 * math.log(0.2)))
    assert rescore([[one, two]], lm, table, weight=0.0) == [[one, two]]


def test_rescoring_with_words_reads_the_hypothesis_as_words() -> None:
    table = TokenTable.from_texts(["on off"])
    units = LmUnits("words", ("</s>", "<unk>", "on", "off"))
    lm = memoryless(units, [0.4, 0.1, 0.2, 0.3])
    texts = ["on on", "off", "no off", ""]
    nbest = [[hypothesis(table, text, 0.0, 0.0) for text in texts]]
    found = {table.decode(hypothesis.tokens): hypothesis.score for hypothesis in rescore(nbest, lm, table, weight=1)[0]}
    expected = [0.2 * 0.2 * 0.4, 0.3 * 0.4, 0.1 * 0.3 * 0.4, 0.4]
    assert found == {text: pytest.approx(math.log(p)) for text, p in zip(texts, expected, strict=True)}
