"""Manifests: JSON lines of lhotse cuts. A cut says where an utterance's audio lies, its text, its speaker."""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

import numpy as np
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.cut import Cut, MultiCut
from lhotse.serialization import decode_json_line, deserialize_item

from asr.audio.sound_file import audio_info
from asr.config import TextSettings
from asr.corpus.shar import Shard, find_shards, in_tar
from asr.errors import ManifestError
from asr.files import atomic_path
from asr.text.normalise import normalise

Parsed = TypeVar("Parsed")

SPLITS = ("train", "dev", "test")
_SUFFIXES = (".jsonl", ".jsonl.gz")
_PLAIN_CUTS = ("MonoCut", "MultiCut")
_BUFFER_BYTES = 1 << 20
# How far a cut may run past its recording's end before that is an error: tables round times to hundredths.
_OVERRUN_S = 0.025


class Entry(NamedTuple):
    """What a manifest's line says of an utterance without its audio: enough to survey a corpus."""

    id: str
    duration_s: float
    text: str


class _Shards:
    """The cuts of one or several files of JSON lines, read afresh on each pass; a bad line is named."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards

    def __iter__(self) -> Iterator[Cut]:
        for shard in self.shards:
            yield from _read_lines(shard.cuts, _cut if shard.tar is None else partial(_cut_in_tar, shard.tar))

    def entries(self) -> Iterator[Entry]:
        for shard in self.shards:
            yield from _read_lines(shard.cuts, _entry)


def read_manifest(*paths: str | Path) -> CutSet:
    """Return the cuts of `.jsonl` or `.jsonl.gz` manifests, or of folders of lhotse's Shar format, one after the other.

    Nothing is kept in memory: each pass over the cuts reads the files again.

    Raises:
        ManifestError: a file is missing, empty or does not begin with a cut; later: a line is malformed.
    """
    return CutSet(_Shards([shard for path in paths for shard in _shards(Path(path))]))


def _shards(path: Path) -> list[Shard]:
    if path.is_dir():
        here = [name for split in SPLITS for name in (f"{split}.jsonl.gz", split) if (path / name).exists()]
        if here:
            raise ManifestError(f"{path}: a data folder; name one of its splits, e.g. {path / here[-1]}")
        shards = find_shards(path)
    elif not path.is_file():
        raise ManifestError(f"{path}: no such manifest; make it with `asr prepare` or `asr import`")
    elif not path.name.endswith(_SUFFIXES):
        raise ManifestError(f"{path}: a manifest's name ends in {' or '.join(_SUFFIXES)}")
    else:
        shards = [Shard(path, None)]
    if next(iter(_Shards(shards)), None) is None:
        raise ManifestError(f"{path}: the manifest holds no utterances")
    return shards


def find_split(data: Path, split: str) -> Path:
    """Return where a data folder keeps a split: in the manifest `train.jsonl.gz`, or else in the Shar folder `train`.

    Raises:
        ManifestError: neither is there.
    """
    manifest, folder = data / f"{split}.jsonl.gz", data / split
    if manifest.is_file():
        return manifest
    if folder.is_dir():
        return folder
    raise ManifestError(
        f"{manifest}: no such manifest, nor is there a Shar folder {folder}; make it with `asr prepare` or `asr import`"
    )


def entries(cuts: Iterable[Cut]) -> Iterator[Entry]:
    """Yield what a survey needs of each cut; of a manifest without making the cuts, which takes several times longer.

    Raises:
        ManifestError: a line is malformed.
    """
    source = cuts.data if isinstance(cuts, CutSet) else cuts
    return source.entries() if isinstance(source, _Shards) else map(entry_of, source)


def entry_of(cut: Cut) -> Entry:
    """Return a cut's entry."""
    return Entry(cut.id, cut.duration, cut_text(cut))


