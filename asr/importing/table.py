"""A table (csv, tsv) with a header and a row per utterance → manifests; and which column holds what.

The columns of a table and the keys of JSON objects (`json_lines.py`) are found by the same names.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from asr.audio.sound_file import RECORDING_SUFFIXES
from asr.corpus.names import id_from_path, id_of_part, split_name
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing.material import Material, Utterance
from asr.importing.utterances import ImportReport, read_parts, write_splits
from asr.machine import Progress, silent
from asr.reading import read_lines

_DELIMITERS = ",;\t|"
# Names by which a column is found if it is not named: the first that the header has, in capitals or not.
USUAL_NAMES = {
    "audio": (
        *("audio", "path", "file", "filename", "file_name", "audio_path", "audio_file", "audio_filepath"),
        *("wav", "wav_filename"),
    ),
    "text": ("text", "sentence", "transcript", "transcription", "words"),
    "speaker": ("speaker", "speaker_id", "client_id", "spk", "reader"),
    "split": ("split", "subset", "partition"),
    "id": ("id", "utterance_id", "utt_id", "utterance", "utt"),
}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table, or keys of JSON objects, hold what; None: the one with a usual name, if there is one.

    Attributes:
        audio: the path of the audio file.
        text: the transcript.
        speaker: who speaks; without it each utterance counts as a speaker of its own.
        split: train, dev or test; without it splits are drawn.
        id: the utterance's id; without it ids are made from the audio paths.
    """

    audio: str | None = None
    text: str | None = None
    speaker: str | None = None
    split: str | None = None
    id: str | None = None


class Found(NamedTuple):
    """What a header calls the columns; None where it has no such column."""

    audio: str
    text: str
    speaker: str | None
    split: str | None
    id: str | None


