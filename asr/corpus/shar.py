"""A folder of lhotse's Shar format → cuts that read their audio from tar files. `pack.py` writes such folders.

A Shar folder has a few big files instead of a million small ones: cuts in `cuts.000000.jsonl.gz`, their audio in
`recording.000000.tar`, and so on. lhotse's own reader returns cuts with their audio in memory. Here a cut knows only
its tar and reads its audio when asked. So thousands of cuts can be shuffled, or skipped when a run is resumed, at the
cost of their metadata.

Source of the format: `lhotse.shar`, https://lhotse.readthedocs.io/en/latest/api.html#lhotse-shar.
"""

from __future__ import annotations

import tarfile
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from lhotse.audio import AudioSource
from lhotse.cut import Cut
from numpy.typing import NDArray

from asr.audio.resample import resample
from asr.errors import ManifestError

_CUTS = ("cuts.*.jsonl.gz", "cuts.*.jsonl", "cuts.jsonl.gz", "cuts.jsonl")
# A tar holds each utterance's audio, then its metadata. These suffixes are not audio.
_NO_AUDIO = ("json", "nodata", "nometa")


class Shard(NamedTuple):
    """A file of JSON lines and the tar with its cuts' audio; without a tar the cuts say where their audio is."""

    cuts: Path
    tar: Path | None


def find_shards(folder: Path) -> list[Shard]:
    """Return the shards of a Shar folder in order.

    Raises:
        ManifestError: there is no shard, or one lacks its audio.
    """
    shards = []
    for cuts in sorted(path for pattern in _CUTS for path in folder.glob(pattern)):
        number = cuts.name.removeprefix("cuts").partition(".jsonl")[0]
        tar = folder / f"recording{number}.tar"
        if not tar.is_file():
            raise ManifestError(f"{tar}: missing; it holds the audio of {cuts.name}")
        shards.append(Shard(cuts, tar))
    if not shards:
        raise ManifestError(f"{folder}: holds no cuts.000000.jsonl.gz, so it is no Shar folder; `asr pack` makes one")
    return shards


def in_tar(cut: Cut, tar: Path) -> Cut:
    """Return a cut of a Shar folder that reads its audio from `tar`.

    Raises:
        ValueError: the cut has no recording.
    """
    if not cut.has_recording:
        raise ValueError("no recording")
    cut.recording.sources = [_TarAudio(cut.recording.channel_ids, tar, cut.id)]
    return cut


class _TarAudio(AudioSource):  # type: ignore[misc]  # lhotse is untyped
    """Audio that is read from a tar when asked for. Written to a manifest, it is Shar's placeholder."""

    def __init__(self, channels: list[int], tar: Path, name: str) -> None:
        super().__init__(type="shar", channels=channels, source="")
        self.tar = tar
        self.name = name

    def load_audio(
        self, offset: float = 0.0, duration: float | None = None, force_opus_sampling_rate: int | None = None
    ) -> NDArray[np.float32]:
        """Return `(channel, sample)` at the recording's rate, the last argument; opus may be stored at another."""
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
            raise ValueError(f"{tar} does not hold it: the tar was cut off, or the cuts belong to other audio")
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
