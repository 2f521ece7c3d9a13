"""Transcript: what was said in a recording, when, and how sure the recogniser is. Its methods write every format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product, starmap
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from asr.errors import ConfigError, DependencyError
from asr.files import printable, visible_json
from asr.reading import counted
from asr.transcript.subtitles import break_into_cues, joined

if TYPE_CHECKING:
    from asr.audio.segment import Extent
    from asr.transcript.display import Audio
    from asr.transcript.words import Word

_TIME_DIGITS = 3  # milliseconds: finer than any frame
_CONFIDENCE_DIGITS = 4
_SCORE_DIGITS = 4
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class Alternative:
    """One text that may have been said, and its score: the natural log that ranks it in the search."""

    text: str
    score: float


def best_alternatives(segments: Iterable[Sequence[Alternative]], count: int) -> tuple[Alternative, ...]:
    """Return the best texts of a whole recording, from those of each of its segments.

    A text of the whole is one text of each segment, and its score is the sum of theirs. The first text is that of the
    first ones. The others follow by score. No two are the same.

    Args:
        segments: in their order; each has the alternatives of a segment, at least one, the chosen one first.
        count: the most that are returned, at least 1.
    """
    first, ranked = Alternative("", 0.0), [Alternative("", 0.0)]
    for alternatives in segments:
        first = _after(first, alternatives[0])
        pairs = starmap(_after, product(ranked, alternatives))
        texts: dict[str, Alternative] = {}
        for pair in sorted(pairs, key=lambda pair: -pair.score):
            texts.setdefault(pair.text, pair)
        ranked = list(texts.values())[:count]
    return (first, *(item for item in ranked if item.text != first.text))[:count]


def _after(before: Alternative, after: Alternative) -> Alternative:
    return Alternative(f"{before.text} {after.text}".strip(), before.score + after.score)


@dataclass(frozen=True, repr=False)
class Transcript:
    """What was said in one recording. `print(transcript)` prints its text.

    Attributes:
        text: all words, with single spaces between them where the script has spaces; empty if nothing was recognised.
        words: in the order in which they were spoken.
        duration_s: length of the recording in seconds.
        confidence: of the whole, 0 (a guess) to 1 (certain).
        path: the audio file; None if the audio came as a waveform.
        channel: the one that was transcribed, counted from 0; None if all were mixed down.
        n_best: the best texts of the whole with their scores, the transcript's own first; empty unless asked for.
        rejected: where something was said that is none of a grammar's texts; None without a grammar.
    """

    text: str
    words: tuple[Word, ...]
    duration_s: float
    confidence: float
    path: str | None = None
    channel: int | None = None
    n_best: tuple[Alternative, ...] = ()
    rejected: tuple[Extent, ...] | None = None

    @classmethod
    def of(
        cls,
        words: Sequence[Word],
        duration_s: float,
        path: str | None = None,
        channel: int | None = None,
        n_best: tuple[Alternative, ...] = (),
        rejected: tuple[Extent, ...] | None = None,
    ) -> Transcript:
        """Return the transcript of these words; its confidence is the mean of theirs, 0 without any."""
        confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
        return cls(joined(words), tuple(words), duration_s, confidence, path, channel, n_best, rejected)

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def __repr__(self) -> str:
        """Return the beginning of the text and the main facts, in one line."""
        where = f", path={self.path!r}" if self.path is not None else ""
        where += f", channel={self.channel}" if self.channel is not None else ""
        return (
            f"<asr.Transcript {shortened(self.text)!r}: {counted(len(self.words), 'word')}, {self.duration_s:.2f} s, "
            f"confidence {self.confidence:.2f}{where}>"
        )

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows; None, so that it shows the text, where jinja2 is missing."""
        try:
            return self.to_html()
        except DependencyError:
            return None

    def to_html(self, audio: Audio | None = None, *, sample_rate_hz: int | None = None) -> str:
        """Return HTML that shows the words, coloured by confidence, and plays the recording.

        A click on a word plays from there. Notebooks show it by themselves, with the audio of the file at `path`. Of
        other audio, `IPython.display.HTML(transcript.to_html(samples, sample_rate_hz=16000))` shows it. The audio is
        inside, as Opus of at most 175 kB a minute. A recording of more than 10 minutes has no player.

        Args:
            audio: what was transcribed; None for the file at `path`.
            sample_rate_hz: of samples; files carry their own.

        Raises:
            AudioError: samples cannot be used. If a file cannot be used, the HTML says so in place of the player.
            DependencyError: jinja2 is missing.
        """
        from asr.transcript.display import Shown, html_of

        facts = [counted(len(self.words), "word"), f"{self.duration_s:.2f} s"]
        facts += [f"confidence {self.confidence:.0%}"] if self.words else []
        facts += [PurePath(self.path).name] if self.path is not None else []
        facts += [f"channel {self.channel}"] if self.channel is not None else []
        shown = Shown(self.words, self.duration_s, ", ".join(facts))
        return html_of(shown, self.path if audio is None else audio, sample_rate_hz, self.channel)

    def to_txt(self) -> str:
        """Return the text as one line, as in a `.txt` file."""
        return f"{printable(self.text)}\n"

    def to_json(self) -> str:
        """Return an indented JSON document, as in a `.json` file.

        Keys: `path`, `channel` (null if all were mixed down), `duration_s`, `text`, `confidence`, and `words`, each
        with `text`, `start_s`, `end_s`, `confidence`, and `space_before: false` where no space is between it and the
        word before. If alternatives were asked for, `n_best` has the `text` and the `score` of each. With a grammar,
        `rejected` has the `start_s` and the `end_s` of each segment that is none of its texts. Times are rounded to
        milliseconds, confidences and scores to four digits.
        """
        return self._dumped(indent=2)

    def to_jsonl(self) -> str:
        """Return what `to_json` returns as one line, so that several transcripts make a `.jsonl` file.

        Source: https://jsonlines.org/.
        """
        return self._dumped(indent=None)

    def to_srt(self) -> str:
        """Return SubRip subtitles, as in a `.srt` file: cues numbered from 1; empty if there are no words.

        The format has tags and no escapes. A word joiner (U+2060), which is not seen, keeps a player from taking text
        for a tag.

        Source: https://www.matroska.org/technical/subtitles.html, because the format has no standard.
        """
        cues = [
            f"{number}\n{_time(cue.start_ms, ',')} --> {_time(cue.end_ms, ',')}\n{_apart(chr(10).join(cue.lines))}\n"
            for number, cue in enumerate(break_into_cues(self._shown_words()), start=1)
        ]
        return "\n".join(cues)

    def to_vtt(self) -> str:
        """Return WebVTT subtitles, as in a `.vtt` file; the header alone if there are no words.

        Source: https://www.w3.org/TR/webvtt1/.
        """
        cues = [
            f"{_time(cue.start_ms, '.')} --> {_time(cue.end_ms, '.')}\n{_without_tags(chr(10).join(cue.lines))}\n"
            for cue in break_into_cues(self._shown_words())
        ]
        return "\n".join(["WEBVTT\n", *cues])

    def to_tsv(self) -> str:
        """Return a table for spreadsheets, as in a `.tsv` file: a header and a row per word.

        The columns are start and end in seconds, confidence and word. No word holds a tab or a line end, so nothing is
        quoted.
        """
        rows = [
            f"{word.start_s:.{_TIME_DIGITS}f}\t{word.end_s:.{_TIME_DIGITS}f}\t"
            f"{word.confidence:.{_CONFIDENCE_DIGITS}f}\t{printable(_one_field(word.text))}"
            for word in self.words
        ]
        return "\n".join(["start_s\tend_s\tconfidence\tword", *rows]) + "\n"

    def to_ctm(self) -> str:
        """Return NIST's time-marked conversation form, as in a `.ctm` file; empty if there are no words.

        Each line is `recording channel start duration word confidence`. The recording is the file's name without folder
        and suffix; white space in it becomes `_`, because fields end at white space. Channels count from 1, and several
        mixed down are channel 1.

        Source: NIST SCTK, doc/infmts.htm.
        """
        recording = printable(_writable(_one_field(PurePath(self.path).stem))) if self.path else "waveform"
        channel = 1 + (self.channel or 0)
        lines = "".join(
            f"{recording} {channel} {word.start_s:.{_TIME_DIGITS}f} "
            f"{max(0.0, word.end_s - word.start_s):.{_TIME_DIGITS}f} "
            f"{printable(_one_field(word.text))} {word.confidence:.{_CONFIDENCE_DIGITS}f}\n"
            for word in self.words
        )
        return _writable(lines)

    def to_textgrid(self) -> str:
        """Return a Praat TextGrid with one interval tier, `words`; a pause between words is an empty interval.

        Source: https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html.
        """
        intervals = self._intervals()
        whole = f"xmin = 0\n{{indent}}xmax = {intervals[-1][1] / 1000:.3f}"
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

    def _intervals(self) -> list[tuple[int, int, str]]:
        """Return start and end in milliseconds, and text, of intervals that fill the recording.

        A TextGrid allows no gap, no overlap and no interval without length: of two words that overlap the second is
        cut short, and each lasts a millisecond at least.
        """
        intervals: list[tuple[int, int, str]] = []
        reached_ms = 0
        for word in self._shown_words():
            start_ms = max(reached_ms, round(1000 * word.start_s))
            end_ms = max(start_ms + 1, round(1000 * word.end_s))
            if start_ms > reached_ms:
                intervals.append((reached_ms, start_ms, ""))
            intervals.append((start_ms, end_ms, word.text))
            reached_ms = end_ms
        whole_ms = max(reached_ms, round(1000 * self.duration_s), 1)
        if whole_ms > reached_ms:
            intervals.append((reached_ms, whole_ms, ""))
        return intervals

    def _shown_words(self) -> list[Word]:
        """Return the words as a line of text shows them: what would end the line or control a terminal is an escape."""
        return [word if word.text.isprintable() else replace(word, text=printable(word.text)) for word in self.words]

    def _dumped(self, indent: int | None) -> str:
        content: dict[str, object] = {
            "path": self.path,
            "channel": self.channel,
            "duration_s": round(self.duration_s, _TIME_DIGITS),
            "text": self.text,
            "confidence": round(self.confidence, _CONFIDENCE_DIGITS),
            "words": [rounded_word(word) for word in self.words],
        }
        if self.n_best:
            content["n_best"] = [{"text": item.text, "score": round(item.score, _SCORE_DIGITS)} for item in self.n_best]
        if self.rejected is not None:
            content["rejected"] = [
                {"start_s": round(extent.start_s, _TIME_DIGITS), "end_s": round(extent.end_s, _TIME_DIGITS)}
                for extent in self.rejected
            ]
        return visible_json(json.dumps(content, ensure_ascii=False, allow_nan=False, indent=indent)) + "\n"


