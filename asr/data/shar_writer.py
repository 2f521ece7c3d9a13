"""Cuts → lhotse's Shar format: audio of a thousand utterances a tar, FLAC, beside their cuts. `shar.py` reads it."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import soundfile
from lhotse import MonoCut, Recording
from lhotse.audio import AudioSource
from lhotse.cut import Cut
from numpy.typing import NDArray

from asr.data.audio import load_cut
from asr.errors import AudioError, ManifestError

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

    with _complete_folder(folder) as temporary:
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


@contextmanager
def _complete_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; on success it is synced and renamed, on failure removed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{os.getpid()}.{folder.name}")
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.iterdir():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
