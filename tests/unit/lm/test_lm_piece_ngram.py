"""N-grams over sub-word pieces, from the text to the beam search's tables."""

import math
from pathlib import Path

import numpy as np
import pytest

from asr.config import TextSettings
from asr.decoding.ngram_scorer import TokenNgramScorer
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.estimate import token_ngram
from asr.lm.ngram import SENTENCE_START
from asr.lm.texts import token_sentences
from asr.text.tokens import PieceTable, train_pieces

TEXTS = ["low lower", "newest low", "widest lower newest", "low"]


@pytest.fixture(scope="module")
def table() -> PieceTable:
    # Its pieces: ▁low ▁lower ▁newest ▁widest, and every character and ▁ by itself.
    return train_pieces({"low": 5, "lower": 2, "newest": 6, "widest": 3}, TextSettings(tokens="unigram", pieces=15))


def test_the_units_are_the_pieces(table: PieceTable) -> None:
    assert list(token_sentences(["newest low", "dew"], table)) == [["▁newest", "▁low"], ["▁", "d", "e", "w"]]


def test_every_piece_has_a_probability_and_nothing_else_has(table: PieceTable) -> None:
    lm = token_ngram(TEXTS, table, 3)
    assert {unit for (unit,) in lm.ngrams[0]} == {"<s>", "</s>", *table.symbols[1:]}
    predictable = ["</s>", *table.symbols[1:]]
    assert sum(math.exp(lm.log_prob(["<s>", "▁low"], unit)) for unit in predictable) == pytest.approx(1)


def test_an_arpa_file_keeps_the_pieces_and_the_beam_gets_its_probabilities(table: PieceTable, tmp_path: Path) -> None:
    write_arpa(token_ngram(TEXTS, table, 3), tmp_path / "lm.arpa.gz")
    lm = read_arpa(tmp_path / "lm.arpa.gz")
    scorer = TokenNgramScorer(lm, table)
    state, history, row = scorer.start(1), [SENTENCE_START], np.array([0])
    for token in [*table.encode("low lower"), *table.encode("dew widest")]:
        unit = table.symbols[token]
        assert scorer.score(state)[0, token].item() == pytest.approx(lm.log_prob(history, unit), abs=1e-5)
        state = scorer.advance(state, row, np.array([token]))
        history.append(unit)
