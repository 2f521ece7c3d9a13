"""lhotse's Shar format, read: cuts in `cuts.000000.jsonl.gz`, their audio in `recording.000000.tar`, and so on.

Some big files in place of a million small ones. lhotse's own reader hands out cuts with their audio in memory. Here a
cut only knows its shard's tar and is read from it when its audio is asked for, so that thousands of cuts can wait to be
shuffled, or be passed over when a run is resumed, for the price of their metadata.

Source of the format: `lhotse.shar`, https://lhotse.readthedocs.io/en/latest/api.html#lhotse-shar.


Cuts → lhotse's Shar format: audio of a thousand utterances a tar, FLAC, beside their cuts. `shar.py` reads it.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from itertools import chain, count, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from lhotse import MonoCut, Recording
from lhotse.audio import AudioSource
from lhotse.cut import Cut
from numpy.typing import NDArray

from asr.audio.resample import resample
from asr.corpus.cut_audio import load_cut
from asr.errors import AudioError, ManifestError
from asr.files import complete_folder

_CUTS = ("cuts.*.jsonl.gz", "cuts.*.jsonl", "cuts.jsonl.gz", "cuts.jsonl")
# Of each utterance a tar holds the audio, then its metadata; these suffixes are not audio.
_NO_AUDIO = ("json", "nodata", "nometa")


class Shard(NamedTuple):
    """A file of JSON lines, and the tar that holds its cuts' audio; without one, the cuts say where it lies."""

    cuts: Path
    tar: Path | None


def find_shards(folder: Path) -> list[Shard]:
    """Return the shards of a Shar folder in order.

    Raises:
        ManifestError: there is none, or one lacks its audio.
    """
    shards = []
    for cuts in sorted(path for pattern in _CUTS for path in folder.glob(pattern)):
        number = cuts.name.removeprefix("cuts").partition(".jsonl")[0]
        tar = folder / f"recording{number}.tar"
        if not tar.is_file():
            raise ManifestError(f"{tar}: missing; it holds the audio of {cuts.name}")
        shards.append(Shard(cuts, tar))
    if not shards:
        raise ManifestError(f"{folder}: holds no cuts.000000.jsonl.gz, so it is no Shar folder; `asr shar` makes one")
    return shards


def in_tar(cut: Cut, tar: Path) -> Cut:
    """Return a cut of a Shar folder, changed to read its audio from `tar`.

    Raises:
        ValueError: the cut has no recording.
    """
    if not cut.has_recording:
        raise ValueError("no recording")
    cut.recording.sources = [_TarAudio(cut.recording.channel_ids, tar, cut.id)]
    return cut


class _TarAudio(AudioSource):  # type: ignore[misc]  # lhotse is untyped
    """Audio that is read from a tar when it is asked for; written to a manifest, it is Shar's placeholder."""

    def __init__(self, channels: list[int], tar: Path, name: str) -> None:
        super().__init__(type="shar", channels=channels, source="")
        self.tar = tar
        self.name = name

    def load_audio(
        self, offset: float = 0.0, duration: float | None = None, force_opus_sampling_rate: int | None = None
    ) -> NDArray[np.float32]:
        """Return `(channel, sample)` at the rate named last, the recording's: opus may be stored at another."""
        try:
            with soundfile.SoundFile(BytesIO(read_member(self.tar, self.name))) as file:
                file.seek(round(offset * file.samplerate))
                frames = -1 if duration is None else round(duration * file.samplerate)
                samples = file.read(frames, dtype="float32", always_2d=True)
                return resample(samples.T, file.samplerate, force_opus_sampling_rate or file.samplerate)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{self.tar} holds damaged audio: {error.error_string}") from None


def read_member(tar: Path, name: str) -> bytes:
    """Return the encoded audio of the utterance `name`.

    Raises:
        ValueError: the tar is damaged or does not hold it.
    """
    try:
        place = _index(tar).get(name)
        if place is None:
            raise ValueError(f"{tar} does not hold it: it was cut off, or cuts and audio belong to different data")
        start, size = place
        with tar.open("rb") as file:
            file.seek(start)
            data = file.read(size)
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"{tar} is damaged or cut off: {error}") from None
    return data