def rounded_word(word: Word) -> dict[str, Any]:
    """Return a word as JSON has it: times to milliseconds, the confidence to four digits."""
    return {
        **word.to_json(),
        "start_s": round(word.start_s, _TIME_DIGITS),
        "end_s": round(word.end_s, _TIME_DIGITS),
        "confidence": round(word.confidence, _CONFIDENCE_DIGITS),
    }


FORMATS: dict[str, Callable[[Transcript], str]] = {
    "txt": Transcript.to_txt,
    "json": Transcript.to_json,
    "jsonl": Transcript.to_jsonl,
    "srt": Transcript.to_srt,
    "vtt": Transcript.to_vtt,
    "tsv": Transcript.to_tsv,
    "ctm": Transcript.to_ctm,
    "TextGrid": Transcript.to_textgrid,
}
"""Suffix of a file → what writes it. A further format is one method and one entry."""

STREAMED = ("txt", "jsonl")
"""The formats of which several transcripts may follow each other in one stream."""


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


def shortened(text: str) -> str:
    """Return the beginning of a text, short enough for one line of a `repr`."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1].rstrip() + "…"


def _writable(text: str) -> str:
    """Return text that can be written as UTF-8.

    A file name that is not UTF-8 holds lone surrogates; they become escapes, which JSON allows.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _time(time_ms: int, point: str) -> str:
    """Return HH:MM:SS, `point`, milliseconds."""
    seconds, ms = divmod(time_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{point}{ms:03d}"


def _apart(text: str) -> str:
    """Return text in which no player of SubRip sees a tag such as `<i>` or `{\\an8}`, or the times of a cue."""
    return re.sub(r"<|\{(?=\\)|--(?=>)", lambda sign: f"{sign[0]}\u2060", text)


def _without_tags(text: str) -> str:
    """Return text in which WebVTT sees no tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _one_field(text: str) -> str:
    """Return text without white space, for formats in which a field ends at white space."""
    return "_".join(text.split()) or "_"
