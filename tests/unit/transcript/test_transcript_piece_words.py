"""Words of sub-word pieces: where they begin and end, and that they are the decoded text's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.segment import Extent
from asr.config import TextSettings
from asr.text.tokens import train_pieces
from asr.transcript.words import Decoded, Hypothesis, TokenSpan

# All pieces of these counts: ▁low ▁lower ▁newest ▁widest, and every character and ▁ by itself.
TABLE = train_pieces({"low": 5, "lower": 2, "newest": 6, "widest": 3}, TextSettings(tokens="unigram", pieces=15))


def decoded(*spans):
    """Return an utterance of `(symbol, start, end, probability)`."""
    spans = [TokenSpan(TABLE.symbols.index(symbol), *rest) for symbol, *rest in spans]
    tokens = tuple(span.token for span in spans)
    hypothesis = Hypothesis(tokens, 0.0, 0.0, 0.0, tuple(span.start for span in spans))
    return Decoded((hypothesis,), tuple(spans), Extent(0.0, 100.0))


def test_a_word_lasts_from_its_first_piece_to_its_last() -> None:
    utterance = decoded(("▁low", 2, 4, 0.8), ("e", 6, 8, 0.2), ("▁newest", 9, 15, 0.5))
    first, second = utterance.words(TABLE, frame_shift_s=0.1)
    assert (first.text, second.text) == ("lowe", "newest")
    # Frame i covers half a shift on either side of i · 0.1 s, and is 0.07 s late. Between the words lies the middle of
    # frames 7 and 9. The last word grows by 0.15 s.
    assert (first.start_s, first.end_s) == pytest.approx((0.0, 0.73))
    assert (second.start_s, second.end_s) == pytest.approx((0.73, 1.53))
    assert (first.confidence, second.confidence) == pytest.approx((0.4, 0.5))


def test_a_space_that_is_a_piece_by_itself_opens_a_word_and_is_no_part_of_it() -> None:
    utterance = decoded(("▁", 0, 1, 0.1), ("w", 3, 4, 0.9), ("▁", 6, 9, 0.1), ("▁", 9, 10, 0.1), ("d", 12, 13, 0.7))
    first, second = utterance.words(TABLE, frame_shift_s=0.1, offset_s=10)
    assert (first.text, second.text) == ("w", "d")
    # The words' frames are 3 and 12: 0.7 s are between them, so that each grows by 0.15 s.
    assert first.end_s == pytest.approx(10.38)
    assert (second.start_s, second.end_s) == pytest.approx((10.98, 11.33))
    assert (first.confidence, second.confidence) == pytest.approx((0.9, 0.7))


def test_pieces_before_the_first_that_opens_a_word_are_a_word() -> None:
    words = decoded(("e", 1, 2, 1.0), ("r", 2, 3, 1.0), ("▁low", 4, 5, 1.0)).words(TABLE, frame_shift_s=0.1)
    assert [word.text for word in words] == ["er", "low"]
    assert decoded().words(TABLE, 0.1) == decoded(("▁", 1, 2, 1.0)).words(TABLE, 0.1) == []


@given(st.lists(st.integers(1, len(TABLE) - 1)))
def test_the_words_are_those_of_the_text_that_sentencepiece_decodes(ids) -> None:
    from sentencepiece import SentencePieceProcessor

    utterance = decoded(*((TABLE.symbols[token], 2 * place, 2 * place + 1, 1.0) for place, token in enumerate(ids)))
    words = utterance.words(TABLE, frame_shift_s=0.04)
    judge = SentencePieceProcessor(model_proto=TABLE.model)
    assert [word.text for word in words] == judge.decode(ids).split()
    times = [time for word in words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
