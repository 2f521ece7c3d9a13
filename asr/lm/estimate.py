"""N-gram models whose units are an acoustic model's tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from asr.errors import TokenError
from asr.lm.kneser_ney import kneser_ney
from asr.lm.ngram import NgramLm
from asr.lm.texts import encoded, token_units
from asr.text.tokens import BLANK, TokenTable


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
