"""Standard output as people and programs expect it."""

from __future__ import annotations

import io
import sys


def write_utf8() -> None:
    """Write UTF-8 to a file or a pipe, whatever the locale (Windows', for one, knows no Cyrillic there).

    What a terminal, or a name that is no text, cannot show becomes an escape.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = sys.stdout.encoding if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
