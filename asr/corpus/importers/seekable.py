"""Long recordings that can only be decoded from their start (mp3, video) → FLAC files, which are read from anywhere.

Training reads each utterance by itself, again and again. In an hour of mp3, all that is before it would be decoded each
time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import soundfile

from asr.audio.sound_file import open_recording
from asr.corpus.importers.names import name_in_id
from asr.errors import AudioError
from asr.files import atomic_path
from asr.machine import Progress, silent

_BLOCK_SAMPLES = 1 << 18
_MOST_CHANNELS = 8  # of a FLAC file


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
    version = f"{os.path.abspath(path)} {status.st_size} {status.st_mtime_ns}"
    return f"{name_in_id(path.stem)}-{hashlib.blake2b(os.fsencode(version), digest_size=4).hexdigest()}.flac"


def _copy(path: Path, target: Path) -> None:
    with open_recording(path) as recording, atomic_path(target) as temporary:
        rate_hz, channels = recording.sample_rate_hz, recording.channels
        with soundfile.SoundFile(temporary, "w", rate_hz, channels, "PCM_16", format="FLAC") as file:
            for block in recording.blocks(_BLOCK_SAMPLES):
                file.write(block)
