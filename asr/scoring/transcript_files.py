"""A file of transcripts in any usual format → the texts of its utterances, or its words with times. No torch.

| format | a line | known by |
| --- | --- | --- |
| `trn` | `text (utterance-id)` | `.trn`, or lines that end so |
| `text` of Kaldi | `utterance-id text` | the name `text`, or else what is left |
| `jsonl` | `{"id": …, "text": …}` | `.jsonl`, or a `{` |
| `stm` | `recording channel speaker start end <labels> text` | `.stm`, or numbers as fields 4 and 5 |
| `ctm` | `recording channel start duration word confidence` | `.ctm`, or numbers as fields 3 and 4 |

Manifests, `hyp.jsonl` and what `asr transcribe` writes are `jsonl` too. Kaldi's speakers are in `utt2spk` beside the
texts. A line of stm is read by `asr/text/stm.py`. Any file may be compressed (`.gz`). Lines that begin with `;;` are
comments, but not in trn.

Source: NIST, SCTK 2.4, doc/infmts.htm; Kaldi, https://kaldi-asr.org/doc/data_prep.html.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from asr.errors import ScoringError
from asr.reading import parse_json, read_lines, shown
from asr.records import Record, Text, checked
from asr.scoring.score import FieldValue, read_trn
from asr.text.stm import stm_line

Format: TypeAlias = Literal["trn", "text", "jsonl", "stm", "ctm"]
_ENDINGS: Mapping[str, Format] = {".trn": "trn", ".jsonl": "jsonl", ".stm": "stm", ".ctm": "ctm"}
_TRN_LINE = re.compile(r".*\([^()]+\)")
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_TIMES = rf"(?P<first>{_NUMBER})\s+(?P<second>{_NUMBER})"
_CTM_LINE = re.compile(rf"(?P<recording>\S+)\s+(?P<channel>\S+)\s+{_TIMES}\s+(?P<word>\S+)(?:\s+\S+)*")
_STM_LINE = re.compile(rf"(?:\S+\s+){{3}}{_TIMES}(?:\s.*)?")  # its fields: `stm_line`
_FORMS = "trn, stm, ctm, Kaldi's text or jsonl"

Side: TypeAlias = tuple[str, str]
"""A recording and one of its channels, `1` for the first."""


@dataclass(frozen=True)
class SpokenText:
    """What is known of an utterance: its text, its speaker and other fields; `where` names its line."""

    text: str
    where: str
    speaker: str | None = None
    fields: Mapping[str, FieldValue] = field(default_factory=dict)


class TimedWord(NamedTuple):
    """A word of a ctm file; its middle decides in which segment it is."""

    start_s: float
    middle_s: float
    text: str


class Segment(NamedTuple):
    """A line of an stm file; `id` is None where nothing is scored."""

    start_s: float
    end_s: float
    id: str | None


@dataclass(frozen=True)
class TranscriptFile:
    """The content of a file.

    Attributes:
        path: the file.
        format: its format.
        texts: the utterances by id, in file order. A recording of a ctm file is one utterance.
        segments: of an stm file, by recording and channel.
        words: of a ctm file, by recording and channel, in the order of time.
    """

    path: Path
    format: Format
    texts: Mapping[str, SpokenText]
    segments: Mapping[Side, list[Segment]] = field(default_factory=dict)
    words: Mapping[Side, list[TimedWord]] = field(default_factory=dict)

    @property
    def has_alternatives(self) -> bool:
        """Whether `{ a / b }` in a text are alternatives, as NIST writes them."""
        return self.format in ("trn", "stm")


def read_transcripts(path: Path) -> TranscriptFile:
    """Return the content of a file of transcripts.

    Raises:
        ScoringError: the file cannot be read or has no utterances, or a line has not the format; the message names it.
    """
    form = _format_of(path)
    found = _READERS[form](path)
    if not found.texts:
        raise ScoringError(f"{path}: no utterances; it was read as {form}, and the file may be {_FORMS}")
    return found


def hypotheses_of(hypothesis: TranscriptFile, reference: TranscriptFile) -> dict[str, SpokenText]:
    """Return the texts of a hypothesis file by the utterance ids of the reference file, and all others by their own.

    The words of a ctm file are divided among the segments of an stm file as by sclite: a word is in the first segment
    that ends after the word's middle, or in the last one. Words in segments that are not scored are left out.
    """
    if not (hypothesis.words and reference.segments):
        return dict(hypothesis.texts)
    texts: dict[str, SpokenText] = {}
    for side, words in hypothesis.words.items():
        if side not in reference.segments:
            name = "-".join(side)
            texts[name] = SpokenText(" ".join(word.text for word in words), str(hypothesis.path))
            continue
        for name, divided in _divided(words, reference.segments[side]).items():
            texts[name] = SpokenText(" ".join(divided), str(hypothesis.path))
    return texts


def _divided(words: list[TimedWord], segments: list[Segment]) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {segment.id: [] for segment in segments if segment.id is not None}
    place = 0
    for word in words:
        while place < len(segments) - 1 and word.middle_s >= segments[place].end_s:
            place += 1
        name = segments[place].id
        if name is not None:
            texts[name].append(word.text)
    return texts


def _format_of(path: Path) -> Format:
    name = path.name.lower().removesuffix(".gz")
    for ending, form in _ENDINGS.items():
        if name.endswith(ending):
            return form
    if name == "text":
        return "text"
    for _, line in _data_lines(path):
        if line.startswith("{") and line.endswith("}"):
            return "jsonl"
        if _CTM_LINE.fullmatch(line):
            return "ctm"
        if _STM_LINE.fullmatch(line):
            return "stm"
        return "trn" if _TRN_LINE.fullmatch(line) else "text"
    raise ScoringError(f"{path}: no line with text; the file may be {_FORMS}")


def _data_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each line that is neither blank nor a comment."""
    for number, line in enumerate(read_lines(path, ScoringError, "the transcripts"), 1):
        if line.strip() and not line.lstrip().startswith(";;"):
            yield f"{path}:{number}", line.strip()


