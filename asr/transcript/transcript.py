"""What was said in a recording, when, and how sure the recogniser is.

Transcript → the contents of a file. A further format is one function and one entry in `FORMATS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from asr.errors import ConfigError
from asr.transcript.subtitles import break_into_cues

if TYPE_CHECKING:
    from asr.transcript.words import Word


@dataclass(frozen=True)
class Transcript:
    """What was said in one recording.

    Attributes:
        text: all words, separated by single spaces; empty if nothing was recognised.
        words: in the order in which they were spoken.
        duration_s: length of the recording in seconds.
        confidence: of the whole, 0 (a guess) to 1 (certain).
        path: the audio file; None if the audio came as a waveform.
        channel: the one that was transcribed, counted from 0; None if all were mixed down.
    """

    text: str
    words: tuple[Word, ...]
    duration_s: float
    confidence: float
    path: str | None = None
    channel: int | None = None

    @classmethod
    def of(
        cls, words: Sequence[Word], duration_s: float, path: str | None = None, channel: int | None = None
    ) -> Transcript:
        """Return the transcript of these words; its confidence is the mean of theirs, 0 without any."""
        confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
        return cls(" ".join(word.text for word in words), tuple(words), duration_s, confidence, path, channel)

    def to_txt(self) -> str:
        """Return the text as one line, as in a `.txt` file."""
        return to_txt(self)

    def to_json(self) -> str:
        """Return text, word times and confidences as a JSON document, as in a `.json` file."""
        return to_json(self)

    def to_jsonl(self) -> str:
        """Return what `to_json` returns as one line, as in a `.jsonl` file."""
        return to_jsonl(self)

    def to_srt(self) -> str:
        """Return SubRip subtitles, as in a `.srt` file; empty if there are no words."""
        return to_srt(self)

    def to_vtt(self) -> str:
        """Return WebVTT subtitles, as in a `.vtt` file."""
        return to_vtt(self)

    def to_tsv(self) -> str:
        """Return a table of words with times and confidences, as in a `.tsv` file."""
        return to_tsv(self)

    def to_ctm(self) -> str:
        """Return NIST's form of words with times and confidences, as in a `.ctm` file; empty if there are no words."""
        return to_ctm(self)

    def to_textgrid(self) -> str:
        """Return a Praat TextGrid with the words as a tier."""
        return to_textgrid(self)


_TIME_DIGITS = 3  # milliseconds: finer than any frame
_CONFIDENCE_DIGITS = 4


def to_txt(transcript: Transcript) -> str:
    """Return the text and a line end."""
    return f"{transcript.text}\n"


def to_json(transcript: Transcript) -> str:
    """Return a JSON document, indented.

    Keys: `path`, `channel` (null if all were mixed down), `duration_s`, `text`, `confidence`, and `words`, each with
    `text`, `start_s`, `end_s`, `confidence`. Times are rounded to milliseconds, confidences to four digits.
    """
    return _dumped(transcript, indent=2)


def to_jsonl(transcript: Transcript) -> str:
    """Return the same as `to_json` in one line, so that the transcripts of several files make a JSON Lines stream.

    Source: https://jsonlines.org/.
    """
    return _dumped(transcript, indent=None)


def to_srt(transcript: Transcript) -> str:
    """Return SubRip subtitles: cues numbered from 1, times as HH:MM:SS,mmm; empty if there are no words.

    Source: https://www.matroska.org/technical/subtitles.html, since the format has no standard.
    """
    cues = [
        f"{number}\n{_time(cue.start_ms, ',')} --> {_time(cue.end_ms, ',')}\n" + "\n".join(cue.lines) + "\n"
        for number, cue in enumerate(break_into_cues(transcript.words), start=1)
    ]
    return "\n".join(cues)


