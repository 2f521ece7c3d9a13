r"""ARPA files: n-gram models as text, as SRILM, KenLM and most other toolkits write and read them.

    \data\
    ngram 1=5
    ngram 2=3

    \1-grams:
    -0.8451 world -0.30103
    …
    \end\

Each line holds a log10 probability, the n-gram, and a log10 back-off weight, which is 0 if left out.

Source: SRILM's manual page ngram-format(5).
"""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from asr.data.files import atomic_path
from asr.errors import LanguageModelError
from asr.lm.ngram import Ngram, NgramEntry, NgramLm

# Not str.split(): a no-break space, say, may be a unit.
_SEPARATOR = re.compile(r"[ \t]+")
_WHITE_SPACE = re.compile(r"[ \t\r\n]")
_COUNT = re.compile(r"ngram\s+(\d+)\s*=\s*(\d+)")


def write_arpa(lm: NgramLm, path: str | Path) -> None:
    """Write a model as an ARPA file, compressed if the name ends in `.gz`; equal models give equal bytes.

    Raises:
        LanguageModelError: a unit is empty or holds white space that separates fields.
    """
    for (unit,) in lm.ngrams[0]:
        if not unit or _WHITE_SPACE.search(unit):
            raise LanguageModelError(f"{path}: an ARPA file cannot hold the unit {unit!r}")
    content = "\n".join(_lines(lm)).encode()
    with atomic_path(Path(path)) as temporary:
        temporary.write_bytes(gzip.compress(content, mtime=0) if temporary.suffix == ".gz" else content)


def read_arpa(path: str | Path) -> NgramLm:
    """Read an ARPA file of any order, compressed if the name ends in `.gz`.

    Raises:
        LanguageModelError: the file is missing, damaged or not an ARPA file; the message names the line.
    """
    path = Path(path)
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return _Reader(path, io.TextIOWrapper(file, encoding="utf-8")).read()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise LanguageModelError(f"{path}: cannot read the language model ({error})") from None


def _lines(lm: NgramLm) -> Iterator[str]:
    yield "\\data\\"
    for order, ngrams in enumerate(lm.ngrams, start=1):
        yield f"ngram {order}={len(ngrams)}"
    for order, ngrams in enumerate(lm.ngrams, start=1):
        yield f"\n\\{order}-grams:"
        for ngram, (log10_probability, log10_backoff) in ngrams.items():
            backoff = f"\t{log10_backoff:.7g}" if log10_backoff else ""
            yield f"{log10_probability:.7g}\t{' '.join(ngram)}{backoff}"
    yield "\n\\end\\\n"


class _Reader:
    """Reads one file line by line, knowing where it is."""

    def __init__(self, path: Path, file: io.TextIOWrapper) -> None:
        self._path = path
        self._lines = enumerate(file, start=1)
        self._number = 0
        self._line = ""

    def read(self) -> NgramLm:
        while self._line != "\\data\\":  # anything may stand before it
            self._next()
        counts = self._counts()
        tables: list[dict[Ngram, NgramEntry]] = []
        for order, count in enumerate(counts, start=1):
            self._expect(f"\\{order}-grams:")
            tables.append(self._ngrams(order, tables[-1] if tables else {(): NgramEntry(0.0)}))
            if len(tables[-1]) != count:
                raise self._error(f"{len(tables[-1])} different {order}-grams, but the header says {count}")
        self._expect("\\end\\")
        return NgramLm(tuple(tables))

    def _counts(self) -> list[int]:
        counts: list[int] = []
        while not self._next().startswith("\\"):
            match = _COUNT.fullmatch(self._line)
            if match is None or int(match[1]) != len(counts) + 1:
                raise self._error(f"expected 'ngram {len(counts) + 1}=<count>', found {self._line!r}")
            counts.append(int(match[2]))
        if not counts:
            raise self._error("the header names no n-grams")
        return counts

    def _ngrams(self, order: int, histories: dict[Ngram, NgramEntry]) -> dict[Ngram, NgramEntry]:
        """Return the n-grams up to the next line that begins with a backslash and is no n-gram."""
        table: dict[Ngram, NgramEntry] = {}
        while not self._next().startswith("\\"):
            probability, *fields = _SEPARATOR.split(self._line)
            units, numbers = tuple(fields[:order]), [probability, *fields[order:]]
            if len(units) < order or len(numbers) > 2:
                raise self._error(f"expected a number, {order} units and perhaps a number, found {self._line!r}")
            try:
                entry = NgramEntry(*map(float, numbers))
            except ValueError:
                raise self._error(f"{' '.join(numbers)!r} should be numbers") from None
            if not entry.log10_probability <= 0 or not math.isfinite(entry.log10_backoff):
                raise self._error(f"{self._line!r}: a probability is at most 1, a back-off weight finite")
            if units[:-1] not in histories:
                raise self._error(f"the history of {' '.join(units)!r} is not among the {order - 1}-grams")
            table[units] = entry
        return table

    def _next(self) -> str:
        """Move to the next line that is not empty."""
        for number, line in self._lines:
            self._number, self._line = number, line.strip(" \t\r\n")
            if self._line:
                return self._line
        raise self._error("the file ends too early: an ARPA file goes from \\data\\ to \\end\\")

    def _expect(self, line: str) -> None:
        if self._line != line:
            raise self._error(f"expected {line!r}, found {self._line!r}")

    def _error(self, message: str) -> LanguageModelError:
        return LanguageModelError(f"{self._path}:{self._number}: {message}")
