r"""N-gram models ↔ ARPA files, the text format of SRILM, KenLM and most other toolkits.

    \data\
    ngram 1=5
    ngram 2=3

    \1-grams:
    -0.8451 world -0.30103
    …
    \end\

Each line has a log10 probability, the n-gram, and a log10 back-off weight. A missing weight is 0. The unknown word and
the marks of a sentence's ends may be in capitals, as CMU's toolkit writes `<UNK>`; they are read as `<unk>`, `<s>` and
`</s>`.

Source: SRILM's manual page ngram-format(5).
"""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.errors import LanguageModelError
from asr.files import atomic_path
from asr.lm.ngram import LOG10_ZERO, MARKS, MAX_ORDER, FloatArray, IntArray, NgramLm, NgramTable
from asr.paths import ReadablePath
from asr.reading import read_lines, shown

_GZIP_LEVEL = 5  # 9 makes files a few percent smaller and takes several times as long

# Not str.split(), because a no-break space, for instance, may be a unit.
_SEPARATOR = re.compile(r"[ \t]+")
_WHITE_SPACE = re.compile(r"[ \t\r\n]")
# How files begin that are in other formats, and the way out.
_FOREIGN = {
    b"\x1f\x8b": "compressed by gzip; let its name end in .gz",
    b"mmap lm ": "a binary file of KenLM; take the ARPA file that it was made of",
    b"SRILM_BINARY_NGRAM": "a binary file of SRILM; `ngram -lm FILE -write-lm NEW.arpa` writes an ARPA file",
    b"blmt": "a binary file of IRSTLM; `compile-lm --text=yes FILE NEW.arpa` writes an ARPA file",
    b"iARPA": "IRSTLM's intermediate format; `compile-lm --text=yes FILE NEW.arpa` writes an ARPA file",
    b"qARPA": "quantised by IRSTLM; take the ARPA file that it was made of",
    b"Qblmt": "quantised by IRSTLM; take the ARPA file that it was made of",
}
_COUNT = re.compile(r"ngram\s+([0-9]{1,9})\s*=\s*([0-9]{1,15})")

_MOST_LINES_AROUND = 1000  # before the header, between sections, and behind the end
_MOST_UNITS = 4_000_000  # they take some 160 bytes each


def write_arpa(lm: NgramLm, path: str | Path) -> None:
    """Write a model as an ARPA file, compressed if the name ends in `.gz`; equal models give equal bytes.

    Raises:
        LanguageModelError: a unit is empty or holds white space that separates fields.
    """
    for (unit,) in lm.ngrams[0]:
        if not unit or _WHITE_SPACE.search(unit):
            raise LanguageModelError(f"{path}: an ARPA file cannot hold the unit {unit!r}")
    with atomic_path(Path(path)) as temporary, temporary.open("wb") as file:
        is_compressed = temporary.suffix == ".gz"
        # The header has neither name nor time, so that equal models give equal bytes.
        target = gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) if is_compressed else file
        with io.TextIOWrapper(target, encoding="utf-8", newline="\n") as text:
            text.writelines(_lines(lm))


def read_arpa(path: str | ReadablePath) -> NgramLm:
    """Read an ARPA file of any order, compressed if the name ends in `.gz`, into arrays.

    Raises:
        LanguageModelError: the file is missing, damaged or not an ARPA file; the message names the line.
    """
    path = Path(path) if isinstance(path, str) else path
    _refuse_other_formats(path)
    return _Reader(path).read()


def _refuse_other_formats(path: ReadablePath) -> None:
    try:
        with path.open("rb") as stored:
            file = gzip.GzipFile(fileobj=stored) if path.suffix == ".gz" else stored
            start = file.read(max(map(len, _FOREIGN)))
    except (OSError, EOFError, zlib.error):
        return  # what is wrong, the reader says
    foreign = next((kind for beginning, kind in _FOREIGN.items() if start.startswith(beginning)), None)
    if foreign is not None:
        raise LanguageModelError(f"{path}: not an ARPA file but {foreign}")


