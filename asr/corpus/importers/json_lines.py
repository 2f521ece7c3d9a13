"""JSON lines, an object per utterance, as NeMo's manifests and Hugging Face's `metadata.jsonl` are → utterances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from asr.corpus.importers.table import Columns, find_columns, id_from_path
from asr.corpus.importers.utterances import Utterance, split_name
from asr.errors import ManifestError


def read_json_lines(path: Path, columns: Columns, audio_dir: Path | None = None) -> list[Utterance]:
    """Return the utterances of a file of JSON lines; audio paths are relative to `audio_dir`, or to the file's folder.

    Where an object has `offset` or `duration`, in seconds, the utterance is that part of the audio file. Without a key
    of ids an utterance's id is its audio path without the suffix and, where there is an offset, the begin and the end
    of the part in milliseconds.

    Raises:
        ManifestError: the file cannot be read, or a line is malformed or lacks a key.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ManifestError(f"{path}: cannot read the manifest ({error.strerror})") from None
    folder = audio_dir or path.parent
    utterances = [
        _utterance(line, columns, folder, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not utterances:
        raise ManifestError(f"{path}: no utterances; each line is to be a JSON object")
    return utterances


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig"), parse_constant=_refuse)
    except ValueError as error:  # UnicodeDecodeError is one
        raise ManifestError(f"{where}: not JSON in UTF-8 ({error}); each line is an object of its own") from None
    if not isinstance(value, dict):
        raise ManifestError(f"{where}: a JSON {type(value).__name__}, where an object was expected")
    return value


def _refuse(constant: str) -> None:
    """Refuse NaN and Infinity, which Python writes for what is missing or broken and JSON does not know."""
    raise ValueError(f"{constant} is no JSON value")


def _utterance(line: bytes, columns: Columns, folder: Path, where: str) -> Utterance:
    record = _object(line, where)
    found = find_columns(columns, list(record), where)
    name = _text(record, found.audio, where).strip()
    if not name:
        raise ManifestError(f"{where}: {found.audio!r} is empty; it names the audio file")
    start_s, duration_s = _seconds(record, "offset", where), _seconds(record, "duration", where)
    part = ""
    if start_s is not None:
        part = "".join(f"-{round(1000 * time_s):07d}" for time_s in (start_s, start_s + (duration_s or 0.0)))
    return Utterance(
        id=_text(record, found.id, where).strip() if found.id else id_from_path(name) + part,
        audio_path=folder / name,
        text=_text(record, found.text, where),
        where=where,
        speaker=(_text(record, found.speaker, where).strip() or None) if found.speaker else None,
        split=split_name(_text(record, found.split, where), where) if found.split else None,
        start_s=start_s or 0.0,
        duration_s=duration_s,
    )


def _text(record: dict[str, Any], key: str, where: str) -> str:
    """Return a text; numbers are taken for one, as speakers and ids often are numbers, and null for none."""
    value = record[key]
    if isinstance(value, (dict, list, bool)):
        raise ManifestError(f"{where}: {key!r} is {json.dumps(value)}, where a text was expected")
    return "" if value is None else str(value)


def _seconds(record: dict[str, Any], key: str, where: str) -> float | None:
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ManifestError(f"{where}: {key!r} is {json.dumps(value)}, where seconds were expected")
    return float(value)
