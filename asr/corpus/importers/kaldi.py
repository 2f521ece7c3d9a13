"""A Kaldi data folder (wav.scp, text, utt2spk, segments) → manifests.

Source: kaldi-asr.org/doc/data_prep.html.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from asr.corpus.importers.utterances import (
    SPLIT_NAMES,
    ImportReport,
    LeftOut,
    Material,
    Utterance,
    split_name,
    write_splits,
)
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
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
    """Write the manifests of a Kaldi data folder, whose wav.scp holds plain paths, into the folder `out`.

    utt2spk and segments are used if they exist.

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


def _read_set(folder: Path, split: str | None, audio_dir: Path | None) -> Material:
    material = Material()
    recordings = _read(folder / "wav.scp", material)
    texts = _read(folder / "text", material, may_be_empty=True)
    has_speakers, has_segments = (folder / "utt2spk").exists(), (folder / "segments").exists()
    speakers = _read(folder / "utt2spk", material) if has_speakers else {}
    segments = _read(folder / "segments", material) if has_segments else recordings
    sources = {}
    for name, line in recordings.items():
        with material.at(line.where):
            sources[name] = _audio_path(folder, line, audio_dir)
    for name, line in texts.items():
        if name not in segments:
            source = folder / ("segments" if has_segments else "wav.scp")
            material.left_out.append(LeftOut(line.where, f"utterance {name!r} does not occur in {source}"))
    relative_to = str(audio_dir) if audio_dir else f"the working directory {Path.cwd()}, or to {folder}"
    for name, line in segments.items():
        if not has_segments and name not in sources:
            continue  # its line of wav.scp is left out already
        with material.at(line.where):
            recording, start_s, duration_s = _segment(line) if has_segments else (name, 0.0, None)
            if recording not in recordings:
                raise ManifestError(f"recording {recording!r} does not occur in {folder / 'wav.scp'}")
            if recording not in sources:
                raise ManifestError(f"its recording {recording!r} cannot be used, see {recordings[recording].where}")
            material.utterances.append(
                Utterance(
                    id=name,
                    audio_path=sources[recording],
                    text=texts[name].rest if name in texts else "",
                    where=line.where,
                    speaker=speakers[name].rest if name in speakers else None,
                    split=split,
                    start_s=start_s,
                    duration_s=duration_s,
                    relative_to="" if Path(recordings[recording].rest).is_absolute() else relative_to,
                )
            )
    material.or_refuse(f"{folder}: no utterances")
    if has_speakers:
        material.note_speakers(str(folder / "utt2spk"))
    else:
        material.notes.append(f"{folder}: no utt2spk, which names the speakers")
    return material


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


def _audio_path(folder: Path, line: _Line, audio_dir: Path | None) -> Path:
    if line.rest.startswith("|") or line.rest.endswith("|"):
        raise ManifestError(
            f"{line.where}: a command ({line.rest}); commands are not run. Write its output to a wav or flac file "
            "and put that file's path here"
        )
    if re.search(r"\.ark:\d+$", line.rest):
        raise ManifestError(
            f"{line.where}: audio inside an archive ({line.rest}); write it to wav or flac files, e.g. with "
            "Kaldi's wav-copy, and put their paths here"
        )
    path = Path(line.rest)
    if audio_dir:
        return audio_dir / path
    return path if os.path.exists(path) else folder / path  # of any path, also one that no file can have


def _segment(line: _Line) -> tuple[str, float, float | None]:
    """Return the three fields, the end as a duration; an end of -1 is the recording's own."""
    fields = line.rest.split()
    try:
        recording, start_s, end_s = fields[0], float(fields[1]), float(fields[2])
    except (IndexError, ValueError):
        raise ManifestError(f"{line.where}: expected 'utterance recording start end', found {line.rest!r}") from None
    if end_s == -1:
        return recording, start_s, None
    if not 0 <= start_s < end_s:
        raise ManifestError(f"{line.where}: a segment cannot last from {start_s:g} s to {end_s:g} s")
    return recording, start_s, end_s - start_s
