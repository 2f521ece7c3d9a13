"""Transcript → the contents of a file. A further format is one function and one entry in `FORMATS`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from asr.inference.subtitles import break_into_cues

if TYPE_CHECKING:
    from asr.inference.transcript import Transcript

_TIME_DIGITS = 3  # milliseconds: finer than any frame
_CONFIDENCE_DIGITS = 4


def to_txt(transcript: Transcript) -> str:
    """Return the text and a line end."""
    return f"{transcript.text}\n"


def to_json(transcript: Transcript) -> str:
    """Return one line of JSON, so that the transcripts of several files make a JSON Lines stream.

    Keys: `path`, `duration_s`, `text`, `confidence`, and `words`, each with `text`, `start_s`, `end_s`,
    `confidence`. Times are rounded to milliseconds, confidences to four digits.
    """
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
        "duration_s": round(transcript.duration_s, _TIME_DIGITS),
        "text": transcript.text,
        "confidence": round(transcript.confidence, _CONFIDENCE_DIGITS),
        "words": words,
    }
    line = json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"
    # A file name that is not UTF-8 holds lone surrogates, which no file takes; their escapes are valid JSON.
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def to_srt(transcript: Transcript) -> str:
    """Return SubRip subtitles: cues numbered from 1, times as HH:MM:SS,mmm; empty if there are no words.

    Source: https://www.matroska.org/technical/subtitles.html, since the format has no standard.
    """
    cues = [
        f"{number}\n{_srt_time(cue.start_ms)} --> {_srt_time(cue.end_ms)}\n" + "\n".join(cue.lines) + "\n"
        for number, cue in enumerate(break_into_cues(transcript.words), start=1)
    ]
    return "\n".join(cues)


FORMATS: dict[str, Callable[[Transcript], str]] = {"txt": to_txt, "json": to_json, "srt": to_srt}


def _srt_time(time_ms: int) -> str:
    seconds, ms = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d},{ms:03d}"