def _read_trn(path: Path) -> TranscriptFile:
    texts = {name: SpokenText(text, str(path)) for name, text in read_trn(path).items()}
    return TranscriptFile(path, "trn", texts)


def _read_kaldi(path: Path) -> TranscriptFile:
    speakers: dict[str, str] = {}
    if (beside := path.with_name("utt2spk")).is_file():
        for where, line in _data_lines(beside):
            name, _, speaker = line.partition(" ")
            if not speaker.strip():
                raise ScoringError(f"{where}: {shown(line)} does not have the form 'utterance-id speaker'")
            speakers[name] = speaker.strip()
    texts: dict[str, SpokenText] = {}
    for where, line in _data_lines(path):
        name, _, text = line.replace("\t", " ").partition(" ")
        _add(texts, name, SpokenText(" ".join(text.split()), where, speakers.get(name)))
    return TranscriptFile(path, "text", texts)


def _add(texts: dict[str, SpokenText], name: str, utterance: SpokenText) -> None:
    if name in texts:
        raise ScoringError(f"{utterance.where}: utterance {name!r} is already at {texts[name].where}; keep one of them")
    texts[name] = utterance


class _Supervision(Record):
    text: Text | None = None
    speaker: Text | None = None
    gender: Text | None = None
    language: Text | None = None
    custom: dict[str, Any] | None = None


class _JsonLine(Record):
    """An utterance; a manifest has its text in `supervisions`, and `asr transcribe` writes `path` in place of `id`."""

    id: Text | None = None
    path: Text | None = None
    text: Text | None = None
    speaker: Text | None = None
    supervisions: list[_Supervision] | None = None
    custom: dict[str, Any] | None = None
    fields: dict[str, Any] | None = None
    channel: int | None = None


_NO_FIELDS = ("id", "path", "text", "speaker", "score", "channel", "start", "type")


