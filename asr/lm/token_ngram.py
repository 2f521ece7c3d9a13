"""N-gram models whose units are an acoustic model's tokens."""

from __future__ import annotations

from collections.abc import Iterable

from asr.data.pieces import WORD_START
from asr.data.tokens import BLANK, TokenTable
from asr.errors import LanguageModelError
from asr.lm.kneser_ney import kneser_ney
from asr.lm.ngram import NgramLm

# How a unit writes the space, which separates units in ARPA files; sub-word pieces write it so themselves.
SPACE_UNIT = WORD_START


def token_units(tokens: TokenTable) -> list[str]:
    """Return the unit of each token, by token id; the blank's is empty, since language models know none.

    Raises:
        LanguageModelError: two tokens would share a unit.
    """
    units = [symbol.replace(" ", SPACE_UNIT) for symbol in tokens.symbols]
    units[BLANK] = ""
    if len(set(units)) < len(units):
        raise LanguageModelError(f"the tokens hold both the space and {SPACE_UNIT!r}, which stands for it")
    return units


def token_sentences(texts: Iterable[str], tokens: TokenTable) -> list[list[str]]:
    """Return each normalised text as units.

    Raises:
        TokenError: a text holds a character that is no token.
        LanguageModelError: two tokens would share a unit.
    """
    units = token_units(tokens)
    return [[units[token] for token in tokens.encode(text)] for text in texts]


def token_ngram(texts: Iterable[str], tokens: TokenTable, order: int) -> NgramLm:
    """Estimate an n-gram over tokens from normalised texts; every token has a probability, seen or not.

    Raises:
        TokenError: a text holds a character that is no token.
        LanguageModelError: there is no text, or the order is out of range.

    Source: see `kneser_ney.py`.
    """
    return kneser_ney(token_sentences(texts, tokens), order, vocabulary=token_units(tokens)[BLANK + 1 :])
