"""Where a language model's text comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from asr.errors import LanguageModelError, TokenError
from asr.files import read_lines
from asr.text.tokens import BLANK, WORD_START, TokenTable

_MANIFEST_SUFFIXES = (".jsonl", ".jsonl.gz")


def stream_texts(path: str | Path) -> Iterator[str]:
    """Yield the sentences of a text file, one a line, or a manifest's transcripts; empty ones are left out.

    Args:
        path: a manifest if so named (`.jsonl`, `.jsonl.gz`), else UTF-8 text, compressed if it ends in `.gz`.

    Raises:
        ManifestError: the manifest is missing or malformed.
        LanguageModelError: the text file is missing or damaged, or holds no sentence.
    """
    path = Path(path)
    is_empty = True
    for line in (
        _transcripts(path)
        if path.name.endswith(_MANIFEST_SUFFIXES)
        else read_lines(path, LanguageModelError, "the text")
    ):
        if text := line.strip():
            is_empty = False
            yield text
    if is_empty:
        raise LanguageModelError(f"{path}: holds no sentence; one a line is expected")


def read_texts(path: str | Path) -> list[str]:
    """Return what `stream_texts` yields, all at once; raises what it raises."""
    return list(stream_texts(path))


def _transcripts(path: Path) -> Iterator[str]:
    from asr.corpus.manifest import cut_text, read_manifest  # lhotse takes its time to load

    for cut in read_manifest(path):
        yield cut_text(cut)


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
