"""A table (csv, tsv) with a row per utterance and a header → utterances."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from asr.data.importers.columns import Columns, find_columns, id_from_path
from asr.data.importers.utterances import Utterance, split_name
from asr.errors import ManifestError

_DELIMITERS = ",;\t|"


def read_table(path: Path, columns: Columns, audio_dir: Path | None = None) -> list[Utterance]:
    """Return the utterances of a table; audio paths are relative to `audio_dir`, or to the table's folder.

    The delimiter is the one of comma, semicolon, tab and bar that the header has most of. In a tab-separated
    table a quotation mark is a character like any other, unless it encloses the whole cell. Without a column
    of ids an utterance's id is its audio path, without the suffix.

    Raises:
        ManifestError: the table cannot be read, a column is missing, or a row is malformed.
    """
    rows = _rows(path, _read(path))
    header_line, header = next(rows, (1, []))
    if not any(header):
        raise ManifestError(f"{path}: the table is empty; its first line names the columns")
    if header[0].startswith("{"):
        raise ManifestError(f"{path}: JSON lines, not a table; use asr import jsonl {path}")
    found = find_columns(columns, header, str(path))
    audio, text = header.index(found.audio), header.index(found.text)
    speaker, split, id_ = (None if name is None else header.index(name) for name in found[2:])
    folder = audio_dir or path.parent
    utterances = []
    for line, row in rows:
        where = f"{path}:{line}"
        if len(row) != len(header):
            raise ManifestError(
                f"{where}: {len(row)} cells, but the header (line {header_line}) has {len(header)}: {row}"
            )
        name = row[audio].strip()
        if not name:
            raise ManifestError(f"{where}: the column {header[audio]!r} is empty; it names the audio file")
        utterances.append(
            Utterance(
                id=row[id_].strip() if id_ is not None else id_from_path(name),
                audio_path=folder / name,
                text=row[text],
                where=where,
                speaker=(row[speaker].strip() or None) if speaker is not None else None,
                split=split_name(row[split], where) if split is not None else None,
            )
        )
    if not utterances:
        raise ManifestError(f"{path}: the table has a header but no rows")
    return utterances


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")  # spreadsheets begin UTF-8 with a byte order mark
    except OSError as error:
        raise ManifestError(f"{path}: cannot read the table ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ManifestError(f"{path}:{line}: not UTF-8; save the table as UTF-8") from None


def _rows(path: Path, content: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank and the number of the line on which each ends."""
    first = content.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    tabbed = delimiter == "\t"
    reader = csv.reader(
        io.StringIO(content, newline=""),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if tabbed else csv.QUOTE_MINIMAL,
        strict=True,
    )
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, [_unquote(cell) for cell in row] if tabbed else row
    except csv.Error as error:
        raise ManifestError(f"{path}:{reader.line_num}: malformed row ({error})") from None


def _unquote(cell: str) -> str:
    if len(cell) >= 2 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell
