"""Subtitles (.srt, .vtt, .ass) beside audio or video of the same name → manifests.

`talk.srt`, `talk.en.vtt` and `talk.en.sdh.srt` belong to `talk.mp4` beside them. What is between the stem and the
suffix is the language. Where a recording has several subtitles, the language chooses.

**What is dropped from the text.** The import reports how often it dropped each.

| kind | what it is |
| --- | --- |
| markup | `<i>`, `<c.yellow>`, `<v Anna>`, `<00:01.500>`, `{\\an8}`; of `<rt>`, a pronunciation, also the content |
| sounds in brackets | `[door slams]`, `(sighs)`, `【拍手】`, also over two lines |
| music | from a ♪ or ♫ to the next one, or else to the end of the cue: sung text is no speech |
| dashes | `- ` or `>> ` at the start of a line: another speaker begins |
| speaker prefixes | `ANNA: ` at the start of a line, see below |
| repeated lines | of rolling captions, which show a line again when the next one comes |

A speaker prefix is at most three words, a colon and white space; each word begins with a capital, a letter of a script
that has none, or a digit. Words in capitals throughout are one, unless most of the file is in capitals. Others are one
only if the file has the prefix twice, because "Remember: go" is speech. A cue's speaker is the only one that a prefix,
`<v Anna>` or the name field of .ass gives. A cue of several speakers has none.

**What is left out.** Cues in which nothing is left. Cues with impossible times, or beyond the recording's end. Cues
during which another one is said. The lines of a cue are joined. A sentence over several cues remains several
utterances.

Sources: W3C, "WebVTT: The Web Video Text Tracks Format". SubRip has no definition; cues begin at their times here, and
their number before is dropped. pysubs2 reads .ass. It does not read the others, because it takes the comments of
WebVTT for text, drops a last line that is a number, and keeps no line numbers.
"""

from __future__ import annotations

import html
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from asr.corpus.splits import SplitRule
from asr.errors import DependencyError, ManifestError
from asr.importing.material import LeftOut, Material
from asr.importing.timed_text import OVERLAP_S, Recordings, TimedText, add_utterances, find_files, overlaps
from asr.importing.utterances import ImportReport, write_splits
from asr.machine import Progress, silent
from asr.reading import first_line, read_text

SUFFIXES = frozenset({".srt", ".vtt", ".ass", ".ssa"})

_MOST_BYTES = 64 << 20  # subtitles of a day have two
_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})(?:[.,](\d{1,3}))?"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_ARROW = re.compile(r"\d\s*-->|-->\s*\d")
_CUE_NUMBER = re.compile(r"\s*\d+\s*")

_VOICE = re.compile(r"<v(?:\.[^\s<>]*)?[ \t]([^<>]*)>")
_PRONUNCIATION = re.compile(r"<rt[^<>]*>[^<>]*</rt>")
_MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.]*>|\{[^{}]*\}")
_BRACKETS = re.compile(r"\[[^][]*\]|\([^()]*\)|（[^（）]*）|【[^【】]*】|［[^［］]*］")
_MUSIC = re.compile(r"[♪♫][^♪♫]*(?:[♪♫]+|\Z)")
_DASH = re.compile(r"(?:[-‐‑–—―]+(?:\s+|(?=[^\s\d]))|>{2,3}\s*)")
_PREFIX = re.compile(r"(\w[^\s:：]*(?: \w[^\s:：]*){0,2}) ?(?::(?=\s|\Z)|：)\s*")
# The texts of rolling captions repeat a line in most of their cues; the cues of others hardly ever do.
_ROLLING_SHARE = 0.3
_MOST_BRACKETS = 3  # within each other
_MOST_NAMES = 10  # of speakers in a note
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*")


class Cue(NamedTuple):
    """A text that is shown for some time, as the file holds it."""

    line: int
    start_s: float
    end_s: float
    lines: tuple[str, ...]
    speaker: str = ""  # of a field of its own


