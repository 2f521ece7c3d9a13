"""NIST's segment time marks (.stm), which references for scoring are in → manifests.

The form of a line is in `asr/text/stm.py`.

Where a text has alternatives for scoring, `{ um / uh / @ }`, the first one is taken, and a note says how often. `@` is
nothing. Alternatives may be in others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from asr.audio.sound_file import RECORDING_SUFFIXES
from asr.corpus.names import id_of_part, name_in_id, top_folder_split
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing.material import LeftOut, Material, Utterance
from asr.importing.timed_text import Recordings, find_files, require_times
from asr.importing.utterances import ImportReport, write_splits
from asr.machine import Progress, silent
from asr.reading import counted, read_lines
from asr.text.stm import StmLine, stm_line

_SUFFIXES = frozenset({".stm"})
_NEIGHBOURS = ("sph", "wav", "flac")  # of the folder stm/; TED-LIUM has its recordings in sph/
_NOT_SCORED = "ignore_time_segment_in_scoring"
_NO_SPEAKERS = ("inter_segment_gap", "excluded_region")
_GENDERS = {"male": "male", "female": "female", "m": "male", "f": "female"}


class _Segment(NamedTuple):
    where: str
    line: StmLine
    text: str  # with the first of alternatives


def import_stm(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    audio_dir: str | os.PathLike[str] | None = None,
    split: SplitRule | None = None,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write the manifests of .stm files into the folder `out`.

    Args:
        source: such a file, or a folder of any depth. What is in a folder or file at the top that is called train, dev
            (valid) or test (eval) is of that split.
        out: the folder for train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        audio_dir: the folder of the recordings, which the lines name without a suffix; None: they are beside the files,
            or in a folder sph, wav or flac beside the files' folder.
        split: how splits are drawn that the source does not give; None: dev and test get a tenth each, by speaker.
        language: noted in the manifests, e.g. "en".
        progress: shows how far the import is.

    Raises:
        ManifestError: there are no such files, or nothing is left for training.
    """
    material = read_stm(Path(source), Path(audio_dir) if audio_dir else None)
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_stm(source: Path, audio_dir: Path | None = None) -> Material:
    """Return what is in an .stm file or in those of a folder; arguments and errors are those of `import_stm`.

    An utterance's id is the name of its recording, its channel if that is not the first, and its times in milliseconds.
    Channels are letters from A, or numbers from 1; if a file has a channel 0, its numbers are from 0.
    """
    material, recordings, alternatives = Material(), Recordings(source, audio_dir), 0
    for path in find_files(source, _SUFFIXES, "stm", material):
        split = top_folder_split(path, source)
        found: list[_Segment] = []
        with material.at(str(path)):  # which may be no text
            found = list(_segments(path, material))
        first = "0" if any(segment.line.channel == "0" for segment in found) else "1"
        alternatives += sum("{" in segment.line.text.split() for segment in found)
        for segment in found:
            with material.at(segment.where):
                material.utterances.append(_utterance(segment, path, recordings, first, split))
    if alternatives:
        what = counted(alternatives, "utterance")
        material.notes.append(f"{what} with alternatives such as {{ a / b }}: the first one was taken")
    return material.or_refuse(f"{source}: no utterances; each line is: recording channel speaker start end text")


def _segments(path: Path, material: Material) -> Iterator[_Segment]:
    """Yield the lines of a file that hold utterances."""
    for number, text in enumerate(read_lines(path, ManifestError, "the segment time marks"), 1):
        if not text.strip() or text.startswith(";;"):
            continue
        with material.at(where := f"{path}:{number}"):
            line = stm_line(text.strip(), where, ManifestError)
            require_times(line.start_s, line.end_s)
            if not line.is_scored or line.speaker in _NO_SPEAKERS:
                material.left_out.append(LeftOut(where, f"marked {_NOT_SCORED}", False))
            else:
                yield _Segment(where, line, _first_alternatives(line.text.split()))


def _first_alternatives(words: list[str]) -> str:
    """Return a text with the first of the alternatives in each `{ a / b }`."""
    kept: list[str] = []
    places: list[int] = []  # of the alternatives that are open: in which of them the word is, from 0
    for word in words:
        if word == "{":
            places.append(0)
        elif word == "}" and places:
            places.pop()
        elif word == "/" and places:
            places[-1] += 1
        elif not any(places) and not (places and word == "@"):
            kept.append(word)
    if places:
        raise ManifestError(f"{' '.join(words)!r:.80}: a '{{' has no '}}'")
    return " ".join(kept)


def _utterance(segment: _Segment, path: Path, recordings: Recordings, first: str, split: str | None) -> Utterance:
    line = segment.line
    name = Path(line.recording).name
    stem, suffix = os.path.splitext(name)
    stem = stem if suffix.lower() in RECORDING_SUFFIXES else name
    neighbours = [path.parent.parent / folder / path.name for folder in _NEIGHBOURS]
    recording = next(filter(None, (recordings.of(place, stem) for place in (path, *neighbours))), None)
    if recording is None:
        raise ManifestError(recordings.missing(path, stem))
    channel = _channel(line.channel, first)
    place = name_in_id(stem)
    return Utterance(
        id=id_of_part(f"{place}-{line.channel}" if channel else place, line.start_s, line.end_s),
        audio_path=recording,
        text=segment.text,
        where=segment.where,
        speaker=line.speaker,
        split=split,
        start_s=line.start_s,
        duration_s=line.end_s - line.start_s,
        channel=channel,
        gender=_gender(line.labels),
    )


def _gender(labels: str) -> str | None:
    """Return the gender that the labels name; None if it is none or not one."""
    genders = {_GENDERS[label] for label in re.split("[,_]", labels.lower()) if label in _GENDERS}
    return genders.pop() if len(genders) == 1 else None


def _channel(name: str, first: str) -> int:
    """Return a channel from 0."""
    if re.fullmatch(r"[A-Za-z]", name):
        return ord(name.upper()) - ord("A")
    if not re.fullmatch(r"\d{1,3}", name):
        raise ManifestError(f"{name!r:.40} is no channel; channels are A, B, … or 1, 2, …")
    return int(name) - int(first)
