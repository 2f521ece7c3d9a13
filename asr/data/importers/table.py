"""A table (csv, tsv) with a row per utterance and a header → utterances."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asr.data.importers.utterances import Utterance, split_name
from asr.errors import ManifestError

# Names by which a column is found when it is not named; the first that the header has, whatever its case.
AUDIO_NAMES = (
    "audio",
    "path",
    "file",
    "filename",
    "audio_path",
    "audio_file",
    "audio_filepath",
    "wav",
    "wav_filename",
)
TEXT_NAMES = ("text", "sentence", "transcript", "transcription", "words")
SPEAKER_NAMES = ("speaker", "speaker_id", "client_id", "spk", "reader")
SPLIT_NAMES = ("split", "subset", "partition")
ID_NAMES = ("id", "utterance_id", "utt_id", "utterance", "utt")

_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Columns:
    """The header's names of the columns to use; None: find the column by its usual names."""

    audio: str | None = None
    text: str | None = None
    speaker: str | None = None
    split: str | None = None
    id: str | None = None


def read_table(path: Path, columns: Columns) -> list[Utterance]:
    """Return the utterances of a table; audio paths are relative to the table's folder.

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
    audio = _find(path, header, columns.audio, AUDIO_NAMES, "audio")
    text = _find(path, header, columns.text, TEXT_NAMES, "text")
    speaker = _find(path, header, columns.speaker, SPEAKER_NAMES)
    split = _find(path, header, columns.split, SPLIT_NAMES)
    id_ = _find(path, header, columns.id, ID_NAMES)
    assert audio is not None
    assert text is not None
    utterances = []
    for line, row in rows:
        where = f"{path}:{line}"
        if len(row) != len(header):
            raise ManifestError(
                f"{where}: {len(row)} cells, but the header (line {header_line}) has {len(header)}: {row}"
            )
        if not row[audio].strip():
            raise ManifestError(f"{where}: the column {header[audio]!r} is empty; it names the audio file")
        name = row[audio].strip()
        utterances.append(
            Utterance(
                id=row[id_].strip() if id_ is not None else _id_from_path(name),
                audio_path=path.parent / name,
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


def _find(
    path: Path, header: list[str], wanted: str | None, usual: tuple[str, ...], needed: str | None = None
) -> int | None:
    """Return a column's place; None if it is neither named nor needed and has none of its usual names."""
    if wanted is not None:
        if wanted not in header:
            raise ManifestError(f"{path}: no column {wanted!r}; the header has: {', '.join(header)}")
        return header.index(wanted)
    names = [name.strip().lower() for name in header]
    for name in usual:
        if name in names:
            return names.index(name)
    if needed is None:
        return None
    raise ManifestError(
        f"{path}: no column for the {needed} (looked for {', '.join(usual)}); the header has: "
        f"{', '.join(header)}; name the column with --{needed}-column"
    )


def _id_from_path(name: str) -> str:
    parts = [part for part in Path(name).with_suffix("").parts if part not in ("/", "..")]
    return re.sub(r"[\s()]+", "_", "-".join(parts))
