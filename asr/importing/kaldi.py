"""A Kaldi data folder (wav.scp, text, segments, utt2spk, spk2gender, reco2dur) → manifests.

Source: kaldi-asr.org/doc/data_prep.html.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from asr.corpus.line import MOST_S
from asr.corpus.names import SPLIT_NAMES, split_name
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing.kaldi_pipes import PipedFile, piped_file
from asr.importing.material import DeclaredLength, LeftOut, Material, Utterance
from asr.importing.utterances import ImportReport, write_splits
from asr.machine import Progress, silent
from asr.reading import read_text


class _Line(NamedTuple):
    where: str
    rest: str


def import_kaldi(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    audio_dir: str | os.PathLike[str] | None = None,
    split: SplitRule | None = None,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write the manifests of a Kaldi data folder into the folder `out`.

    wav.scp holds paths, or commands that only decode a file (`kaldi_pipes.py`): these are read as that file, and never
    run. segments, utt2spk, spk2gender and reco2dur are used if they exist.

    Args:
        source: a folder with wav.scp and text, or one with sub-folders train, dev (valid) and test (eval).
        out: the folder for train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        audio_dir: the folder that relative paths in wav.scp start from; None: the working directory, as in Kaldi, or
            else the folder of that wav.scp.
        split: how splits are drawn that the source does not give; None: dev and test get a tenth each, by speaker.
        language: noted in the manifests, e.g. "en".
        progress: shows how far the import is.

    Raises:
        ManifestError: a file is missing, or nothing is left for training.
    """
    material = read_kaldi(Path(source), Path(audio_dir) if audio_dir else None)
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_kaldi(folder: Path, audio_dir: Path | None = None) -> Material:
    """Return what is in a Kaldi data folder, or of its sub-folders train, dev (valid) and test (eval).

    Relative paths in wav.scp start from `audio_dir`. If that is None, they start from the working directory, as in
    Kaldi; a file that is not there is looked for in the folder of wav.scp. Without `segments` each recording is an
    utterance.

    Raises:
        ManifestError: a file is missing, or no utterance can be used.
    """
    if not folder.is_dir():
        raise ManifestError(f"{folder}: no such folder; expected one with wav.scp and text")
    if (folder / "wav.scp").exists():
        return _read_set(folder, None, audio_dir)
    parts = sorted(path.parent for path in folder.glob("*/wav.scp") if path.parent.name.lower() in SPLIT_NAMES)
    if not parts:
        raise ManifestError(f"{folder}: no wav.scp, neither here nor in sub-folders such as train/, dev/, test/")
    material = Material()
    for part in parts:
        material.extend(_read_set(part, split_name(part.name, str(part)), audio_dir))
    return material


class _Recording(NamedTuple):
    """What a line of wav.scp stands for."""

    path: Path
    relative_to: str  # where the path starts from, in words; empty: it is a whole path
    channel: int | None = None  # from 0; None: the average of all
    is_piped: bool = False
    is_resampled: bool = False


def _read_set(folder: Path, split: str | None, audio_dir: Path | None) -> Material:
    material = Material()
    lines = _read(folder / "wav.scp", material)
    texts = _read(folder / "text", material, may_be_empty=True)
    has_segments = (folder / "segments").exists()
    segments = _read(folder / "segments", material) if has_segments else lines
    speakers, genders, durations = (
        _read(folder / name, material) if (folder / name).exists() else {}
        for name in ("utt2spk", "spk2gender", "reco2dur")
    )
    recordings = {}
    for name, line in lines.items():
        with material.at(line.where):
            recordings[name] = _recording(folder, line, audio_dir)
    for name, line in texts.items():
        if name not in segments:
            source = folder / ("segments" if has_segments else "wav.scp")
            material.left_out.append(LeftOut(line.where, f"utterance {name!r} does not occur in {source}"))
    declared = _declared(durations, material)
    for name, line in segments.items():
        if not has_segments and name not in recordings:
            continue  # its line of wav.scp is left out already
        with material.at(line.where):
            part = _segment(line) if has_segments else _Part(name)
            if part.recording not in lines:
                raise ManifestError(f"recording {part.recording!r} does not occur in {folder / 'wav.scp'}")
            if part.recording not in recordings:
                raise ManifestError(
                    f"its recording {part.recording!r} cannot be used, see {lines[part.recording].where}"
                )
            recording = recordings[part.recording]
            speaker = speakers[name].rest if name in speakers else None
            material.utterances.append(
                Utterance(
                    id=name,
                    audio_path=recording.path,
                    text=texts[name].rest if name in texts else "",
                    where=line.where,
                    speaker=speaker,
                    gender=genders[speaker].rest if speaker in genders else None,
                    split=split,
                    start_s=part.start_s,
                    duration_s=part.duration_s,
                    relative_to=recording.relative_to,
                    channel=_channel(recording, part),
                    declared=declared.get(part.recording),
                )
            )
    material.or_refuse(f"{folder}: no utterances")
    if (folder / "utt2spk").exists():
        material.note_speakers(str(folder / "utt2spk"))
    else:
        material.notes.append(f"{folder}: no utt2spk, which names the speakers")
    material.notes.extend(_pipe_notes(folder, list(recordings.values())))
    return material


