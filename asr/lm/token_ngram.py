"""N-gram models whose units are an acoustic model's tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from asr.data.pieces import WORD_START
from asr.data.tokens import BLANK, TokenTable
from asr.errors import LanguageModelError, TokenError
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


def encoded(
    texts: Iterable[str], tokens: TokenTable, on_unknown: Callable[[TokenError], object] | None = None
) -> Iterator[list[int]]:
    """Yield the token ids of each normalised text.

    Args:
        texts: walked through once, and not held.
        tokens: the token table.
        on_unknown: is told of each text with a character that is no token, which is left out.

    Raises:
        TokenError: a text holds a character that is no token, and there is no `on_unknown`.
    """
    for text in texts:
        try:
            ids = tokens.encode(text)
        except TokenError as error:
            if on_unknown is None:
                raise
            on_unknown(error)
        else:
            yield ids


def token_sentences(
    texts: Iterable[str], tokens: TokenTable, on_unknown: Callable[[TokenError], object] | None = None
) -> list[list[str]]:
    """Return all that `encoded` yields, as units.

    Raises:
        TokenError: as `encoded`.
        LanguageModelError: two tokens would share a unit.
    """
    units = token_units(tokens)
    return [[units[token] for token in ids] for ids in encoded(texts, tokens, on_unknown)]


def token_ngram(
    texts: Iterable[str],
    tokens: TokenTable,
    order: int,
    prune: Sequence[int] = (),
    on_unknown: Callable[[TokenError], object] | None = None,
) -> NgramLm:
    """Estimate an n-gram over tokens from normalised texts; every token has a probability, seen or not.

    Args:
        texts: walked through once, and not held.
        tokens: whose symbols the units are, see `token_units`.
        order: as in `kneser_ney`.
        prune: as in `kneser_ney`.
        on_unknown: as in `encoded`.

    Raises:
        TokenError: as `encoded`.
        LanguageModelError: there is no text, or order or prune is out of range.

    Source: see `kneser_ney.py`.
    """
    units = token_units(tokens)
    sentences = ([units[token] for token in ids] for ids in encoded(texts, tokens, on_unknown))
    return kneser_ney(sentences, order, vocabulary=units[BLANK + 1 :], prune=prune)