@dataclass
class Dropped:
    """What was dropped from texts."""

    counts: Counter[str] = field(default_factory=Counter)  # by kind
    speakers: Counter[str] = field(default_factory=Counter)  # prefixes

    def drop(self, pattern: re.Pattern[str], kind: str, text: str, by: str = " ") -> str:
        """Return a text without what a pattern matches, which is counted."""
        text, count = pattern.subn(by, text)
        self.counts[kind] += count
        return text

    def note(self) -> str:
        """Return what was dropped, in words."""
        kinds = [f"{count} × {kind}" for kind, count in self.counts.items() if count]
        if not kinds:
            return "nothing was dropped from the texts"
        names = [name for name, _ in self.speakers.most_common(_MOST_NAMES)]
        more = ", …" if len(self.speakers) > len(names) else ""
        return f"dropped from the texts: {', '.join(kinds)}" + (f" ({', '.join(names)}{more})" if names else "")


def import_subtitles(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    audio_dir: str | os.PathLike[str] | None = None,
    split: SplitRule | None = None,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write the manifests of subtitles, whose recordings are beside them, into the folder `out`.

    Args:
        source: a file (.srt, .vtt, .ass, .ssa), or a folder of any depth.
        out: the folder for train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        audio_dir: the folder of the recordings; None: they are beside the subtitles.
        split: how splits are drawn; None: dev and test get a tenth each, by speaker.
        language: which subtitles are taken where a recording has several, e.g. "en" for talk.en.srt; noted in the
            manifests.
        progress: shows how far the import is.

    Raises:
        ManifestError: a recording has several subtitles of the language, or nothing is left for training.
        DependencyError: pysubs2 is needed for .ass, and is not installed.
    """
    material = read_subtitles(Path(source), Path(audio_dir) if audio_dir else None, language)
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_subtitles(source: Path, audio_dir: Path | None = None, language: str | None = None) -> Material:
    """Return what is in subtitles; arguments and errors are those of `import_subtitles`."""
    material, dropped = Material(), Dropped()
    files = find_files(source, SUFFIXES, "subtitle", material)
    recordings = Recordings(source, audio_dir)
    for path, recording, label in _chosen(files, recordings, language, material):
        with material.at(str(path)):
            noted = language or (label if _LANGUAGE.fullmatch(label) else None)
            texts = list(timed_texts(path, read_cues(path, material), dropped, material))
            add_utterances(texts, recording, recordings.place(path), material, noted)
    material.or_refuse(f"{source}: the subtitles hold no cues")
    material.note_speakers(str(source))
    material.notes.append(dropped.note())
    return material


def _chosen(
    files: Iterable[Path], recordings: Recordings, language: str | None, material: Material
) -> Iterator[tuple[Path, Path, str]]:
    """Yield each file that is read, its recording, and what its name has between the stem and the suffix."""
    found: dict[Path, list[tuple[Path, str]]] = {}
    for path in files:
        parts = path.stem.split(".")
        for count in range(len(parts), max(0, len(parts) - 3), -1):
            recording = recordings.of(path, ".".join(parts[:count]))
            if recording:
                found.setdefault(recording, []).append((path, ".".join(parts[count:])))
                break
        else:
            material.left_out.append(LeftOut(str(path), recordings.missing(path, path.stem)))
    for recording, candidates in found.items():
        with material.at(str(recording)):
            path, label = _of_language(recording, candidates, language)
            reason = f"{path.name} is used"
            material.left_out.extend(LeftOut(str(other), reason, False) for other, _ in candidates if other != path)
            yield path, recording, label.partition(".")[0]


def _of_language(recording: Path, candidates: list[tuple[Path, str]], language: str | None) -> tuple[Path, str]:
    """Return the only candidate, or the only one of the language.

    Raises:
        ManifestError: there is none, or several.
    """
    fitting = candidates
    if language:
        wanted = language.lower().replace("_", "-")
        codes = [label.partition(".")[0].lower().replace("_", "-") for _, label in candidates]
        ways = (
            [code == wanted for code in codes],
            [code.partition("-")[0] == wanted for code in codes],
            [not code for code in codes],
        )
        places = next(filter(any, ways), [False] * len(codes))
        fitting = [candidate for candidate, fits in zip(candidates, places, strict=True) if fits]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(path.name for path, _ in fitting or candidates)
    if not fitting:
        raise ManifestError(f"{recording}: no subtitles of the language {language!r}; there are: {listed}")
    languages = sorted({label.partition(".")[0] for _, label in fitting} - {""})
    way_out = f"--language chooses, of {', '.join(languages)}" if len(languages) > 1 else "leave one of them here"
    raise ManifestError(f"{recording}: several subtitles ({listed}); {way_out}")


def read_cues(path: Path, material: Material) -> list[Cue]:
    """Return the cues of a file, in its order; what is no cue is left out.

    Raises:
        ManifestError: the file cannot be read, or has no cues.
    """
    text = read_text(path, ManifestError, "the subtitles", most_bytes=_MOST_BYTES)
    before = len(material.left_out)
    if path.suffix.lower() in (".ass", ".ssa"):
        cues = _ass_cues(path, text)
    else:
        is_webvtt = text.lstrip().startswith("WEBVTT")
        cues = list(_cues(text.split("\n"), lambda line: f"{path}:{line}", is_webvtt, material))
    if not cues and len(material.left_out) == before:
        raise ManifestError(f"{path}: no cues; expected lines such as 00:00:01,000 --> 00:00:02,500 before each text")
    return cues


def _cues(lines: list[str], where: Callable[[int], str], is_webvtt: bool, material: Material) -> Iterator[Cue]:
    """Yield the cues of .srt or .vtt; a cue of .vtt ends at an empty line, one of .srt at the times of the next."""
    begins = [number for number, line in enumerate(lines) if _TIMES.fullmatch(line) or _ARROW.search(line)]
    for begin, end in pairwise([*begins, len(lines)]):
        text = lines[begin + 1 : end]
        if is_webvtt:
            text = text[: next((place for place, line in enumerate(text) if not line), len(text))]
        elif end < len(lines) and text and _CUE_NUMBER.fullmatch(text[-1]):
            del text[-1]
        match = _TIMES.fullmatch(lines[begin])
        if match is None:
            reason = f"{lines[begin].strip()!r:.80} are no times; expected e.g. 00:00:01,000 --> 00:00:02,500"
            material.left_out.append(LeftOut(where(begin + 1), reason))
            continue
        times = match.groups()
        yield Cue(begin + 1, _seconds(*times[:4]), _seconds(*times[4:]), tuple(text))


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    return 3600 * int(hours or 0) + 60 * int(minutes) + float(f"{seconds}.{fraction or 0}")


def _ass_cues(path: Path, text: str) -> list[Cue]:
    try:
        from pysubs2 import SSAFile
    except ImportError:
        raise DependencyError(f"{path}: .ass needs the package pysubs2; `pip install 'asr[import]'`") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            events = SSAFile.from_string(text, format_="ass").events
    except Exception as error:  # it raises many kinds
        reason = first_line(f"{type(error).__name__}: {error}")
        raise ManifestError(f"{path}: cannot be read as .ass ({reason})") from None
    numbers = [number for number, line in enumerate(text.split("\n"), 1) if line.startswith(("Dialogue:", "Comment:"))]
    if len(numbers) != len(events):
        numbers = [0] * len(events)
    return [
        Cue(
            number,
            event.start / 1000,
            event.end / 1000,
            tuple(event.text.replace("\\h", " ").replace("\\n", "\\N").split("\\N")),
            event.name.strip(),
        )
        for number, event in zip(numbers, events, strict=True)
        if not event.is_comment and not event.is_drawing
    ]


@dataclass(frozen=True)
class _Turn:
    """A cue without markup and sounds: its lines, and who begins to speak at them."""

    cue: Cue
    lines: tuple[str, ...]
    dashes: int
    voices: frozenset[str]


def timed_texts(path: Path, cues: Iterable[Cue], dropped: Dropped, material: Material) -> Iterator[TimedText]:
    """Yield what is said in a file's cues; see the rule at the top."""
    turns = [_without_sounds(cue, dropped) for cue in cues]
    prefixes = _speaker_prefixes(line for turn in turns for line in turn.lines)
    turns = _without_repetition([_without_prefixes(turn, prefixes, dropped) for turn in turns], dropped)
    texts = []
    for turn in turns:
        where = f"{path}:{turn.cue.line}" if turn.cue.line else str(path)
        text = " ".join(turn.lines)
        speaker = next(iter(turn.voices)) if len(turn.voices) == 1 and turn.dashes <= 1 else None
        if text:
            texts.append(TimedText(where, turn.cue.start_s, turn.cue.end_s, text, speaker))
        else:
            material.left_out.append(LeftOut(where, "no speech in the cue", False))
    said_during = overlaps(texts)
    for timed in texts:
        if timed in said_during:
            other = said_during[timed].where.rpartition(":")[2]
            material.left_out.append(LeftOut(timed.where, f"the cue of line {other} is said during this one"))
        else:
            yield timed


def _without_sounds(cue: Cue, dropped: Dropped) -> _Turn:
    text = "\n".join(cue.lines)
    voices = {" ".join(html.unescape(name).split()) for name in _VOICE.findall(text)} | {cue.speaker}
    text = dropped.drop(_PRONUNCIATION, "markup", text, "")
    text = html.unescape(dropped.drop(_MARKUP, "markup", text, ""))
    for _ in range(_MOST_BRACKETS):
        text = dropped.drop(_BRACKETS, "sounds in brackets", text)
    text = dropped.drop(_MUSIC, "music", text)
    return _Turn(cue, tuple(_stripped(text.split("\n"))), 0, frozenset(voices - {""}))


def _stripped(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines that hold a letter or a digit, with single spaces."""
    for line in lines:
        text = " ".join(line.split())
        if any(map(str.isalnum, text)):
            yield text


def _speaker_prefixes(lines: Iterable[str]) -> set[str]:
    """Return the prefixes of a file that name speakers."""
    found: Counter[str] = Counter()
    lower = upper = 0
    for line in lines:
        lower += sum(map(str.islower, line))
        upper += sum(map(str.isupper, line))
        if match := _PREFIX.match(_DASH.sub("", line, count=1) if _DASH.match(line) else line):
            found[match[1]] += 1
    return {
        prefix
        for prefix, count in found.items()
        if not any(word[0].islower() for word in prefix.split())
        and prefix[0].isalpha()
        and (count > 1 or (prefix.isupper() and lower > upper))
    }


def _without_prefixes(turn: _Turn, prefixes: set[str], dropped: Dropped) -> _Turn:
    lines, voices, dashes = [], set(turn.voices), 0
    for line in turn.lines:
        if match := _DASH.match(line):
            line, dashes = line[match.end() :], dashes + 1
        if (match := _PREFIX.match(line)) and match[1] in prefixes:
            line = line[match.end() :]
            voices.add(match[1])
            dropped.speakers[match[1]] += 1
            dropped.counts["speaker prefixes"] += 1
        lines.append(line.lstrip(":： "))
    dropped.counts["dashes"] += dashes
    return replace(turn, lines=tuple(_stripped(lines)), dashes=dashes, voices=frozenset(voices))


def _repeats(before: _Turn, turn: _Turn) -> bool:
    """Return whether a cue shows a line of the cue before and then another one, or shows it for an instant."""
    rolls = len(turn.lines) > 1 or turn.cue.end_s - turn.cue.start_s < OVERLAP_S
    return rolls and turn.lines[:1] == before.lines[-1:] != ()


def _without_repetition(turns: list[_Turn], dropped: Dropped) -> list[_Turn]:
    """Return the cues of a file; if its captions roll, without the lines that the cue before shows too."""
    repeated = [_repeats(before, turn) for before, turn in pairwise(turns)]
    if len(turns) < 3 or sum(repeated) < _ROLLING_SHARE * len(turns):
        return turns
    dropped.counts["repeated lines"] += sum(repeated)
    return [
        replace(turn, lines=turn.lines[1:]) if again else turn
        for turn, again in zip(turns, [False, *repeated], strict=True)
    ]
