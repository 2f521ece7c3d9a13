"""Manifests → a data folder with the features of a pretrained encoder, from which training is quick.

The work is shared out by files, each with some minutes of utterances (`asr/bundle/stored_features.py`). What a worker
needs to know is the file's name: it finds the utterances in the manifest itself.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from asr.bulk.cluster import on_ray
from asr.bulk.workers import Load, Result, Transcribe, in_processes, one_by_one
from asr.bundle.encoder_folder import load_encoder, require_same_encoder
from asr.bundle.stored_features import FOLDER, StoredFeatures, file_of, name_of, shards, with_file
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import distinct, entries, find_split, read_manifest, write_manifest
from asr.errors import AudioError, ConfigError, ManifestError, UtteranceAudioError
from asr.features.augment import perturb_speed
from asr.features.batch import collate, group_by_padded_size
from asr.files import atomic_path
from asr.machine import Accelerator, Progress, choose_accelerator, cores, silent
from asr.model.encoder import Encoder, normalised_states

if TYPE_CHECKING:
    from lhotse.cut import Cut

_RATE_HZ = 16000
_GPU_BATCH_S = 60.0  # padded seconds that go through the encoder together on a GPU; on a CPU each utterance goes alone
_SKIPPED = "skipped"  # in a file's metadata: reasons by utterance


@dataclass(frozen=True)
class FeaturesReport:
    """What `compute_features` did.

    Attributes:
        folder: the data folder that was written.
        encoder: name, form and checksum of the encoder.
        utterances: of how many the features were computed, by split.
        audio_s: how long they are together, at their own speed.
        skipped: why an utterance of a split was left out: reasons by its id.
        size_bytes: the size of all features on disk.
    """

    folder: Path
    encoder: str
    utterances: dict[str, int]
    audio_s: float
    skipped: dict[str, dict[str, str]]
    size_bytes: int


def compute_features(
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    encoder: str,
    speeds: Sequence[float] = (1.0,),
    jobs: int | None = None,
    ray: str | None = None,
    accelerator: Accelerator = "auto",
    progress: Progress = silent,
) -> FeaturesReport:
    """Compute what a pretrained encoder makes of the utterances of train and dev, so that training need not.

    The manifest of test is copied: `asr.decode` reads audio. What an interrupted call finished is used by the next one.
    An utterance whose audio cannot be read is left out and listed.

    Args:
        data: the data folder with manifests.
        out: the data folder to write, for `asr.train`.
        encoder: a folder, or a name on the Hugging Face hub; see `features.encoder` in the settings.
        speeds: at which each utterance is played; `augment.speeds` of a training can be these.
        jobs: number of processes, each with its own copy of the encoder. None: this process alone.
        ray: the address of a ray cluster whose machines share the work, as for `asr.transcribe_files`.
        accelerator: auto takes a GPU if there is one.
        progress: shows how far it is.

    Raises:
        ConfigError: a speed or `jobs` cannot be used, or `out` is `data`.
        ManifestError: a manifest is missing, malformed or packed, or `out` holds other features or other data.
        ModelError: the encoder is missing, damaged or of another kind.
        DeviceError: `accelerator` is `cuda` and there is none.
        DependencyError: huggingface_hub or ray is needed and missing.
    """
    source, folder = Path(data), Path(out)
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs={jobs}: at least 1 process is needed")
    if folder.resolve() == source.resolve():
        raise ConfigError(f"{out}: is the data folder itself; name another one")
    splits = {split: find_split(source, split) for split in ("train", "dev")}
    for split, path in splits.items():
        if path.is_dir():
            raise ManifestError(f"{path}: {split} is packed; give the folder of manifests that it was packed from")
    encoder = os.path.abspath(encoder) if Path(encoder).is_dir() else encoder
    stored = _settled(folder, splits, encoder, speeds)
    work = partial(_worker, folder, splits, stored, choose_accelerator(accelerator))
    missing = [path for path in _files(stored, splits) if not path.exists()]
    with progress("features", len(missing)) as advance:
        for _, result in _shared_out(work, missing, jobs, ray, gpu=accelerator == "cuda"):
            if isinstance(result, AudioError):  # a worker died twice
                raise result
            advance(1)
    report = _finished(stored, splits)
    for path in sorted({*source.glob("test.jsonl.gz"), *source.glob("test-*/test.jsonl.gz")}):
        write_manifest(read_manifest(path), folder / path.relative_to(source))
    return report


def _settled(folder: Path, splits: dict[str, Path], encoder: str, speeds: Sequence[float]) -> StoredFeatures:
    """Write what the folder holds, or see that it is the same as what an interrupted call wrote."""
    _, identity = load_encoder(encoder)
    before = StoredFeatures.load(folder)
    if before is None and folder.exists() and any(folder.iterdir()):
        raise ManifestError(f"{folder}: holds other files; name a new folder")
    wanted = StoredFeatures(
        encoder=identity,
        speeds=_checked_speeds(speeds),
        data={split: _checksum(path) for split, path in splits.items()},
        folder=folder,
    )
    if before is None:
        wanted.save()
        return wanted
    require_same_encoder(before.encoder, identity, folder)
    for what, there, asked in (("speeds", before.speeds, wanted.speeds), ("manifests", before.data, wanted.data)):
        if there != asked:
            raise ManifestError(f"{folder}: holds features of other {what}; name a new folder")
    return before


def _checked_speeds(speeds: Sequence[float]) -> tuple[float, ...]:
    if not speeds or not all(0.5 <= speed <= 2 for speed in speeds):
        raise ConfigError(f"speeds={list(speeds)}: at least one, each from 0.5 to 2")
    return tuple(sorted(set(map(float, speeds))))


def _checksum(manifest: Path) -> int:
    value = 0
    for entry in entries(read_manifest(manifest)):
        value = zlib.crc32(f"{entry.id}\t{entry.duration_s}\n".encode(errors="surrogatepass"), value)
    return value


def _cuts_by_file(stored: StoredFeatures, split: str, manifest: Path) -> Iterator[tuple[Path, list[Cut]]]:
    """Yield each file of a split with the cuts whose features it holds."""
    for number, cuts in enumerate(shards(iter(read_manifest(manifest)), len(stored.speeds))):
        yield stored.folder / file_of(split, number), cuts


def _files(stored: StoredFeatures, splits: dict[str, Path]) -> list[Path]:
    return [file for split, manifest in splits.items() for file, _ in _cuts_by_file(stored, split, manifest)]


def _shared_out(
    work: partial[Transcribe], files: list[Path], jobs: int | None, ray: str | None, *, gpu: bool
) -> Iterable[tuple[Path, Result]]:
    load: Load = partial(work, threads=1)
    if ray is not None:
        return on_ray(load, files, ray, jobs, gpu=gpu)
    if jobs is not None and jobs > 1:
        return in_processes(partial(work, threads=max(1, cores() // jobs)), files, jobs)
    return one_by_one(partial(work, threads=None), files)


def _worker(
    folder: Path, splits: dict[str, Path], stored: StoredFeatures, device: str, threads: int | None
) -> Transcribe:
    """Load the encoder; return what writes a file of features, given its path."""
    encoder, identity = load_encoder(stored.encoder.name)
    require_same_encoder(stored.encoder, identity, folder)
    if threads is not None:
        torch.set_num_threads(threads)
    encoder.to(device)
    readers: dict[str, Iterator[tuple[Path, list[Cut]]]] = {}

    def write(path: Path) -> Result:
        split = path.name.rpartition("-")[0]
        for _ in range(2):  # files come in order, except one that is tried again
            if split not in readers:
                readers[split] = _cuts_by_file(stored, split, splits[split])
            for file, cuts in readers[split]:
                if file == path:
                    _write(path, cuts, stored.speeds, encoder, torch.device(device))
                    return ()
            del readers[split]
        raise ManifestError(f"{splits[split]}: has changed; compute the features again, into another folder")

    return write


def _write(path: Path, cuts: list[Cut], speeds: tuple[float, ...], encoder: Encoder, device: torch.device) -> None:
    """Write a file with the features of some cuts at some speeds."""
    waveforms: dict[str, Tensor] = {}
    skipped: dict[str, str] = {}
    for cut in cuts:
        try:
            waveform = load_cut(cut, _RATE_HZ)
        except UtteranceAudioError as error:
            skipped[cut.id] = str(error)
            continue
        for speed in speeds:
            waveforms[name_of(cut.id, speed)] = torch.from_numpy(perturb_speed(waveform, speed))
    by_length = sorted(waveforms, key=lambda name: len(waveforms[name]))
    most = _GPU_BATCH_S * _RATE_HZ if device.type == "cuda" else 0
    features: dict[str, Tensor] = {}
    for names in group_by_padded_size(by_length, lambda name: len(waveforms[name]), most):
        batch = collate([waveforms[name] for name in names], [[]] * len(names), names).to(device)
        features |= zip(names, features_of(encoder, batch.waveforms, batch.lengths), strict=True)
    with atomic_path(path) as temporary:
        save_file(features, temporary, metadata={_SKIPPED: json.dumps(skipped)})


@torch.inference_mode()
def features_of(encoder: Encoder, waveforms: Tensor, lengths: Tensor) -> list[Tensor]:
    """Return what is stored of each waveform: `(frame, state, width)` float16 on the CPU.

    Args:
        encoder: the encoder, on the device of the waveforms.
        waveforms: `(batch, sample)` float32.
        lengths: `(batch,)` samples.
    """
    states, frames = encoder(waveforms, lengths)
    halves = normalised_states(states).half().cpu()
    return [states[:count].clone() for states, count in zip(halves, frames.tolist(), strict=True)]


def _finished(stored: StoredFeatures, splits: dict[str, Path]) -> FeaturesReport:
    """Write the manifests, now that all files are there; return what there is."""
    utterances: dict[str, int] = {}
    skipped: dict[str, dict[str, str]] = {}
    audio_s = 0.0

    def kept(split: str, manifest: Path) -> Iterator[Any]:
        nonlocal audio_s
        for file, cuts in _cuts_by_file(stored, split, manifest):
            with safe_open(file, framework="pt") as tensors:
                left_out = json.loads((tensors.metadata() or {}).get(_SKIPPED, "{}"))
            skipped.setdefault(split, {}).update(left_out)
            for cut in cuts:
                if cut.id not in left_out:
                    utterances[split] = utterances.get(split, 0) + 1
                    audio_s += cut.duration
                    yield with_file(cut, f"{FOLDER}/{file.name}")

    for split, manifest in splits.items():
        write_manifest(distinct(kept(split, manifest), manifest), stored.folder / f"{split}.jsonl.gz")
    size = sum(path.stat().st_size for path in (stored.folder / FOLDER).iterdir())
    found = {split: reasons for split, reasons in skipped.items() if reasons}
    return FeaturesReport(stored.folder, str(stored.encoder), utterances, audio_s, found, size)