def _read_jsonl(path: Path) -> TranscriptFile:
    way_out = 'each line needs {"id": "…", "text": "…"}'
    texts: dict[str, SpokenText] = {}
    for where, line in _data_lines(path):
        value = parse_json(line, ScoringError, where, way_out=way_out)
        record = checked(_JsonLine, value, where, ScoringError, way_out)
        name = record.id
        if name is None and record.path is not None:
            name = Path(record.path).stem
        said = record.supervisions or []
        text = record.text if record.text is not None else " ".join(s.text for s in said if s.text is not None)
        if name is None or (record.text is None and record.supervisions is None):
            raise ScoringError(f"{where}: {'text' if name else 'id'} is missing; {way_out}")
        fields: dict[str, Any] = {key: value[key] for key in value if key not in _NO_FIELDS}
        fields |= {**(record.fields or {}), **(record.custom or {})}
        for part in said:
            fields |= {"gender": part.gender, "language": part.language, **(part.custom or {})}
        speaker = record.speaker or next((part.speaker for part in said if part.speaker), None)
        single = {key: item for key, item in fields.items() if isinstance(item, (str, int, float)) and item != ""}
        _add(texts, name, SpokenText(" ".join(text.split()), where, speaker, single))
    return TranscriptFile(path, "jsonl", texts)


def _read_stm(path: Path) -> TranscriptFile:
    """Read the segments; an id is recording, channel, start and end, e.g. `call-1-12.50-15.00`."""
    texts: dict[str, SpokenText] = {}
    segments: dict[Side, list[Segment]] = {}
    for where, text in _data_lines(path):
        line = stm_line(text, where, ScoringError)
        if line.end_s < line.start_s:
            raise ScoringError(
                f"{where}: the segment ends at {line.end_s:g} s, before its start; exchange the two times"
            )
        if not 0 <= line.start_s <= line.end_s < math.inf:
            raise ScoringError(f"{where}: {line.start} and {line.end} are no times in seconds")
        side, name = (line.recording, _channel(line.channel)), None
        if line.is_scored:
            name = f"{side[0]}-{side[1]}-{line.start}-{line.end}"
            fields = {f"label_{place}": label for place, label in enumerate(line.labels.split(","), 1) if label}
            _add(texts, name, SpokenText(" ".join(line.text.split()), where, line.speaker, fields))
        segments.setdefault(side, []).append(Segment(line.start_s, line.end_s, name))
    for of_one in segments.values():
        of_one.sort(key=lambda segment: segment.start_s)
    return TranscriptFile(path, "stm", texts, segments=segments)


def _channel(name: str) -> str:
    """Return a channel as a number from 1: files have 1, 2 or A, B for the same."""
    return str(ord(name.upper()) - ord("A") + 1) if re.fullmatch("[A-Za-z]", name) else name


def _read_ctm(path: Path) -> TranscriptFile:
    """Read the words; a recording is one utterance with its name, or with `-` and the channel if it has several."""
    words: dict[Side, list[TimedWord]] = {}
    for where, line in _data_lines(path):
        if "<alt" in line.lower():
            raise ScoringError(
                f"{where}: alternatives in a ctm file are not read; keep the words of the first one only"
            )
        match = _CTM_LINE.fullmatch(line)
        if match is None:
            raise ScoringError(f"{where}: {shown(line)} is not 'recording channel start duration word'")
        start_s, duration_s = float(match["first"]), float(match["second"])
        side = (match["recording"], _channel(match["channel"]))
        words.setdefault(side, []).append(TimedWord(start_s, start_s + duration_s / 2, match["word"]))
    channels: dict[str, int] = {}
    for (recording, _), of_one in words.items():
        of_one.sort(key=lambda word: word.start_s)
        channels[recording] = channels.get(recording, 0) + 1
    texts = {
        recording if channels[recording] == 1 else f"{recording}-{channel}": SpokenText(
            " ".join(word.text for word in of_one), str(path)
        )
        for (recording, channel), of_one in words.items()
    }
    return TranscriptFile(path, "ctm", texts, words=words)


_READERS: Mapping[Format, Callable[[Path], TranscriptFile]] = {
    "trn": _read_trn,
    "text": _read_kaldi,
    "jsonl": _read_jsonl,
    "stm": _read_stm,
    "ctm": _read_ctm,
}
