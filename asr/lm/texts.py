"""Text files → sentences → token ids or units: what language models are estimated from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from asr.errors import LanguageModelError, TokenError
from asr.reading import counted, read_lines
from asr.text.normalise import normalise
from asr.text.tokens import BLANK, WORD_START, TokenTable

if TYPE_CHECKING:
    from asr.config import TextSettings

_MANIFEST_SUFFIXES = (".jsonl", ".jsonl.gz")

# How a unit writes the space, because spaces separate the units in an ARPA file. Sub-word pieces write it so too.
SPACE_UNIT = WORD_START


def stream_texts(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the sentences of a text file, or the transcripts of a manifest. Empty ones are left out.

    Args:
        path: a manifest if its name ends in `.jsonl` or `.jsonl.gz`, else UTF-8 text with a sentence a line, compressed
            if its name ends in `.gz`.

    Raises:
        ManifestError: the manifest is missing or malformed.
        LanguageModelError: the text file is missing, damaged or empty.
    """
    path = Path(path)
    is_manifest = path.name.endswith(_MANIFEST_SUFFIXES)
    is_empty = True
    for line in _transcripts(path) if is_manifest else read_lines(path, LanguageModelError, "the text"):
        if text := line.strip():
            is_empty = False
            yield text
    if is_empty:
        raise LanguageModelError(f"{path}: there is no sentence in it; write one a line")


def read_texts(path: str | os.PathLike[str]) -> list[str]:
    """Return all sentences that `stream_texts` yields; it raises the same errors."""
    return list(stream_texts(path))


def _transcripts(path: Path) -> Iterator[str]:
    from asr.corpus.manifest import cut_text, read_manifest  # lhotse loads slowly

    for cut in read_manifest(path):
        yield cut_text(cut)


def normalised(texts: Iterable[str], settings: TextSettings) -> Iterator[str]:
    """Yield texts as a model's transcripts are written.

    Texts that become empty are left out: nobody said them, and a model would learn that silence is a usual sentence.
    """
    return filter(None, (normalise(text, settings) for text in texts))


class LeftOut:
    """Counts the texts that are left out, because they hold a character that is no token.

    Attributes:
        count: how many there are.
        reason: what is wrong with the first one; empty if there is none.
    """

    def __init__(self) -> None:
        """Begin at none."""
        self.count, self.reason = 0, ""

    def __str__(self) -> str:
        """Say how many there are and what is wrong with the first one."""
        return f"left out {counted(self.count, 'sentence')}; {self.reason}"

    def add(self, error: TokenError) -> None:
        """Count one more."""
        self.count += 1
        self.reason = self.reason or str(error)


def encoded(texts: Iterable[str], tokens: TokenTable, left_out: LeftOut | None = None) -> Iterator[list[int]]:
    """Yield the token ids of each normalised text.

    Args:
        texts: read once, as a stream.
        tokens: the token table.
        left_out: counts the texts with a character that is no token. They are left out.

    Raises:
        TokenError: a text holds a character that is no token, and there is no `left_out`.
    """
    for text in texts:
        try:
            ids = tokens.encode(text)
        except TokenError as error:
            if left_out is None:
                raise
            left_out.add(error)
        else:
            yield ids


def token_units(tokens: TokenTable) -> list[str]:
    """Return the unit of each token in an ARPA file, by token id. The blank's is empty, since no text holds it.

    Raises:
        LanguageModelError: two tokens would have the same unit.
    """
    units = [symbol.replace(" ", SPACE_UNIT) for symbol in tokens.symbols]
    units[BLANK] = ""
    if len(set(units)) < len(units):
        raise LanguageModelError(f"the tokens hold both the space and {SPACE_UNIT!r}, by which it is written")
    return units


def token_sentences(texts: Iterable[str], tokens: TokenTable, left_out: LeftOut | None = None) -> Iterator[list[str]]:
    """Return what `encoded` yields, as units.

    Raises:
        TokenError: as `encoded`.
        LanguageModelError: two tokens would have the same unit.
    """
    units = token_units(tokens)
    return ([units[token] for token in ids] for ids in encoded(texts, tokens, left_out))
