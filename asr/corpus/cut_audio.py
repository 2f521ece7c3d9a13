"""A cut → its waveform, whole. `asr/audio/blocks.py` reads long recordings block by block.

Training reads each utterance by itself, again and again. In an hour of mp3, all that is before it would be decoded each
time. So an import copies such recordings to FLAC files, which are read from anywhere (`seekable_copies`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.audio.channels import mixed
from asr.audio.resample import resample
from asr.audio.sound_file import UNUSABLE, open_recording, read_audio, usable
from asr.corpus.manifest import cut_text, read_manifest
from asr.corpus.names import name_in_id
from asr.errors import AudioError, UtteranceAudioError
from asr.files import atomic_path
from asr.machine import Progress, silent

# Kinds of lhotse's sources that hold audio. The others are shell commands and addresses.
_SOURCES = ("file", "memory", "shar")
# An utterance is in memory as a whole: 1 GiB, 4 hours and 40 minutes at 16 kHz.
_MOST_SAMPLES = 2**28
# Copies are written block by block.
_BLOCK_SAMPLES = 1 << 18
_MOST_CHANNELS = 8  # of a FLAC file


def load_cut(cut: Any, sample_rate_hz: int | None = None) -> NDArray[np.float32]:
    """Return the samples of a lhotse cut as `(sample,)` mono float32.

    Args:
        cut: what to read.
        sample_rate_hz: rate of the samples; None keeps the recording's.

    Raises:
        UtteranceAudioError: the audio cannot be read; the message names the cut.
    """
    channels, rate_hz = load_channels(cut, sample_rate_hz)
    (mono,) = mixed([channels], "a stereo utterance")  # a name that is always the same: one warning is enough
    return resample(mono, rate_hz, sample_rate_hz or cut.sampling_rate)


def load_channels(cut: Any, sample_rate_hz: int | None = None) -> tuple[NDArray[np.float32], int]:
    """Return the `(channel, sample)` of a lhotse cut as they are stored, and their rate in Hz.

    A cut of a plain file is read here. lhotse reads the others: archives, mixed or transformed cuts. A manifest is
    data: commands in it are not run, and nothing is fetched from the network.

    Args:
        cut: what to read.
        sample_rate_hz: the rate that they will be brought to, so that what would not fit into memory is refused.

    Raises:
        UtteranceAudioError: the audio cannot be read; the message names the cut.
    """
    try:
        if not cut.has_recording:
            raise AudioError("it has no recording")
        rate_hz = sample_rate_hz or cut.sampling_rate
        if cut.duration * max(rate_hz, cut.sampling_rate) > _MOST_SAMPLES:
            raise AudioError(f"{cut.duration:g} s at {rate_hz} Hz do not fit into memory at once; cut it into parts")
        path = _plain_file(cut)
        if path is not None:
            waveform, rate = read_audio(path, start_s=cut.start, duration_s=cut.duration)
            waveform = waveform[_channels(cut, path, len(waveform))]
        else:
            _refuse_foreign_sources(cut.to_dict())
            waveform, rate = np.atleast_2d(np.asarray(cut.load_audio(), dtype=np.float32)), cut.sampling_rate
            if waveform.size == 0 or not usable(waveform).all():
                raise AudioError(f"no samples, or samples that are {UNUSABLE}")
        return waveform, rate
    except AudioError as error:
        raise UtteranceAudioError(f"utterance {cut.id}: {error}") from None
    except Exception as error:  # lhotse's backends raise whatever the library beneath them does
        reason = str(error).partition("\n")[0].removesuffix(" Details:")
        raise UtteranceAudioError(f"utterance {cut.id}: lhotse cannot load its audio ({reason})") from error


def _refuse_foreign_sources(manifest: Any) -> None:
    """Refuse audio that lhotse would get from a shell command or the network, wherever the manifest names it."""
    values = manifest.values() if isinstance(manifest, dict) else manifest if isinstance(manifest, list) else ()
    for source in manifest.get("sources", ()) if isinstance(manifest, dict) else ():
        if source["type"] not in _SOURCES:
            raise AudioError(
                f"its audio source is of type {source['type']!r} ({source['source']}), which is not used; "
                "write the audio to a file first"
            )
    for value in values:
        _refuse_foreign_sources(value)


def _plain_file(cut: Any) -> Path | None:
    """Return the file that holds the cut unaltered, or None if lhotse has to assemble it."""
    recording = getattr(cut, "recording", None)
    if recording is None or recording.transforms or len(recording.sources) != 1:
        return None
    source = recording.sources[0]
    return Path(source.source) if source.type == "file" else None


@dataclass(frozen=True)
class AudioPlace:
    """Where in a file the audio of an utterance is.

    Attributes:
        path: the file, from the root of the file system.
        channels: the file's channels, from 0, whose mean the utterance is.
        start_s: where it begins in the file.
        duration_s: its length.
    """

    path: str
    channels: tuple[int, ...]
    start_s: float
    duration_s: float


def audio_place(cut: Any) -> AudioPlace | None:
    """Return where the audio of a cut is, or None if it is not a part of one file as it is, but packed or altered."""
    path = _plain_file(cut)
    if path is None:
        return None
    in_source = list(cut.recording.sources[0].channels)
    wanted = cut.channel if isinstance(cut.channel, list) else [cut.channel]
    channels = tuple(in_source.index(channel) for channel in wanted if channel in in_source)
    if len(channels) < len(wanted):
        return None
    return AudioPlace(os.path.abspath(path), channels, float(cut.start), float(cut.duration))


def _channels(cut: Any, path: Path, channels_in_file: int) -> list[int]:
    """Return the rows of the file's waveform that the cut asks for."""
    wanted = cut.channel if isinstance(cut.channel, list) else [cut.channel]
    in_source = list(cut.recording.sources[0].channels)
    rows = [in_source.index(channel) for channel in wanted if channel in in_source]
    if len(rows) != len(wanted) or max(rows) >= channels_in_file:
        raise AudioError(f"{path}: the cut is of channels {wanted}, but the file has {channels_in_file} channels")
    return rows


