"""A token table's file → the table, of characters or of sub-word pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from asr.data.pieces import PieceTable
from asr.data.tokens import TokenTable
from asr.errors import TokenError


def load_tokens(path: str | Path) -> TokenTable:
    """Read a table that `TokenTable.save` wrote.

    Raises:
        TokenError: the file is missing or is not a token table.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise TokenError(f"{path}: cannot read the token table ({error.strerror})") from None
    except ValueError as error:
        raise TokenError(f"{path}: not a token table ({error})") from None
    try:
        return _table(content)
    except TokenError as error:
        raise TokenError(f"{path}: {error}") from None


def _table(content: Any) -> TokenTable:
    symbols = content.get("symbols") if isinstance(content, dict) else None
    if isinstance(symbols, list) and all(isinstance(symbol, str) for symbol in symbols):
        if content.get("kind") == "char":
            return TokenTable(tuple(symbols))
        if content.get("kind") == "pieces":
            return PieceTable.from_content(tuple(symbols), content.get("model"))
    raise TokenError('not a token table; expected {"kind": "char" or "pieces", "symbols": [...]}')
