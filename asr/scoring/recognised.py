"""`hyp.jsonl` of a decode folder → what was recognised in each utterance, when, and where its audio is. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from asr.bundle.files import RECOGNISED
from asr.errors import ScoringError
from asr.reading import parse_json, read_lines
from asr.records import Count, Record, Text, checked


class RecognisedWord(Record):
    """A recognised word; its times are seconds from the utterance's start, None in folders from elsewhere."""

    confidence: float = Field(ge=0, le=1)
    text: Text = ""
    start_s: float | None = Field(default=None, ge=0)
    end_s: float | None = Field(default=None, ge=0)


class Place(Record):
    """Where the audio of an utterance is: the mean of some channels of a part of a file."""

    path: Text
    channels: list[Count] = Field(min_length=1)
    start_s: float = Field(ge=0)
    duration_s: float = Field(gt=0)


@dataclass(frozen=True)
class RecognisedUtterance:
    """What `hyp.jsonl` has of an utterance.

    Attributes:
        speaker: None if the manifest named none.
        words: the recognised words in their order, before `text.replace`.
        text: these words as one text; None if the line has none.
        duration_s: length of the utterance; None in folders from before it was kept.
        audio: where its audio is; None if that is unknown, or not a part of one file as it is.
        fields: what else the manifest says of it, by name.
    """

    speaker: str | None
    words: tuple[RecognisedWord, ...] = ()
    text: str | None = None
    duration_s: float | None = None
    audio: Place | None = None
    fields: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @property
    def confidences(self) -> tuple[float, ...]:
        """Those of the words, 0 to 1."""
        return tuple(word.confidence for word in self.words)


def read_recognised(folder: Path) -> dict[str, RecognisedUtterance]:
    """Return the utterances of a folder's `hyp.jsonl` by id; nothing if the folder has no such file.

    Raises:
        ScoringError: the file is not one that `asr decode` wrote.
    """
    path = folder / RECOGNISED
    if not path.is_file():
        return {}
    utterances: dict[str, RecognisedUtterance] = {}
    lines = read_lines(path, ScoringError, "the recognised words", way_out="decode again")
    for number, line in enumerate(lines, start=1):
        where = f"{path}:{number}: not written by `asr decode`"
        value = parse_json(line, ScoringError, where, way_out="decode again")
        record = checked(_Line, value, where, ScoringError, "decode again")
        if record.id in utterances:
            raise ScoringError(f"{where}: utterance {record.id!r} occurs twice; decode again")
        utterances[record.id] = RecognisedUtterance(
            record.speaker, tuple(record.words), record.text, record.duration_s, record.audio, record.fields
        )
    return utterances


class _Line(Record):
    """What is needed of a line; older folders have less."""

    id: Text
    words: list[RecognisedWord]
    speaker: Text | None = None
    text: Text | None = None
    duration_s: float | None = Field(default=None, gt=0)
    audio: Place | None = None
    fields: dict[Text, Text | int | float | bool] = Field(default_factory=dict)