def _lines(lm: NgramLm) -> Iterator[str]:
    yield "\\data\\\n"
    for order, ngrams in enumerate(lm.ngrams, start=1):
        yield f"ngram {order}={len(ngrams)}\n"
    for order, ngrams in enumerate(lm.ngrams, start=1):
        yield f"\n\\{order}-grams:\n"
        for ngram, (log10_probability, log10_backoff) in ngrams.items():
            backoff = f"\t{log10_backoff:.7g}" if log10_backoff else ""
            yield f"{log10_probability:.7g}\t{' '.join(ngram)}{backoff}\n"
    yield "\n\\end\\\n"


class _Section(NamedTuple):
    """The n-grams of one order in the order of the file. Arrays are `(n-gram,)` except the units."""

    units: NDArray[np.int32]  # (n-gram, place), their numbers
    lines: IntArray  # the numbers of their lines
    log10_probabilities: FloatArray
    log10_backoffs: FloatArray


class _Reader:
    """Reads one file line by line, and keeps the line's number for errors."""

    def __init__(self, path: ReadablePath) -> None:
        self._path = path
        self._lines = enumerate(read_lines(path, LanguageModelError, "the language model"), start=1)
        self._number = 0
        self._line = ""

    def read(self) -> NgramLm:
        while self._line != "\\data\\":  # anything may come before it
            self._next()
            if self._number > _MOST_LINES_AROUND:
                raise self._error("no \\data\\ so far, so it is not an ARPA file")
        counts = self._counts()
        numbers: dict[str, int] = {}
        units: Mapping[str, int] = numbers
        keys: list[IntArray] = []
        tables: list[NgramTable] = []
        for order, count in enumerate(counts, start=1):
            self._expect(f"\\{order}-grams:")
            section = self._section(order, count, numbers)
            ascending, different = self._sorted(section, keys, numbers)
            if len(different) != count:
                raise self._error(f"{len(different)} different {order}-grams, but the header says {count}")
            if order == 1:
                units = _with_usual_marks(numbers)
            keys.append(different)
            probabilities, backoffs = section.log10_probabilities[ascending], section.log10_backoffs[ascending]
            tables.append(NgramTable(units, keys, probabilities, backoffs))
        self._expect("\\end\\")
        for number, _ in self._lines:  # to the end, because the checksum of a compressed file is there
            if number > self._number + _MOST_LINES_AROUND:
                raise self._error("too much follows, but an ARPA file ends here")
        return NgramLm(tuple(tables))

    def _counts(self) -> list[int]:
        counts: list[int] = []
        while not self._next().startswith("\\"):
            match = _COUNT.fullmatch(self._line)
            if match is None or int(match[1]) != len(counts) + 1:
                raise self._error(f"expected 'ngram {len(counts) + 1}=<count>', found {shown(self._line)}")
            if len(counts) == MAX_ORDER:
                raise self._error(f"n-grams of an order above {MAX_ORDER}; estimate a model of a lower order")
            counts.append(int(match[2]))
        if not counts:
            raise self._error("the header names no n-grams")
        if not 0 < counts[0] <= _MOST_UNITS:
            raise self._error(f"the header says {counts[0]} 1-grams, but there are from 1 to {_MOST_UNITS}")
        return counts

    def _section(self, order: int, count: int, numbers: dict[str, int]) -> _Section:
        """Return the n-grams up to the next line that begins with a backslash. Unigrams get their numbers here."""
        units, lines, entries = array("i"), array("q"), array("d")
        while not self._next().startswith("\\"):
            fields = _SEPARATOR.split(self._line)
            if not order + 1 <= len(fields) <= order + 2:
                raise self._error(f"expected a number, {order} units and perhaps a number, found {shown(self._line)}")
            if len(lines) > 2 * count:  # an n-gram may be listed twice, but not all of them more often
                raise self._error(f"more {order}-grams than the {count} that the header says")
            probability, backoff = fields[0], fields[order + 1] if len(fields) == order + 2 else "0"
            try:
                log10_probability, log10_backoff = float(probability), float(backoff)
            except ValueError:
                raise self._error(f"{shown(' '.join([probability, *fields[order + 1 :]]))} should be numbers") from None
            if not log10_probability <= 0 or not math.isfinite(log10_backoff):
                raise self._error(f"{shown(self._line)}: a probability is at most 1, and a back-off weight is finite")
            if abs(log10_backoff) > -LOG10_ZERO:
                raise self._error(f"{shown(self._line)}: a back-off weight is from {LOG10_ZERO:g} to {-LOG10_ZERO:g}")
            if order == 1:
                units.append(numbers.setdefault(fields[1], len(numbers)))
            else:
                ngram = [numbers.get(unit, -1) for unit in fields[1 : order + 1]]
                if -1 in ngram:
                    raise self._unlisted(fields[1 : order + 1], -1 in ngram[:-1])
                units.extend(ngram)
            lines.append(self._number)
            entries.extend((max(log10_probability, LOG10_ZERO), log10_backoff))
        probabilities, backoffs = np.array(entries).reshape(-1, 2).T
        return _Section(np.array(units).reshape(-1, order), np.array(lines), probabilities, backoffs)

    def _sorted(self, section: _Section, shorter: list[IntArray], numbers: dict[str, int]) -> tuple[IntArray, IntArray]:
        """Return the rows of the section's different n-grams, sorted by key, and the keys; see `NgramTable`."""
        *histories, unit = section.units.T
        rows = np.zeros(len(unit), dtype=np.int64)
        for keys, number in zip(shorter, histories, strict=True):
            wanted = rows * len(numbers) + number
            rows = keys.searchsorted(wanted)
            unlisted = np.flatnonzero(np.append(keys, -1)[rows] != wanted)
            if len(unlisted):
                self._number = int(section.lines[unlisted[0]])
                raise self._unlisted([list(numbers)[number] for number in section.units[unlisted[0]]], True)
        keys = rows * len(numbers) + unit
        ascending = np.argsort(keys, kind="stable")
        keys = keys[ascending]
        is_last = np.append(keys[1:] != keys[:-1], len(keys) > 0)[: len(keys)]  # of two equal ones, the last holds
        return ascending[is_last], keys[is_last]

    def _unlisted(self, ngram: list[str], lacks_history: bool) -> LanguageModelError:
        if lacks_history:
            return self._error(f"the history of {shown(' '.join(ngram))} is not among the {len(ngram) - 1}-grams")
        return self._error(f"{shown(ngram[-1])} is not among the 1-grams")

    def _next(self) -> str:
        """Move to the next line that is not empty."""
        last = self._number
        for number, line in self._lines:
            self._number, self._line = number, line.strip(" \t\r\n")
            if self._line:
                return self._line
            if number > last + _MOST_LINES_AROUND:
                raise self._error("too many empty lines")
        raise self._error("the file ends too early: an ARPA file ends with \\end\\")

    def _expect(self, line: str) -> None:
        if self._line != line:
            raise self._error(f"expected {line!r}, found {shown(self._line)}")

    def _error(self, message: str) -> LanguageModelError:
        return LanguageModelError(f"{self._path}:{self._number}: {message}")


def _with_usual_marks(numbers: Mapping[str, int]) -> dict[str, int]:
    """Return the units' numbers with `<UNK>`, `<S>` and `</S>` in small letters, unless those are units as well."""
    usual: dict[str, int] = {}
    for unit, number in numbers.items():
        mark = unit.lower()
        usual[mark if mark in MARKS and mark not in numbers and mark not in usual else unit] = number
    return usual
