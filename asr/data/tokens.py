"""Text ↔ token ids: characters here, sub-word pieces in `pieces.py`. Blank is token 0, here and everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.data.files import write_text
from asr.errors import TokenError

if TYPE_CHECKING:
    from asr.config import TextSettings

BLANK = 0
BLANK_SYMBOL = "<blank>"


@dataclass(frozen=True)
class TokenTable:
    """The tokens of a model: `symbols[0]` is blank, the rest are single characters in sorted order.

    `PieceTable` is a table of sub-word pieces instead, with the same methods.

    Raises:
        TokenError: the symbols are not of that form.
    """

    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a table whose ids would mean something else than its symbols say."""
        if not self.symbols or self.symbols[BLANK] != BLANK_SYMBOL:
            raise TokenError(f"a token table begins with {BLANK_SYMBOL!r}, not {self.symbols[:1]}")
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
        return cls((BLANK_SYMBOL, *sorted(set().union(*map(set, texts)))))

    def __len__(self) -> int:
        """Return the number of tokens, blank included."""
        return len(self.symbols)

    @property
    def texts(self) -> tuple[str, ...]:
        """What each token adds to a text, by token id; a token that opens a word begins with a space, or is one."""
        return self.symbols

    @cached_property
    def _ids(self) -> dict[str, int]:
        """The token of each character that is one by itself."""
        return {text: index for index, text in enumerate(self.texts) if index != BLANK and len(text) == 1}

    def encode(self, text: str) -> list[int]:
        """Return the token ids of a normalised transcript.

        Raises:
            TokenError: the text holds characters that are not in the table; they are named.
        """
        self._require_known(text)
        return [self._ids[character] for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids that hold no blanks, with white space collapsed.

        Raises:
            TokenError: an id is blank or outside the table.
        """
        wrong = sorted({int(i) for i in ids if not BLANK < i < len(self.symbols)})
        if wrong:
            raise TokenError(f"token ids {wrong}: a text's tokens lie between 1 and {len(self.symbols) - 1}")
        return " ".join("".join(self.texts[i] for i in ids).split())

    def save(self, path: str | Path) -> None:
        """Write the table as JSON: `{"kind": "char", "symbols": [...]}`, or as `PieceTable` says.

        `load_tokens` in `token_files.py` reads it.
        """
        write_text(Path(path), json.dumps(self._content(), ensure_ascii=False, indent=1) + "\n")

    def _require_known(self, text: str) -> None:
        unknown = sorted(set(text) - self._ids.keys())
        if unknown:
            names = ", ".join(repr(character) for character in unknown)
            raise TokenError(
                f"{text!r}: no token for {names}, which the model's training text does not have; write what is "
                "spoken, or take the text out"
            )

    def _content(self) -> dict[str, Any]:
        return {"kind": "char", "symbols": list(self.symbols)}


def min_frames(tokens: Sequence[object]) -> int:
    """Return the fewest output frames in which CTC can emit `tokens`.

    Each takes one, and equal neighbours need a blank between them.

    Source: Graves et al. 2006, "Connectionist temporal classification", section 3.
    """
    return len(tokens) + _repeats(tokens)


def _repeats(tokens: Sequence[object]) -> int:
    """Count the tokens that are equal to the one before."""
    if isinstance(tokens, str) and tokens.isascii() and len(tokens) > 1:
        # The zero bytes of the text XORed with itself moved by one: ten times quicker, for surveys of big corpora.
        text = tokens.encode("ascii")
        pairs = int.from_bytes(text[1:], "big") ^ int.from_bytes(text[:-1], "big")
        return pairs.to_bytes(len(text) - 1, "big").count(0)
    return sum(a == b for a, b in pairwise(tokens))


def fewest_tokens(text: str, settings: TextSettings) -> Sequence[str]:
    """Return a normalised transcript as the tokens that need the fewest frames, whatever the table turns out to be.

    These are its characters if tokens are characters, and else its words: no piece reaches over a space.
    """
    return text if settings.tokens == "characters" else text.split()
