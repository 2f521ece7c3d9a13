"""Where a language model's text comes from."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

from asr.errors import LanguageModelError

_MANIFEST_SUFFIXES = (".jsonl", ".jsonl.gz")


def read_texts(path: str | Path) -> list[str]:
    """Return the sentences of a text file, one a line, or a manifest's transcripts; empty ones are left out.

    Args:
        path: a manifest if so named (`.jsonl`, `.jsonl.gz`), else UTF-8 text, compressed if it ends in `.gz`.

    Raises:
        ManifestError: the manifest is missing or malformed.
        LanguageModelError: the text file is missing or damaged, or holds no sentence.
    """
    path = Path(path)
    lines = _transcripts(path) if path.name.endswith(_MANIFEST_SUFFIXES) else _lines(path)
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise LanguageModelError(f"{path}: holds no sentence; one a line is expected")
    return texts


def _transcripts(path: Path) -> list[str]:
    from asr.data.manifest import cut_text, read_manifest  # lhotse takes its time to load

    return [cut_text(cut) for cut in read_manifest(path)]


def _lines(path: Path) -> list[str]:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return list(io.TextIOWrapper(file, encoding="utf-8"))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise LanguageModelError(f"{path}: cannot read the text ({error})") from None