def shuffle_shards(cuts: CutSet, rng: np.random.Generator) -> CutSet:
    """Return the cuts of a Shar folder with its shards in an order drawn by `rng`; a plain manifest is one shard.

    Cuts that went through `filter` or the like keep their order: shuffle before.
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
    lines: dict[str, str] = {}
    for cut in cuts:
        if cut.id in lines:
            raise ManifestError(
                f"{path}: two utterances have the id {cut.id!r}; ids name utterances, so they must differ"
            )
        lines[cut.id] = json.dumps(cut.to_dict(), ensure_ascii=False) + "\n"
    if not lines:
        raise ManifestError(f"{path}: not written, since it would hold no utterances")
    data = "".join(lines.values()).encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def make_cut(
    id: str,
    audio_path: str | Path,
    text: str,
    speaker: str,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    language: str | None = None,
) -> MonoCut | MultiCut:
    """Return the cut of one utterance: an audio file, or the part of it that begins at `start_s`.

    A file with several channels gives a `MultiCut` of all of them; they are averaged when it is loaded.

    Raises:
        AudioError: the file's header cannot be read.
        ManifestError: the part does not lie within the file.
    """
    path = Path(os.path.abspath(audio_path))
    info = audio_info(path)
    duration = info.duration_s - start_s if duration_s is None else duration_s
    if start_s < 0 or duration <= 0 or start_s + duration > info.duration_s + _OVERRUN_S:
        raise ManifestError(
            f"utterance {id}: {start_s:g} s to {start_s + duration:g} s is not a part of {path}, "
            f"which lasts {info.duration_s:g} s"
        )
    duration = min(duration, info.duration_s - start_s)
    channels = list(range(info.channels))
    recording = Recording(
        id=id,
        sources=[AudioSource(type="file", channels=channels, source=str(path))],
        sampling_rate=info.sample_rate_hz,
        num_samples=info.samples,
        duration=info.duration_s,
        channel_ids=channels,
    )
    kind, channel = (MonoCut, 0) if info.channels == 1 else (MultiCut, channels)
    supervision = SupervisionSegment(
        id=id,
        recording_id=id,
        start=0.0,
        duration=duration,
        channel=channel,
        text=text,
        speaker=speaker,
        language=language,
    )
    return kind(
        id=id,
        start=start_s,
        duration=duration,
        channel=channel,
        recording=recording,
        supervisions=[supervision],
    )


def cut_text(cut: Cut) -> str:
    """Return a cut's transcript: its supervisions' texts in order of time; "" if there is none."""
    ordered = sorted(cut.supervisions, key=lambda supervision: supervision.start)
    return " ".join(supervision.text for supervision in ordered if supervision.text)


def transcripts(cuts: Iterable[Cut], settings: TextSettings) -> dict[str, str]:
    """Return each utterance's normalised transcript, by utterance id."""
    return {cut.id: normalise(cut_text(cut), settings) for cut in cuts}


def cut_speaker(cut: Cut) -> str:
    """Return a cut's speaker.

    Raises:
        ManifestError: no supervision names one.
    """
    for supervision in cut.supervisions:
        if supervision.speaker:
            return str(supervision.speaker)
    raise ManifestError(f"utterance {cut.id}: no speaker; each supervision of the manifest needs one")


def _read_lines(path: Path, parse: Callable[[dict[str, Any]], Parsed]) -> Iterator[Parsed]:
    """Yield what `parse` makes of each line's JSON; a bad line is named."""
    number = 0
    try:
        with _open_binary(path) as lines:
            for number, line in enumerate(lines, 1):  # noqa: B007 (named in the error below)
                if not line.isspace():
                    yield parse(decode_json_line(line))
    except (OSError, EOFError, zlib.error) as error:
        raise ManifestError(f"{path}: damaged after line {number} ({error}); write it again") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(f"{path}:{number}: not a lhotse cut ({type(error).__name__}: {error})") from None


def _open_binary(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        # A GzipFile's own line reading is slow; a buffer of its own in front is not.
        return cast(BinaryIO, io.BufferedReader(gzip.open(path, "rb"), _BUFFER_BYTES))
    return path.open("rb")


def _cut(line: dict[str, Any]) -> Cut:
    cut = deserialize_item(line)
    if not isinstance(cut, Cut):
        raise ValueError(f"a {type(cut).__name__}, not a cut")
    return cut


def _cut_in_tar(tar: Path, line: dict[str, Any]) -> Cut:
    return in_tar(_cut(line), tar)


def _entry(line: dict[str, Any]) -> Entry:
    """Read a line of the common form directly: a cut of one recording with one supervision. lhotse reads the rest."""
    supervisions: list[dict[str, Any]] = line.get("supervisions", []) if line.get("type") in _PLAIN_CUTS else []
    if len(supervisions) != 1:
        return entry_of(_cut(line))
    return Entry(line["id"], line["duration"], supervisions[0].get("text") or "")