def to_vtt(transcript: Transcript) -> str:
    """Return WebVTT subtitles; the header alone if there are no words.

    Source: https://www.w3.org/TR/webvtt1/.
    """
    cues = [
        f"{_time(cue.start_ms, '.')} --> {_time(cue.end_ms, '.')}\n{_escaped(chr(10).join(cue.lines))}\n"
        for cue in break_into_cues(transcript.words)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def to_tsv(transcript: Transcript) -> str:
    """Return a table with a header and a row per word, for spreadsheets: start and end in seconds, confidence, word.

    No word holds a tab or a line end, so nothing is quoted.
    """
    rows = [
        f"{word.start_s:.{_TIME_DIGITS}f}\t{word.end_s:.{_TIME_DIGITS}f}\t"
        f"{word.confidence:.{_CONFIDENCE_DIGITS}f}\t{_one_field(word.text)}"
        for word in transcript.words
    ]
    return "\n".join(["start_s\tend_s\tconfidence\tword", *rows]) + "\n"


def to_ctm(transcript: Transcript) -> str:
    """Return NIST's time-marked conversation form, a line per word: `recording channel start duration word confidence`.

    The recording is the file's name without folder and suffix, white space in it replaced by `_`, since fields end at
    white space; channels count from 1, which is also what several mixed down have.

    Source: NIST SCTK, doc/infmts.htm.
    """
    recording = _one_field(PurePath(transcript.path).stem) if transcript.path else "waveform"
    channel = 1 + (transcript.channel or 0)
    lines = "".join(
        f"{recording} {channel} {word.start_s:.{_TIME_DIGITS}f} {max(0.0, word.end_s - word.start_s):.{_TIME_DIGITS}f} "
        f"{_one_field(word.text)} {word.confidence:.{_CONFIDENCE_DIGITS}f}\n"
        for word in transcript.words
    )
    return _writable(lines)


def to_textgrid(transcript: Transcript) -> str:
    """Return a Praat TextGrid with one interval tier, `words`; what lies between words is an empty interval.

    Intervals of a tier must follow each other without gap or overlap, and none may be empty: words that overlap are
    cut short, and each lasts a millisecond at least.

    Source: https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html.
    """
    intervals: list[tuple[int, int, str]] = []
    reached_ms = 0
    for word in transcript.words:
        start_ms = max(reached_ms, round(1000 * word.start_s))
        end_ms = max(start_ms + 1, round(1000 * word.end_s))
        if start_ms > reached_ms:
            intervals.append((reached_ms, start_ms, ""))
        intervals.append((start_ms, end_ms, word.text))
        reached_ms = end_ms
    whole_ms = max(reached_ms, round(1000 * transcript.duration_s), 1)
    if whole_ms > reached_ms:
        intervals.append((reached_ms, whole_ms, ""))
    whole = f"xmin = 0\n{{indent}}xmax = {whole_ms / 1000:.3f}"
    lines = [
        'File type = "ooTextFile"\nObject class = "TextGrid"\n',
        whole.format(indent=""),
        "tiers? <exists>\nsize = 1\nitem []:\n    item [1]:",
        '        class = "IntervalTier"\n        name = "words"',
        "        " + whole.format(indent="        "),
        f"        intervals: size = {len(intervals)}",
    ]
    for number, (start_ms, end_ms, text) in enumerate(intervals, start=1):
        quoted = text.replace('"', '""')
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {start_ms / 1000:.3f}",
            f"            xmax = {end_ms / 1000:.3f}",
            f'            text = "{quoted}"',
        ]
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "txt": to_txt,
    "json": to_json,
    "jsonl": to_jsonl,
    "srt": to_srt,
    "vtt": to_vtt,
    "tsv": to_tsv,
    "ctm": to_ctm,
    "TextGrid": to_textgrid,
}

# Those of which several may follow each other in one stream; a subtitle file stands alone.
STREAMED = ("txt", "jsonl")


def format_names(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return the keys of `FORMATS` that are meant, each once: `"SRT,json"` or `["SRT", "json"]` → `("srt", "json")`.

    Args:
        given: a name, several with commas between, or a list of names, in upper or lower case.

    Raises:
        ConfigError: there is no such format.
    """
    known = {name.lower(): name for name in FORMATS}
    names = [name.strip() for name in (given.split(",") if isinstance(given, str) else given)]
    for name in names or [""]:
        if name.lower() not in known:
            raise ConfigError(f"format {name!r} is not one of {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(known[name.lower()] for name in names))


def _dumped(transcript: Transcript, indent: int | None) -> str:
    words = [
        {
            "text": word.text,
            "start_s": round(word.start_s, _TIME_DIGITS),
            "end_s": round(word.end_s, _TIME_DIGITS),
            "confidence": round(word.confidence, _CONFIDENCE_DIGITS),
        }
        for word in transcript.words
    ]
    content = {
        "path": transcript.path,
        "channel": transcript.channel,
        "duration_s": round(transcript.duration_s, _TIME_DIGITS),
        "text": transcript.text,
        "confidence": round(transcript.confidence, _CONFIDENCE_DIGITS),
        "words": words,
    }
    return _writable(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=indent) + "\n")


def _writable(text: str) -> str:
    """Return text that a file takes: a file name that is not UTF-8 holds lone surrogates, whose escapes JSON allows."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _time(time_ms: int, point: str) -> str:
    """Return HH:MM:SS, `point`, milliseconds."""
    seconds, ms = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{ms:03d}"


def _escaped(text: str) -> str:
    """Return text in which WebVTT sees no tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _one_field(text: str) -> str:
    """Return text without white space, where a field ends at white space."""
    return "_".join(text.split()) or "_"
