"""JSON lines, one object per utterance → manifests. NeMo's manifests and Hugging Face's `metadata.jsonl` are such."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

from asr.corpus.line import MOST_S, refuse_half_characters
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing.material import Material, Utterance
from asr.importing.table import Columns, Found, find_columns, make_utterance, no_speaker_column
from asr.importing.utterances import ImportReport, read_parts, write_splits
from asr.machine import Progress, silent
from asr.reading import parse_json, read_lines

_WAY_OUT = "each line is an object of its own"


def import_jsonl(
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
    """Write the manifests of a file of JSON lines, one object per utterance, into the folder `out`.

    An object with `offset` or `duration`, in seconds, is that part of its audio file. The arguments are those of
    `import_csv`; `columns` names the objects' keys.

    Raises:
        ManifestError: a file cannot be read, or nothing is left for training.
    """
    read = partial(read_json_lines, columns=columns or Columns(), audio_dir=Path(audio_dir) if audio_dir else None)
    material = read_parts(read, source, dev, test)
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_json_lines(path: Path, columns: Columns, audio_dir: Path | None = None) -> Material:
    """Return what is in a file of JSON lines; audio paths are relative to `audio_dir`, or to the file's folder.

    Where an object has `offset` or `duration`, in seconds, the utterance is that part of the audio file. Without a key
    of ids an utterance's id is its audio path without the suffix. Where there is an offset, the start and the end of
    the part in milliseconds follow.

    Raises:
        ManifestError: the file cannot be read, or no line can be used.
    """
    material = Material()
    speaker_keys: set[str] = set()
    for number, line in enumerate(read_lines(path, ManifestError, "the manifest"), 1):
        if line.strip():
            with material.at(where := f"{path}:{number}"):
                record = _object(line, where)
                found = find_columns(columns, list(record), where)
                material.utterances.append(_utterance(record, found, audio_dir or path.parent, where))
                speaker_keys |= {found.speaker} if found.speaker else set()
    material.or_refuse(f"{path}: no utterances; each line is a JSON object of its own")
    if speaker_keys:
        material.note_speakers(f"{path}: key {' or '.join(map(repr, sorted(speaker_keys)))}")
    else:
        material.notes.append(no_speaker_column(path, "key"))
    return material


def _utterance(record: dict[str, Any], found: Found, folder: Path, where: str) -> Utterance:
    return make_utterance(
        lambda key: _text(record, key, where),
        found,
        folder,
        where,
        start_s=_seconds(record, "offset", where),
        duration_s=_seconds(record, "duration", where),
    )


def _object(line: str, where: str) -> dict[str, Any]:
    value = parse_json(line, ManifestError, where, way_out=_WAY_OUT)
    try:
        refuse_half_characters(value)
    except ManifestError as error:
        raise ManifestError(f"{where}: {error}") from None
    if not isinstance(value, dict):
        raise ManifestError(f"{where}: a JSON {type(value).__name__}; {_WAY_OUT}")
    return value


def _text(record: dict[str, Any], key: str, where: str) -> str:
    """Return a text. A number becomes one, because speakers and ids often are numbers; null becomes an empty one."""
    value = record[key]
    if isinstance(value, (dict, list, bool)):
        raise ManifestError(f"{where}: {key!r} is {json.dumps(value)}, but a text is needed")
    return "" if value is None else str(value)


def _seconds(record: dict[str, Any], key: str, where: str) -> float | None:
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= MOST_S:
        raise ManifestError(f"{where}: {key!r} is {json.dumps(value):.80}, but a number of seconds is needed")
    return float(value)