@lru_cache(maxsize=32)  # the shards among which a pool of utterances is shuffled, and those of the pool before
def _index(tar: Path) -> dict[str, tuple[int, int]]:
    """Return where each utterance's audio begins in a tar and how long it is, in bytes; only headers are read."""
    places: dict[str, tuple[int, int]] = {}
    with tarfile.open(tar) as members:
        for member in members:
            name, _, suffix = member.name.rpartition(".")
            if suffix not in _NO_AUDIO:
                places[name] = member.offset_data, member.size
    return places


SHARD_UTTERANCES = 1000


@dataclass(frozen=True)
class SharReport:
    """What was written, and why utterances were left out, by id."""

    utterances: int
    skipped: dict[str, str]


def write_shar(
    cuts: Iterable[Cut],
    folder: Path,
    *,
    shard_utterances: int = SHARD_UTTERANCES,
    on_utterance: Callable[[], None] = lambda: None,
) -> SharReport:
    """Write cuts and their audio as a new Shar folder, in their order; what cannot be read is left out.

    Audio becomes mono, at its own rate. 16-bit recordings keep every sample's value; others are kept to 24 bits. The
    folder appears when it is complete.

    Args:
        cuts: read once.
        folder: must not be there yet.
        shard_utterances: how many share a tar.
        on_utterance: called after each utterance, to show progress.

    Raises:
        ManifestError: the folder is there, two cuts have the same id, or no cut can be read.
    """
    if folder.exists():
        raise ManifestError(f"{folder}: is there already; remove it, or choose another folder")
    ids: set[str] = set()
    skipped: dict[str, str] = {}

    def readable() -> Iterator[tuple[MonoCut, NDArray[np.float32]]]:
        for cut in cuts:
            if cut.id in ids or cut.id in skipped:
                raise ManifestError(
                    f"{folder}: two utterances have the id {cut.id!r}; ids name utterances, so they must differ"
                )
            try:
                samples = load_cut(cut, cut.sampling_rate)
            except AudioError as error:
                skipped[cut.id] = str(error).removeprefix(f"utterance {cut.id}: ")
            else:
                ids.add(cut.id)
                yield _placeholder(cut, len(samples)), samples
            on_utterance()

    with complete_folder(folder) as temporary:
        rest = readable()
        for number in count():
            first = next(rest, None)
            if first is None:
                break
            _write_shard(chain([first], islice(rest, shard_utterances - 1)), temporary, number)
        if not ids:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
            raise ManifestError(f"{folder}: not written, since it would hold no utterances ({reasons or 'no cuts'})")
    return SharReport(len(ids), skipped)


def _write_shard(utterances: Iterable[tuple[MonoCut, NDArray[np.float32]]], folder: Path, number: int) -> None:
    with (
        gzip.GzipFile(folder / f"cuts.{number:06d}.jsonl.gz", "wb", mtime=0) as lines,
        tarfile.open(folder / f"recording.{number:06d}.tar", "w") as tar,
    ):
        for cut, samples in utterances:
            _add(tar, f"{cut.id}.flac", flac(samples, cut.sampling_rate))
            _add(tar, f"{cut.id}.json", json.dumps(cut.recording.to_dict()).encode())
            lines.write((json.dumps(cut.to_dict(), ensure_ascii=False) + "\n").encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _placeholder(cut: Cut, samples: int) -> MonoCut:
    """Return a cut of its own mono recording, whose audio Shar's readers supply."""
    rate_hz = cut.sampling_rate
    duration_s = cut.duration if round(cut.duration * rate_hz) == samples else samples / rate_hz
    recording = Recording(
        id=cut.id,
        sources=[AudioSource(type="shar", channels=[0], source="")],
        sampling_rate=rate_hz,
        num_samples=samples,
        duration=duration_s,
        channel_ids=[0],
    )
    supervisions = [replace(supervision, recording_id=cut.id, channel=0) for supervision in cut.supervisions]
    return MonoCut(id=cut.id, start=0.0, duration=duration_s, channel=0, recording=recording, supervisions=supervisions)


def flac(samples: NDArray[np.float32], sample_rate_hz: int) -> bytes:
    """Encode `(sample,)`: exactly if 16 bits can hold every sample, else rounded to 24 bits and clipped to [-1, 1)."""
    scaled = samples * 2**15
    exact = bool(np.all(scaled == np.rint(scaled)) and np.all(scaled < 2**15))
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate_hz, format="FLAC", subtype="PCM_16" if exact else "PCM_24")
    return file.getvalue()
