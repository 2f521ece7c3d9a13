"""Parquet files of Hugging Face data sets, with the audio inside → audio files and manifests.

A row is an utterance. Its audio is the bytes of a sound file, which are written to a file below the output folder. The
file's name is that of the Parquet file and the number of the row, so nothing in the data decides where it is written.
One row group is in memory at a time, whatever the size of the file.

Source: Hugging Face, "Create an audio dataset"; its feature Audio is stored as a struct of `bytes` and `path`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.audio.sound_file import RECORDING_SUFFIXES
from asr.corpus.names import name_in_id, split_in_name, split_name
from asr.corpus.splits import SplitRule
from asr.errors import DependencyError, ManifestError
from asr.files import atomic_path, without_capitals
from asr.importing.material import Material, Utterance
from asr.importing.table import Columns, find_columns, no_speaker_column
from asr.importing.timed_text import find_files
from asr.importing.utterances import ImportReport, write_splits
from asr.machine import Progress, silent
from asr.reading import first_line, shown

if TYPE_CHECKING:
    from asr.importing.table import Found

SUFFIXES = frozenset({".parquet"})

_BATCH_ROWS = 16
_BUFFER_BYTES = 1 << 20
# What a part of a file may become when it is decompressed: this much in any case, or this many times its size.
_FREE_BYTES, _MOST_EXPANSION = 64 << 20, 200


def import_parquet(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    columns: Columns | None = None,
    split: SplitRule | None = None,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write the audio files and the manifests of Parquet files into the folder `out`.

    Args:
        source: a .parquet file, or a folder of any depth. Splits are in the names of files, as in
            train-00000-of-00004.parquet, or else in those of their folders.
        out: the folder for train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz, and for the audio, which is in `audio`.
        columns: which columns hold what; None: those with usual names.
        split: how splits are drawn that the source does not give; None: dev and test get a tenth each, by speaker.
        language: noted in the manifests, e.g. "en".
        progress: shows how far the import is.

    Raises:
        ManifestError: a file cannot be read, a column is missing, or nothing is left for training.
        OSError: the audio cannot be written.
        DependencyError: pyarrow is not installed.
    """
    material = read_parquet(Path(source), Path(out) / "audio", columns or Columns(), progress)
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_parquet(source: Path, audio: Path, columns: Columns, progress: Progress = silent) -> Material:
    """Return what is in Parquet files, whose audio is written into the folder `audio`.

    The other arguments and errors are those of `import_parquet`.
    """
    material = Material()
    files = find_files(source, SUFFIXES, "Parquet", material)
    root = source if source.is_dir() else source.parent
    taken: set[str] = set()
    with progress("audio", sum(path.stat().st_size for path in files)) as advance:
        for path in files:
            place = _free_place(path.relative_to(root).with_suffix(""), taken)
            split = next((split for part in reversed(place.parts) if (split := split_in_name(part))), None)
            with material.at(str(path)):
                _read(path, audio, place, split, columns, material)
            advance(path.stat().st_size)
    material.or_refuse(f"{source}: no rows")
    return material


def _free_place(place: Path, taken: set[str]) -> Path:
    """Return a file's place below the source, numbered if another file's audio or ids would be the same.

    Capitals count for nothing, as they do to the file systems of macOS and Windows.
    """
    free, number = place, 1
    while (name := without_capitals(_name_of(free))) in taken:
        number += 1
        free = place.with_name(f"{place.name}-{number}")
    taken.add(name)
    return free


def _name_of(place: Path) -> str:
    """Return how ids of a file's rows begin."""
    return name_in_id("-".join(place.parts))