def example_file(manifest: Path, spare: Path) -> tuple[Path, str]:
    """Return an audio file that holds one utterance of a manifest, and its transcript.

    That is the first file that holds no more than one. If all utterances are parts of files, or packed in a Shar
    folder, the first utterance is written to `spare`, as FLAC.

    Raises:
        ManifestError: the manifest is missing or malformed.
        UtteranceAudioError: the first utterance cannot be read.
    """
    cuts = read_manifest(manifest)
    for cut in cuts:
        path = _plain_file(cut)
        if path is not None and cut.start == 0 and cut.duration > 0.99 * cut.recording.duration:
            return path, cut_text(cut)
    first = next(iter(cuts))
    with atomic_path(spare) as temporary:
        soundfile.write(temporary, load_cut(first), first.sampling_rate, format="FLAC")
    return spare, cut_text(first)


def seekable_copies(recordings: Iterable[Path], folder: Path, progress: Progress = silent) -> dict[Path, Path]:
    """Return the FLAC file of each recording that can only be decoded from its start, written into a folder.

    The samples are rounded to 16 bits. A file that an earlier call wrote of the same recording is used again.
    Recordings that cannot be read are passed over.

    Args:
        recordings: audio and video files.
        folder: of the FLAC files.
        progress: shows how far the work is.

    Raises:
        OSError: a file cannot be written.
    """
    waiting = [path for path in dict.fromkeys(recordings) if _is_sequential(path)]
    copies: dict[Path, Path] = {}
    if not waiting:
        return copies
    with progress("audio", len(waiting)) as advance:
        for path in waiting:
            target = folder / _name(path)
            try:
                if not target.exists():
                    _copy(path, target)
                copies[path] = target
            except AudioError:
                pass  # who uses the recording says what is wrong with it
            advance(1)
    return copies


def _is_sequential(path: Path) -> bool:
    """Return whether a recording can only be decoded from its start, and FLAC can hold it."""
    try:
        with open_recording(path) as recording:
            return not recording.seek(1) and recording.channels <= _MOST_CHANNELS
    except AudioError:
        return False


def _name(path: Path) -> str:
    """Return a file name that no other recording has, nor this one if it is changed."""
    status = path.stat()
    # The letters may have four bytes each, and file names have 255 at most.
    version = f"{os.path.abspath(path)} {status.st_size} {status.st_mtime_ns}"
    return f"{name_in_id(path.stem)[:50]}-{hashlib.blake2b(os.fsencode(version), digest_size=4).hexdigest()}.flac"


def _copy(path: Path, target: Path) -> None:
    with open_recording(path) as recording, atomic_path(target) as temporary:
        rate_hz, channels = recording.sample_rate_hz, recording.channels
        with soundfile.SoundFile(temporary, "w", rate_hz, channels, "PCM_16", format="FLAC") as file:
            for block in recording.blocks(_BLOCK_SAMPLES):
                file.write(block)
