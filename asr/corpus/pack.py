"""Manifests and their audio → Shar folders: FLAC, a thousand utterances in a tar. `shar.py` reads such folders."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path

import numpy as np
import soundfile
from lhotse import MonoCut, Recording
from lhotse.audio import AudioSource
from lhotse.cut import Cut
from numpy.typing import NDArray

from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import distinct, entries, find_splits, read_manifest
from asr.errors import AudioError, ManifestError
from asr.files import complete_folder, visible_json
from asr.machine import Progress, silent

SHARD_UTTERANCES = 1000


@dataclass(frozen=True)
class PackedSplit:
    """One Shar folder that was written."""

    folder: Path
    utterances: int
    skipped: dict[str, str]  # why utterances were left out, by id


@dataclass(frozen=True)
class PackReport:
    """The Shar folders that were written, by split."""

    splits: dict[str, PackedSplit]


def pack(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    shard_utterances: int = SHARD_UTTERANCES,
    progress: Progress = silent,
) -> PackReport:
    """Write the splits of a data folder, with their audio, as Shar folders below `out`; return what was written.

    Utterances whose audio cannot be read are left out and named.

    Args:
        data: a folder of manifests, or one manifest.
        out: another folder, for `train`, `dev` and `test`.
        shard_utterances: number of utterances in a tar.
        progress: shows how far each split is.

    Raises:
        ManifestError: `out` is `data` or holds such a folder already; or a manifest cannot be read or has an id twice.
    """
    if Path(out).resolve() == Path(data).resolve():
        raise ManifestError(f"{out}: is the data folder itself; name another folder for the packed data")
    manifests = {split: read_manifest(path) for split, path in find_splits(Path(data)).items()}
    folders = {split: Path(out) / split for split in manifests}
    for folder in folders.values():
        _refuse_existing(folder)
    packed = {}
    for split, cuts in manifests.items():
        with progress(split, sum(1 for _ in entries(cuts))) as advance:
            packed[split] = write_shar(cuts, folders[split], shard_utterances=shard_utterances, advance=advance)
    return PackReport(packed)


def write_shar(
    cuts: Iterable[Cut],
    folder: Path,
    *,
    shard_utterances: int = SHARD_UTTERANCES,
    advance: Callable[[float], object] = lambda _: None,
) -> PackedSplit:
    """Write cuts and their audio as a new Shar folder, in their order; what cannot be read is left out.

    Audio becomes mono and keeps its sample rate. 16-bit recordings keep every sample's value; others get 24 bits. The
    folder appears when it is complete.

    Args:
        cuts: read once.
        folder: must not exist yet.
        shard_utterances: number of utterances in a tar.
        advance: called with 1 after each utterance.

    Raises:
        ManifestError: the folder exists, two cuts have the same id, or no cut can be read.
    """
    _refuse_existing(folder)
    utterances = 0
    skipped: dict[str, str] = {}

    def readable() -> Iterator[tuple[MonoCut, NDArray[np.float32]]]:
        nonlocal utterances
        for cut in distinct(cuts, folder):
            try:
                samples = load_cut(cut)
            except AudioError as error:
                skipped[cut.id] = str(error).removeprefix(f"utterance {cut.id}: ")
            else:
                utterances += 1
                yield _placeholder(cut, len(samples)), samples
            advance(1)

    with complete_folder(folder) as temporary:
        rest = readable()
        for number in count():
            first = next(rest, None)
            if first is None:
                break
            _write_shard(chain([first], islice(rest, shard_utterances - 1)), temporary, number)
        if not utterances:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
            raise ManifestError(f"{folder}: not written, because it would hold no utterances ({reasons or 'no cuts'})")
    return PackedSplit(folder, utterances, skipped)


def _refuse_existing(folder: Path) -> None:
    if folder.exists():
        raise ManifestError(f"{folder}: exists already; remove it, or choose another folder")


def _write_shard(utterances: Iterable[tuple[MonoCut, NDArray[np.float32]]], folder: Path, number: int) -> None:
    with (
        gzip.GzipFile(folder / f"cuts.{number:06d}.jsonl.gz", "wb", mtime=0) as lines,
        tarfile.open(folder / f"recording.{number:06d}.tar", "w") as tar,
    ):
        for cut, samples in utterances:
            _add(tar, f"{cut.id}.flac", flac(samples, cut.sampling_rate))
            _add(tar, f"{cut.id}.json", json.dumps(cut.recording.to_dict()).encode())
            lines.write((visible_json(json.dumps(cut.to_dict(), ensure_ascii=False)) + "\n").encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _placeholder(cut: Cut, samples: int) -> MonoCut:
    """Return a cut of a mono recording without a source: readers of Shar know where its audio is."""
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