def _read(path: Path, audio: Path, place: Path, split: str | None, columns: Columns, material: Material) -> None:
    """Add the rows of a file; `place` is its path below the source, without suffix."""
    rows = _rows(path, columns)
    found = next(rows)
    before = len(material.utterances)
    for number, row in enumerate(rows, 1):
        where = f"{path}: row {number}"
        with material.at(where):
            row_name = f"{number:07d}"
            name = f"{_name_of(place)}-{row_name}"
            material.utterances.append(_utterance(row, found, audio / place / row_name, where, split, name))
    if found.speaker is None:
        material.notes.append(no_speaker_column(path, "column"))
    elif any(utterance.speaker is None for utterance in material.utterances[before:]):
        material.notes.append(f"{path}: column {found.speaker!r} holds no speaker in some rows")


def _rows(path: Path, columns: Columns) -> Iterator[Any]:
    """Yield what the columns are called, and then each row: pyarrow's values by these names.

    Raises:
        ManifestError: the file is damaged, or a column is missing.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise DependencyError(f"{path}: Parquet needs the package pyarrow; `pip install 'asr[import]'`") from None
    try:
        with ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
            found = find_columns(columns, file.schema_arrow.names, str(path))
            yield found
            names = list(dict.fromkeys(name for name in found if name is not None))
            for group in range(file.num_row_groups):
                _check_expansion(path, group, file.metadata.row_group(group))
                for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=names):
                    values = {name: batch.column(name) for name in names}
                    for place in range(batch.num_rows):
                        yield {name: column[place] for name, column in values.items()}
    except (ArrowException, OSError, OverflowError) as error:  # ArrowException: also of types that are not supported
        raise ManifestError(f"{path}: cannot be read as Parquet ({first_line(str(error))})") from None


def _check_expansion(path: Path, group: int, metadata: Any) -> None:
    parts = [metadata.column(place) for place in range(metadata.num_columns)]
    for part in parts:
        if part.total_uncompressed_size > max(_FREE_BYTES, _MOST_EXPANSION * part.total_compressed_size):
            raise ManifestError(
                f"{path}: column {part.path_in_schema!r} of row group {group} becomes {part.total_uncompressed_size:,} "
                f"bytes from {part.total_compressed_size:,}; write the file again without compression"
            )


def _utterance(row: dict[str, Any], found: Found, target: Path, where: str, split: str | None, name: str) -> Utterance:
    """Return the utterance of a row, whose audio is written to the file `target` with a suffix.

    Args:
        row: its values.
        found: what the columns are called.
        target: the file, without a suffix.
        where: the file and the row, for errors.
        split: of the file.
        name: the utterance's id if there is no column of ids.
    """
    audio_name, data = _audio(row, found.audio)
    text = _text(row, found.text)
    suffix = Path(audio_name).suffix.lower()
    path = target.with_name(target.name + (suffix if suffix in RECORDING_SUFFIXES else ".audio"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return Utterance(
        id=_text(row, found.id).strip() if found.id else name,
        audio_path=path,
        text=text,
        where=where,
        speaker=_text(row, found.speaker).strip() or None if found.speaker else None,
        split=split_name(_text(row, found.split), where) if found.split else split,
    )


def _audio(row: dict[str, Any], column: str) -> tuple[str, bytes]:
    """Return the file name in a cell, which may be empty, and the bytes of the sound file.

    Raises:
        ManifestError: there are no bytes.
    """
    value = _value(row, column)
    if isinstance(value, bytes):
        return "", value
    data = value.get("bytes") if isinstance(value, dict) else None
    if not isinstance(data, bytes) or not data:
        raise ManifestError(f"{column!r} is {shown(value)}, but it holds no bytes of a sound file")
    name = value.get("path")
    return name if isinstance(name, str) else "", data


def _text(row: dict[str, Any], column: str) -> str:
    """Return a text. A number becomes one, because speakers and ids often are numbers; null becomes an empty one."""
    value = _value(row, column)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ManifestError(f"{column!r} is {shown(value)}, but a text is needed")
    return str(value)


def _value(row: dict[str, Any], column: str) -> Any:
    try:
        return row[column].as_py()
    except ValueError as error:  # a text that is not UTF-8, a date that Python cannot hold
        raise ManifestError(f"{column!r} cannot be read ({first_line(str(error))})") from None
