"""Characters ↔ token ids. Blank is token 0, here and everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from asr.data.files import write_text
from asr.errors import TokenError

BLANK = 0
_BLANK_SYMBOL = "<blank>"


@dataclass(frozen=True)
class TokenTable:
    """The tokens of a model: `symbols[0]` is blank, the rest are single characters in sorted order.

    Raises:
        TokenError: the symbols are not of that form.
    """

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a table whose ids would mean something else than its symbols say."""
        if not self.symbols or self.symbols[BLANK] != _BLANK_SYMBOL:
            raise TokenError(f"a token table begins with {_BLANK_SYMBOL!r}, not {self.symbols[:1]}")
        characters = self.symbols[1:]
        if not characters:
            raise TokenError("a token table needs at least one character; are all transcripts empty?")
        if any(len(character) != 1 for character in characters):
            raise TokenError(f"tokens are single characters, not {[c for c in characters if len(c) != 1]}")
        if list(characters) != sorted(set(characters)):
            raise TokenError("the characters of a token table are sorted and each occurs once")

    @classmethod
    def from_texts(cls, texts: Iterable[str]) -> TokenTable:
        """Return the table of all characters that occur in normalised transcripts."""
        return cls((_BLANK_SYMBOL, *sorted(set().union(*map(set, texts)))))

    def __len__(self) -> int:
        """Return the number of tokens, blank included."""
        return len(self.symbols)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: index for index, symbol in enumerate(self.symbols) if index != BLANK}

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a normalised transcript.

        Raises:
            TokenError: the text holds characters that are not in the table; they are named.
        """
        unknown = sorted(set(text) - self._ids.keys())
        if unknown:
            names = ", ".join(repr(character) for character in unknown)
            raise TokenError(
                f"{text!r}: no token for {names}; delete such characters with text.remove, "
                "or have them in the training text"
            )
        return [self._ids[character] for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids that hold no blanks, with white space collapsed.

        Raises:
            TokenError: an id is blank or outside the table.
        """
        wrong = sorted({int(i) for i in ids if not BLANK < i < len(self.symbols)})
        if wrong:
            raise TokenError(f"token ids {wrong}: a text's tokens lie between 1 and {len(self.symbols) - 1}")
        return " ".join("".join(self.symbols[i] for i in ids).split())

    def save(self, path: str | Path) -> None:
        """Write the table as JSON: `{"kind": "char", "symbols": [...]}`."""
        table = {"kind": "char", "symbols": list(self.symbols)}
        write_text(Path(path), json.dumps(table, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> TokenTable:
        """Read a table that `save` wrote.

        Raises:
            TokenError: the file is missing or is not a token table.
        """
        try:
            table = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise TokenError(f"{path}: cannot read the token table ({error.strerror})") from None
        except ValueError as error:
            raise TokenError(f"{path}: not a token table ({error})") from None
        symbols = table.get("symbols") if isinstance(table, dict) and table.get("kind") == "char" else None
        if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
            raise TokenError(f'{path}: not a token table; expected {{"kind": "char", "symbols": [...]}}')
        try:
            return cls(tuple(symbols))
        except TokenError as error:
            raise TokenError(f"{path}: {error}") from None


def min_frames(tokens: Sequence[int]) -> int:
    """Return the fewest output frames in which CTC can emit `tokens`.

    Each takes one, and equal neighbours need a blank between them.

    Source: Graves et al. 2006, "Connectionist temporal classification", section 3.
    """
    return len(tokens) + sum(a == b for a, b in pairwise(tokens))
