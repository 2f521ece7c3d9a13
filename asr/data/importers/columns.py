"""Which column of a table, or key of a JSON object, holds what."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from asr.errors import ManifestError

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
