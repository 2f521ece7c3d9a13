"""A list of phrases, or a JSGF grammar → what may be said, as an expression that knows no model.

    turn on the light            a phrase a line
    # a comment

A file whose first line begins with `#JSGF` is a grammar, see `jsgf.py`; any other is a list of phrases.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from asr.errors import LanguageModelError
from asr.lm.jsgf import Expression, Words, choice, parse_jsgf
from asr.reading import read_text

JSGF_HEADER = "#JSGF"
_COMMENT = "#"
MOST_BYTES = 4_000_000  # of a file: 100,000 phrases of 40 characters


@dataclass(frozen=True)
class Grammar:
    """What may be said. It is the same for all models. `Grammar("the request", text)` is one of a text.

    Attributes:
        name: the file, for messages.
        source: the text of the file: phrases, one a line, or JSGF.
    """

    name: str
    source: str = field(repr=False)

    @cached_property
    def expressions(self) -> tuple[Expression, Mapping[str, Expression]]:
        """What may be said, and what the rules say that it refers to.

        Raises:
            LanguageModelError: the source is not JSGF, has no phrase, or is larger than 4 MB.
        """
        if len(self.source) > MOST_BYTES:
            raise LanguageModelError(f"{self.name}: larger than {MOST_BYTES // 1_000_000} MB; give fewer phrases")
        if self.source.startswith(JSGF_HEADER):
            return parse_jsgf(self.source, self.name)
        phrases = [
            Words(line.strip(), number)
            for number, line in enumerate(self.source.split("\n"), 1)
            if line.strip() and not line.startswith(_COMMENT)
        ]
        if not phrases:
            raise LanguageModelError(f"{self.name}: there is no phrase in it; write one a line")
        return choice(phrases), {}

    @property
    def checksum(self) -> str:
        """The SHA-256 of the source, in hexadecimal digits."""
        return hashlib.sha256(self.source.encode()).hexdigest()


GrammarSource: TypeAlias = "Grammar | str | os.PathLike[str] | Iterable[str]"


def load_grammar(grammar: GrammarSource) -> Grammar:
    """Return what may be said, from a file or from phrases.

    Args:
        grammar: the path of a UTF-8 file: phrases, one a line, or JSGF if it begins with `#JSGF`. Or a list of phrases.
            A grammar that was loaded before is returned as it is.

    Raises:
        LanguageModelError: the file cannot be read, or is not JSGF; or there is no phrase.
    """
    if isinstance(grammar, Grammar):
        return grammar
    if isinstance(grammar, (str, os.PathLike)):
        path = Path(grammar)
        loaded = Grammar(str(path), read_text(path, LanguageModelError, "the grammar", most_bytes=MOST_BYTES))
    else:
        phrases = list(grammar)
        if not all(isinstance(phrase, str) for phrase in phrases):
            raise LanguageModelError("grammar: the path of a file, or a list of phrases such as ['yes', 'no']")
        loaded = Grammar("the grammar", "\n".join(phrases))
    _ = loaded.expressions
    return loaded