def import_csv(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    dev: str | os.PathLike[str] | None = None,
    test: str | os.PathLike[str] | None = None,
    audio_dir: str | os.PathLike[str] | None = None,
    columns: Columns | None = None,
    split: SplitRule | None = None,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write the manifests of a .csv or .tsv table, which has a header and a row per utterance, into the folder `out`.

    Args:
        source: the table, which may be gzipped; with `dev` or `test`, the one of the training set.
        out: the folder for train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        dev: the table of the dev set, if it is a file of its own.
        test: likewise of the test set.
        audio_dir: the folder that audio paths start from; None: the table's folder.
        columns: which columns hold what; None: those with usual names.
        split: how splits are drawn that the source does not give; None: dev and test get a tenth each, by speaker.
        language: noted in the manifests, e.g. "en".
        progress: shows how far the import is.

    Raises:
        ManifestError: a table cannot be read, a column is missing, or nothing is left for training.
    """
    read = partial(read_table, columns=columns or Columns(), audio_dir=Path(audio_dir) if audio_dir else None)
    material = read_parts(read, source, dev, test)
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_table(path: Path, columns: Columns, audio_dir: Path | None = None) -> Material:
    """Return what is in a table; audio paths are relative to `audio_dir`, or to the table's folder.

    The delimiter is the one of comma, semicolon, tab and bar that the header has most of. In a tab-separated
    table a quotation mark is a character like any other, unless it encloses the whole cell. Without a column
    of ids an utterance's id is its audio path, without the suffix.

    Raises:
        ManifestError: the table cannot be read, a column is missing, or no row can be used.
    """
    rows = _rows(path, "\n".join(read_lines(path, ManifestError, "the table")))
    header_line, header = next(rows, (1, []))
    if not any(header):
        raise ManifestError(f"{path}: the table is empty; its first line names the columns")
    if header[0].startswith("{"):
        raise ManifestError(f"{path}: JSON lines, not a table; use asr import jsonl {path}")
    found = find_columns(columns, header, str(path))
    place = {name: header.index(name) for name in header}
    material = Material()
    for line, row in rows:
        with material.at(where := f"{path}:{line}"):
            _refuse_swallowed_rows(row, where)
            if len(row) != len(header):
                raise ManifestError(f"{len(row)} cells, but the header (line {header_line}) has {len(header)}: {row}")

            def cell(column: str, row: list[str] = row) -> str:
                return row[place[column]]

            material.utterances.append(make_utterance(cell, found, audio_dir or path.parent, where))
    material.or_refuse(f"{path}: the table has a header but no rows")
    if found.speaker:
        material.note_speakers(f"{path}: column {found.speaker!r}")
    else:
        material.notes.append(no_speaker_column(path, "column"))
    return material


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
    before = 0
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, [_unquote(cell) for cell in row] if tabbed else row
            before = reader.line_num
    except csv.Error as error:
        if before + 1 < reader.line_num:
            way_out = f'a cell of line {before + 1} begins with ", which is to be written twice if it is of the text'
            error = csv.Error(f"{error}; {way_out}")
        raise ManifestError(f"{path}:{reader.line_num}: malformed row ({error})") from None


def _refuse_swallowed_rows(row: Sequence[str], where: str) -> None:
    """Refuse a row with a cell in which the next rows are, because a text begins with a quotation mark."""
    suffixes = {suffix for cell in row if (suffix := _recording_suffix(cell))}
    for line in (line for cell in row for line in cell.split("\n")[1:]):
        for cell in re.split(f"[{re.escape(_DELIMITERS)}]", line):
            if _recording_suffix(cell) in suffixes:
                raise ManifestError(
                    f'{where}: a cell begins with " and goes on to the row of {cell!r}; write a quotation mark of the '
                    "text twice, and enclose the cell in two more"
                )


def _recording_suffix(cell: str) -> str:
    """Return the suffix of a recording's name; an empty one if the cell holds none."""
    suffix = os.path.splitext(cell.strip().strip('"'))[1].lower()
    return suffix if suffix in RECORDING_SUFFIXES else ""


def _unquote(cell: str) -> str:
    if len(cell) >= 2 and cell[0] == cell[-1] == '"':
        return cell[1:-1].replace('""', '"')
    return cell


def find_columns(columns: Columns, header: Sequence[str], where: str) -> Found:
    """Return what the columns are called in a header.

    Args:
        columns: those that the user names.
        header: the names that exist.
        where: the file and line of the header, for errors.

    Raises:
        ManifestError: a column that was named does not exist, there is none for the audio or the text, or two columns
            have the name that is looked for.
    """
    found = {kind: _find(where, header, getattr(columns, kind), kind) for kind in USUAL_NAMES}
    audio, text = found["audio"], found["text"]
    if audio is None or text is None:
        needed = "text" if audio else "audio"
        raise ManifestError(
            f"{where}: no column for the {needed} (looked for {', '.join(USUAL_NAMES[needed])}); there are: "
            f"{', '.join(header)}; name the column with --{needed}-column (a table's first line names its columns)"
        )
    return Found(audio, text, found["speaker"], found["split"], found["id"])


def no_speaker_column(path: Path, column: str) -> str:
    """Return the note that a file names no speaker in any column, or key."""
    return (
        f"{path}: no {column} for the speaker (looked for {', '.join(USUAL_NAMES['speaker'])}); --speaker-column "
        "names another"
    )


def _find(where: str, header: Sequence[str], wanted: str | None, kind: str) -> str | None:
    if wanted is not None:
        named = [name for name in header if name == wanted]
        if not named:
            raise ManifestError(f"{where}: no column {wanted!r}; there are: {', '.join(header)}")
    else:
        plain = [name.strip().lower() for name in header]
        usual = next((name for name in USUAL_NAMES[kind] if name in plain), None)
        named = [name for name, short in zip(header, plain, strict=True) if short == usual]
    if len(named) > 1:
        way_out = "rename one" if len({*named}) == 1 else f"name the right one with --{kind}-column"
        raise ManifestError(f"{where}: {len(named)} columns are called {' and '.join(map(repr, named))}; {way_out}")
    return next(iter(named), None)


def make_utterance(
    cell: Callable[[str], str],
    found: Found,
    folder: Path,
    where: str,
    *,
    start_s: float | None = None,
    duration_s: float | None = None,
) -> Utterance:
    """Return the utterance of a row, or of a JSON object.

    Args:
        cell: returns the text in a column.
        found: what the columns are called.
        folder: what audio paths are relative to.
        where: the file and line, for errors.
        start_s: where the utterance starts in its audio file; None: it is the whole file.
        duration_s: how long it is; None: up to the end of the file.

    Raises:
        ManifestError: there is no audio path, it is an address, or the split is unknown.
    """
    name = cell(found.audio).strip()
    if not Path(name).name:
        fault = f"is {name!r}" if name else "is empty"
        raise ManifestError(f"{where}: {found.audio!r} {fault}; it names the audio file")
    if re.match("[A-Za-z][A-Za-z0-9+.-]+://", name):
        raise ManifestError(f"{where}: {found.audio!r} is the address {name!r}; download it and give the file's path")
    if found.id:
        id_ = cell(found.id).strip()
    else:
        id_ = id_from_path(name)
        if start_s is not None:  # one of several parts of the file
            id_ = id_of_part(id_, start_s, start_s + (duration_s or 0.0))
    return Utterance(
        id=id_,
        audio_path=folder / name,
        text=cell(found.text),
        where=where,
        speaker=(cell(found.speaker).strip() or None) if found.speaker else None,
        split=split_name(cell(found.split), where) if found.split else None,
        start_s=start_s or 0.0,
        duration_s=duration_s,
        relative_to="" if Path(name).is_absolute() else str(folder),
    )
