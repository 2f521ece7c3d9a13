"""Manifests: JSON lines of lhotse cuts. A cut says where an utterance's audio is, its text and its speaker.

A data folder holds a manifest or a Shar folder (`shar.py`) for each split.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.cut import Cut, MultiCut

from asr.audio.sound_file import AudioInfo, audio_info
from asr.config import TextSettings
from asr.corpus.line import (
    ManifestLine,
    cut_of_line,
    require_agreement,
    require_count,
    require_name,
    require_path,
    require_rate,
    require_seconds,
    require_text,
)
from asr.corpus.shar import Shard, find_shards
from asr.errors import ManifestError
from asr.files import atomic_path, visible_json
from asr.reading import read_raw_lines
from asr.text.normalise import normalise

SPLITS = ("train", "dev", "test")
_SUFFIXES = (".jsonl", ".jsonl.gz")
_PLAIN_CUTS = ("MonoCut", "MultiCut")
# A cut may run this far past its recording's end, because tables round times to hundredths.
_OVERRUN_S = 0.025


class Entry(NamedTuple):
    """What a manifest's line says about an utterance without its audio: enough to survey a corpus."""

    id: str
    duration_s: float
    text: str
    sample_rate_hz: int = 0  # of its recording; 0: it has none
    language: str = ""  # empty: it is not noted
    speaker: str = ""  # likewise


class _Shards:
    """The cuts of files of JSON lines, read anew on each pass."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards

    def __iter__(self) -> Iterator[Cut]:
        return (line.cut() for line in self.lines())

    def entries(self) -> Iterator[Entry]:
        return (line.parsed(_entry) for line in self.lines())

    def lines(self) -> Iterator[ManifestLine]:
        for shard in self.shards:
            for number, line in enumerate(read_raw_lines(shard.cuts, ManifestError, "the manifest"), 1):
                if not line.isspace():
                    yield ManifestLine(shard, number, line)


def read_manifest(*paths: str | Path) -> CutSet:
    """Return the cuts of `.jsonl` or `.jsonl.gz` manifests, or of folders of lhotse's Shar format, one after the other.

    The cuts are not kept in memory: each pass over them reads the files again.

    Raises:
        ManifestError: a file is missing, empty or does not begin with a cut. On a pass: a line is malformed.
    """
    return CutSet(_Shards([shard for path in paths for shard in _shards(Path(path))]))


def load_manifest(*paths: str | Path) -> CutSet:
    """Return the cuts of manifests or Shar folders in memory, for work that looks utterances up by their ids.

    Raises:
        ManifestError: as `read_manifest`, or two utterances have the same id.
    """
    return CutSet(list(distinct(read_manifest(*paths), " and ".join(map(str, paths)))))


def distinct(cuts: Iterable[Cut], where: str | Path = "") -> Iterator[Cut]:
    """Yield cuts and refuse the second one with the same id; `where` names their origin in the error.

    Raises:
        ManifestError: two utterances have the same id.
    """
    ids: set[str] = set()
    for cut in cuts:
        if cut.id in ids:
            origin = f"{where}: " if str(where) else ""
            raise ManifestError(
                f"{origin}two utterances have the id {cut.id!r}; ids name utterances, so they must differ"
            )
        ids.add(cut.id)
        yield cut


def _shards(path: Path) -> list[Shard]:
    if path.is_dir():
        here = [name for split in SPLITS for name in (f"{split}.jsonl.gz", split) if (path / name).exists()]
        if here:
            raise ManifestError(f"{path}: a data folder; name one of its splits, e.g. {path / here[-1]}")
        shards = find_shards(path)
    elif not path.is_file():
        raise ManifestError(f"{path}: no such manifest; make it with `asr prepare` or `asr import`")
    elif not path.name.endswith(_SUFFIXES):
        raise ManifestError(f"{path}: a manifest's name ends in {' or '.join(_SUFFIXES)}{_next_command(path)}")
    else:
        shards = [Shard(path, None)]
    if next(iter(_Shards(shards)), None) is None:
        raise ManifestError(f"{path}: the manifest holds no utterances")
    return shards


def _next_command(path: Path) -> str:
    """Return what to do with data that are no manifest; nothing if that is not known."""
    if path.is_dir():
        return f"; `asr import kaldi {path} --out DIR` makes one of a Kaldi data folder"
    if path.name.endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz")):
        return f"; `asr import csv {path} --out DIR` makes one of a table"
    return f"; its folder is {path.parent}" if path.name.endswith(_SUFFIXES) else ""


def find_split(data: Path, split: str) -> Path:
    """Return where a data folder keeps a split: the manifest `train.jsonl.gz`, or else the Shar folder `train`.

    Raises:
        ManifestError: neither exists.
    """
    manifest, folder = data / f"{split}.jsonl.gz", data / split
    if manifest.is_file():
        return manifest
    if folder.is_dir():
        return folder
    if data.is_file() or (data / "wav.scp").is_file():
        raise ManifestError(f"{data}: is no data folder with {split}.jsonl.gz{_next_command(data)}")
    raise ManifestError(
        f"{manifest}: no such manifest, nor is there a Shar folder {folder}; make it with `asr prepare` or `asr import`"
    )


def find_splits(data: Path) -> dict[str, Path]:
    """Return the manifests and Shar folders of a data folder by split; or the one that `data` itself is, by its name.

    Raises:
        ManifestError: there is none.
    """
    if not data.is_dir() or next(data.glob("cuts*.jsonl*"), None):
        return {Path(os.path.abspath(data)).name.partition(".")[0]: data}
    found = {}
    for split in SPLITS:
        with suppress(ManifestError):
            found[split] = find_split(data, split)
    if not found:
        names = ", ".join(f"{split}.jsonl.gz" for split in SPLITS)
        raise ManifestError(f"{data}: holds none of {names}, nor Shar folders of those names")
    return found


def find_tests(data: Path) -> dict[str, Path]:
    """Return the test sets of a data folder by name: the split `test`, and those in folders `test-NAME`.

    Raises:
        ManifestError: there is no split `test`.
    """
    further = sorted(data.glob("test-*/test.jsonl.gz"))
    return {"test": find_split(data, "test"), **{path.parent.name: path for path in further}}


def entries(cuts: Iterable[Cut]) -> Iterator[Entry]:
    """Yield what a survey needs of each cut. A manifest's cuts are not made, which would take several times longer.

    Raises:
        ManifestError: a line is malformed.
    """
    source = cuts.data if isinstance(cuts, CutSet) else cuts
    return source.entries() if isinstance(source, _Shards) else map(entry_of, source)


def undecoded(cuts: Iterable[Cut]) -> Iterator[ManifestLine] | Iterator[Cut]:
    """Yield the lines of a manifest as they are, or cuts that do not come from one; both can go to another process."""
    source = cuts.data if isinstance(cuts, CutSet) else cuts
    return source.lines() if isinstance(source, _Shards) else iter(source)


def decoded(item: ManifestLine | Cut) -> Cut:
    """Return the cut of what `undecoded` yields.

    Raises:
        ManifestError: the line is malformed.
    """
    return item.cut() if isinstance(item, ManifestLine) else item


def entry_of(cut: Cut) -> Entry:
    """Return a cut's entry."""
    language = next((supervision.language for supervision in cut.supervisions if supervision.language), "")
    speaker = next((str(supervision.speaker) for supervision in cut.supervisions if supervision.speaker), "")
    rate_hz = cut.sampling_rate if cut.has_recording else 0
    return Entry(cut.id, cut.duration, cut_text(cut), rate_hz, language, speaker)


