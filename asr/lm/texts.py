"""Where a language model's text comes from."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from asr.errors import LanguageModelError

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
    for line in _transcripts(path) if path.name.endswith(_MANIFEST_SUFFIXES) else _lines(path):
        if text := line.strip():
            is_empty = False
            yield text
    if is_empty:
        raise LanguageModelError(f"{path}: holds no sentence; one a line is expected")


def read_texts(path: str | Path) -> list[str]:
    """Return what `stream_texts` yields, all at once; raises what it raises."""
    return list(stream_texts(path))


def _transcripts(path: Path) -> Iterator[str]:
    from asr.data.manifest import cut_text, read_manifest  # lhotse takes its time to load

    for cut in read_manifest(path):
        yield cut_text(cut)


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            yield from io.TextIOWrapper(file, encoding="utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise LanguageModelError(f"{path}: cannot read the text ({reason})") from None
