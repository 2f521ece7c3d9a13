"""A table (csv, tsv) with a row per utterance and a header → utterances.

Which column of a table, or key of a JSON object, holds what.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from asr.corpus.importers.utterances import Utterance, split_name
from asr.errors import ManifestError
from asr.files import read_text

_DELIMITERS = ",;\t|"


def read_table(path: Path, columns: Columns, audio_dir: Path | None = None) -> list[Utterance]:
    """Return the utterances of a table; audio paths are relative to `audio_dir`, or to the table's folder.

    The delimiter is the one of comma, semicolon, tab and bar that the header has most of. In a tab-separated
    table a quotation mark is a character like any other, unless it encloses the whole cell. Without a column
    of ids an utterance's id is its audio path, without the suffix.

    Raises:
        ManifestError: the table cannot be read, a column is missing, or a row is malformed.
    """
    rows = _rows(path, read_text(path, ManifestError, "the table"))
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


# Names by which a column is found when it is not named; the first that the header has, whatever its case.
AUDIO_NAMES = (
    "audio",
    "path",
    "file",
    "filename",
    "file_name",
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


@dataclass(frozen=True)
class Columns:
    """The names of the columns to use; None: find the column by its usual names."""

    audio: str | None = None
    text: str | None = None
    speaker: str | None = None
    split: str | None = None
    id: str | None = None


class Found(NamedTuple):
    """The names that a header has for the columns; None where it has none."""

    audio: str
    text: str
    speaker: str | None
    split: str | None
    id: str | None


def find_columns(columns: Columns, header: Sequence[str], where: str) -> Found:
    """Return what the columns are called in `header`, which stands at `where`.

    Raises:
        ManifestError: a column that was named is not there, or there is none for the audio or the text.
    """
    audio = _find(where, header, columns.audio, AUDIO_NAMES, "audio")
    text = _find(where, header, columns.text, TEXT_NAMES, "text")
    assert audio is not None
    assert text is not None
    return Found(
        audio,
        text,
        _find(where, header, columns.speaker, SPEAKER_NAMES),
        _find(where, header, columns.split, SPLIT_NAMES),
        _find(where, header, columns.id, ID_NAMES),
    )


def id_from_path(name: str) -> str:
    """Return an utterance id made of an audio path as the source gives it."""
    parts = [part for part in Path(name).with_suffix("").parts if part not in ("/", "..")]
    return re.sub(r"[\s()]+", "_", "-".join(parts))


def _find(
    where: str, header: Sequence[str], wanted: str | None, usual: tuple[str, ...], needed: str | None = None
) -> str | None:
    if wanted is not None:
        if wanted not in header:
            raise ManifestError(f"{where}: no column {wanted!r}; there are: {', '.join(header)}")
        return wanted
    named = {name.strip().lower(): name for name in reversed(header)}
    for name in usual:
        if name in named:
            return named[name]
    if needed is None:
        return None
    raise ManifestError(
        f"{where}: no column for the {needed} (looked for {', '.join(usual)}); there are: {', '.join(header)}; "
        f"name the column with --{needed}-column (a table's first line names its columns)"
    )