def shuffle_shards(cuts: CutSet, rng: np.random.Generator) -> CutSet:
    """Return the cuts of a Shar folder with its shards in an order drawn by `rng`; a plain manifest is one shard.

    Cuts that went through `filter` or the like keep their order, so shuffle first.
    """
    if not isinstance(cuts.data, _Shards):
        return cuts
    shards = cuts.data.shards
    return CutSet(_Shards([shards[place] for place in rng.permutation(len(shards))]))


def write_manifest(cuts: Iterable[Cut], path: str | Path) -> None:
    """Write cuts as JSON lines, gzipped if the name ends in `.gz`; the same cuts give the same bytes.

    Raises:
        ManifestError: there are no cuts, or two have the same id.
    """
    path = Path(path)
    distinct_cuts = distinct(cuts, path)
    first = next(distinct_cuts, None)
    if first is None:
        raise ManifestError(f"{path}: not written, because it would hold no utterances")
    with atomic_path(path) as temporary, temporary.open("wb") as raw:
        # A name or a time in the file's head would be other bytes for the same cuts.
        packed = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        with packed as file:
            for cut in chain([first], distinct_cuts):
                file.write((visible_json(json.dumps(cut.to_dict(), ensure_ascii=False)) + "\n").encode())


def make_cut(
    id: str,
    audio_path: str | Path,
    text: str,
    speaker: str,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    channel: int | None = None,
    language: str | None = None,
    gender: str | None = None,
) -> MonoCut | MultiCut:
    """Return the cut of one utterance: an audio file, or the part of it that begins at `start_s`.

    A file with several channels gives a `MultiCut` of all of them, which are averaged when it is loaded, unless one
    channel is named, counted from 0.

    Raises:
        AudioError: the file's header cannot be read.
        ManifestError: the part does not lie within the file, or the file has no such channel.
    """
    path = Path(os.path.abspath(audio_path))
    require_path(path)
    info = audio_info(path)
    duration = info.duration_s - start_s if duration_s is None else duration_s
    if not (start_s >= 0 and duration > 0 and start_s + duration <= info.duration_s + _OVERRUN_S):  # or not a number
        raise ManifestError(
            f"utterance {id}: {start_s:g} s to {start_s + duration:g} s is not a part of {path}, "
            f"which lasts {info.duration_s:g} s"
        )
    if channel is not None and not 0 <= channel < info.channels:
        raise ManifestError(
            f"utterance {id}: channel {channel}, counted from 0, does not exist in {path}, which has {info.channels}"
        )
    duration = min(duration, info.duration_s - start_s)
    recording = _recording(id, path, info)
    all_channels = channel is None and info.channels > 1
    kind, channels = (MultiCut, recording.channel_ids) if all_channels else (MonoCut, channel or 0)
    supervision = SupervisionSegment(
        id=id,
        recording_id=id,
        start=0.0,
        duration=duration,
        channel=channels,
        text=text,
        speaker=speaker,
        gender=gender,
        language=language,
    )
    return kind(
        id=id,
        start=start_s,
        duration=duration,
        channel=channels,
        recording=recording,
        supervisions=[supervision],
    )