def _pipe_notes(folder: Path, recordings: list[_Recording]) -> Iterator[str]:
    """Yield what is to be said of commands that were understood."""
    if piped := sum(recording.is_piped for recording in recordings):
        yield f"{folder / 'wav.scp'}: {piped} commands are read as the files that they decode; none is run"
    if resampled := sum(recording.is_resampled for recording in recordings):
        yield (
            f"{folder / 'wav.scp'}: {resampled} commands resample; the files' own rates are kept, because audio is "
            "resampled when it is read"
        )


def _declared(durations: dict[str, _Line], material: Material) -> dict[str, DeclaredLength]:
    """Return what reco2dur says of each recording."""
    declared = {}
    for name, line in durations.items():
        with material.at(line.where):
            declared[name] = DeclaredLength(_number(line), line.where)
    return declared


def _number(line: _Line) -> float:
    try:
        seconds = float(line.rest)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MOST_S:
        raise ManifestError(f"{line.rest!r} is not a number of seconds")
    return seconds


def _read(path: Path, material: Material, *, may_be_empty: bool = False) -> dict[str, _Line]:
    """Return the lines of a Kaldi table by their key.

    Args:
        path: lines of `key value…`.
        material: gets the lines that cannot be used.
        may_be_empty: a key without a value is acceptable.
    """
    lines: dict[str, _Line] = {}
    is_empty = True
    for number, text in enumerate(read_text(path, ManifestError, "the file").split("\n"), 1):
        if not text.strip():
            continue
        is_empty = False
        key, _, rest = text.strip().replace("\t", " ").partition(" ")
        line = _Line(f"{path}:{number}", rest.strip())
        with material.at(line.where):
            if not line.rest and not may_be_empty:
                raise ManifestError(f"{key!r} has no value")
            if key in lines:
                raise ManifestError(f"{key!r} occurs already at {lines[key].where}")
            lines[key] = line
    if is_empty:
        raise ManifestError(f"{path}: the file is empty")
    return lines


def _recording(folder: Path, line: _Line, audio_dir: Path | None) -> _Recording:
    if re.search(r"\.ark:\d+$", line.rest):
        raise ManifestError(
            f"audio inside an archive ({line.rest}); write it to wav or flac files, e.g. with Kaldi's wav-copy, and "
            "put their paths here"
        )
    is_piped = line.rest.startswith("|") or line.rest.endswith("|")
    file = piped_file(line.rest) if is_piped else PipedFile(line.rest)
    path = Path(file.path)
    relative_to = str(audio_dir) if audio_dir else f"the working directory {Path.cwd()}, or to {folder}"
    if audio_dir:
        path = audio_dir / path
    elif not os.path.exists(path):  # of any path, also one that no file can have
        path = folder / path
    return _Recording(
        path,
        "" if Path(file.path).is_absolute() else relative_to,
        file.channel,
        is_piped,
        file.is_resampled,
    )


def _channel(recording: _Recording, part: _Part) -> int | None:
    if recording.channel is None:
        return part.channel
    if part.channel:
        raise ManifestError(f"channel {part.channel}, but {part.recording!r} is a command that gives one channel")
    return recording.channel


class _Part(NamedTuple):
    recording: str
    start_s: float = 0.0
    duration_s: float | None = None  # None: up to the end
    channel: int | None = None


def _segment(line: _Line) -> _Part:
    """Return the fields, the end as a duration; an end of -1 is the recording's own. A channel may follow."""
    recording, *times = line.rest.split()
    try:
        start_s, end_s = float(times[0]), float(times[1])
        channel = int({"A": "0", "B": "1"}.get(times[2], times[2])) if times[2:] else -1
    except (IndexError, ValueError):
        raise ManifestError(f"expected 'utterance recording start end', found {line.rest!r}") from None
    chosen = channel if channel >= 0 else None
    if end_s == -1:
        return _Part(recording, start_s, None, chosen)
    if not 0 <= start_s < end_s <= MOST_S:
        raise ManifestError(f"a segment cannot last from {start_s:g} s to {end_s:g} s")
    return _Part(recording, start_s, end_s - start_s, chosen)