def _recording(id: str, path: Path, info: AudioInfo) -> Recording:
    channels = list(range(info.channels))
    return Recording(
        id=id,
        sources=[AudioSource(type="file", channels=channels, source=str(path))],
        sampling_rate=info.sample_rate_hz,
        num_samples=info.samples,
        duration=info.duration_s,
        channel_ids=channels,
    )


def cut_text(cut: Cut) -> str:
    """Return a cut's transcript: its supervisions' texts in order of time; "" if there is none."""
    ordered = sorted(cut.supervisions, key=lambda supervision: supervision.start)
    return " ".join(supervision.text for supervision in ordered if supervision.text)


def transcripts(cuts: Iterable[Cut], settings: TextSettings) -> dict[str, str]:
    """Return each utterance's normalised transcript, by utterance id.

    Raises:
        ManifestError: two utterances have the same id.
    """
    return {cut.id: normalise(cut_text(cut), settings) for cut in distinct(cuts)}


def cut_speaker(cut: Cut) -> str:
    """Return a cut's speaker.

    Raises:
        ManifestError: no supervision names one.
    """
    for supervision in cut.supervisions:
        if supervision.speaker:
            return str(supervision.speaker)
    raise ManifestError(f"utterance {cut.id}: no speaker; each supervision of the manifest needs one")


def known_speakers(cuts: Iterable[Cut]) -> dict[str, str]:
    """Return the speaker of each utterance whose supervisions name one, by utterance id."""
    named = {cut.id: [s.speaker for s in cut.supervisions if s.speaker] for cut in cuts}
    return {name: str(speakers[0]) for name, speakers in named.items() if speakers}


FieldValue: TypeAlias = "str | int | float | bool"


def cut_fields(cut: Cut) -> dict[str, FieldValue]:
    """Return what a manifest says of an utterance beside audio, text and speaker, by name: only single values."""
    fields: dict[str, Any] = dict(getattr(cut, "custom", None) or {})
    for supervision in cut.supervisions:
        fields |= {"language": supervision.language, "gender": supervision.gender, **(supervision.custom or {})}
    return {name: value for name, value in fields.items() if isinstance(value, (str, int, float)) and value != ""}


def _entry(line: dict[str, Any]) -> Entry:
    """Read a line of the common form directly: a cut of one recording with one supervision. lhotse reads the rest."""
    supervisions: list[dict[str, Any]] = line.get("supervisions", []) if line.get("type") in _PLAIN_CUTS else []
    if len(supervisions) != 1:
        return entry_of(cut_of_line(line))
    utterance_id, duration_s, text = line["id"], line["duration"], supervisions[0].get("text")
    require_name("id", utterance_id)
    require_seconds("start", line["start"])
    require_seconds("duration", duration_s)
    if text is not None:
        require_text("text", text)
    if (speaker := supervisions[0].get("speaker")) is not None:
        require_name("speaker", speaker)
    language = supervisions[0].get("language") or ""
    require_name("language", language)
    recording = line.get("recording")
    if not recording:
        return Entry(utterance_id, duration_s, text or "", 0, language, speaker or "")
    rate_hz, samples, recording_s = (recording[name] for name in ("sampling_rate", "num_samples", "duration"))
    require_rate("recording's sampling_rate", rate_hz)
    require_count("recording's num_samples", samples)
    require_seconds("recording's duration", recording_s)
    require_agreement(recording_s, samples, rate_hz)
    return Entry(utterance_id, duration_s, text or "", rate_hz, language, speaker or "")
