"""An audio file → its samples to the end, or the reason why not: which decoder reads what, and how long a file is.

| what the file is                                        | decoder     | its length                                 |
| ------------------------------------------------------- | ----------- | ------------------------------------------ |
| WAV, RF64, W64, AIFF, CAF, AU, NIST, HTK, Ogg, FLAC     | libsndfile  | of the header, where that fits the bytes   |
| mp3, mp2; mp3 inside WAV                                | libsndfile  | of its frames, which are counted           |
| one of these with a wrong length                        | libsndfile  | of the bytes, with a header put right      |
| FLAC whose length is unknown                            | libsndfile  | known when it has been decoded             |
| anything else: video, m4a, wma, Speex, G.722, Ogg FLAC, | ffmpeg, if  | known when it has been decoded             |
| what libsndfile should open and cannot                  | installed   |                                            |
| truncated; two files in one; a pipe; a device           | none        |                                            |

`asr/audio/containers.py` looks at the bytes. The end of every file is verified once it is reached.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.audio.containers import inspect
from asr.audio.ffmpeg import open_with_ffmpeg
from asr.audio.libsndfile import UNKNOWN_SAMPLES, SoundStream, explained
from asr.audio.pieces import Contents, FaultError
from asr.errors import AudioError, UnknownFormatError
from asr.paths import walk

AUDIO_SUFFIXES: frozenset[str] = frozenset(
    {
        *(".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".mpga"),
        *(".sph", ".nist", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf"),
    }
)
"""Suffixes of audio files that libsndfile decodes."""

FFMPEG_SUFFIXES: frozenset[str] = frozenset(
    {
        *(".m4a", ".m4b", ".m4r", ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mka", ".mkv", ".weba", ".webm", ".avi"),
        *(".wma", ".wmv", ".asf", ".flv", ".ts", ".mts", ".mpg", ".mpeg", ".ogv", ".aac", ".ac3", ".eac3", ".dts"),
        *(".spx", ".amr", ".awb", ".gsm", ".g722", ".wv", ".ape", ".tta", ".dsf", ".voc"),
    }
)
"""Suffixes of audio and video files that libsndfile cannot decode, and ffmpeg can, where it is installed."""

RECORDING_SUFFIXES: frozenset[str] = AUDIO_SUFFIXES | FFMPEG_SUFFIXES
"""Suffixes of all files that are read."""

_HEADERLESS_SUFFIXES = frozenset({".raw", ".pcm"})
_RECORDED_MPEG_SUFFIXES = frozenset({".mp3", ".mp2", ".mpga"})
# A rate beyond these was never meant, and resampling from it could take all memory.
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 1_000_000
# Floats are in [-1, 1], or in the range of integers of up to 32 bits if somebody forgot to divide by it. Samples far
# beyond are damaged, and the power of their spectrum would overflow.
LOUDEST = 1e10
UNUSABLE = f"NaN or infinite or larger than {LOUDEST:g}"
_BLOCK_SAMPLES = 1 << 18
# A request may go this far past a file's end: manifests round durations, and mp3 decoders disagree about padding.
_OVERRUN_S = 0.025


class Recording(Protocol):
    """An open recording, to be decoded once, from its start or from where `seek` went, to its end."""

    @property
    def sample_rate_hz(self) -> int:
        """Of each channel."""

    @property
    def channels(self) -> int:
        """How many there are."""

    @property
    def samples(self) -> int | None:
        """Of each channel; None as long as only decoding could tell."""

    @property
    def duration_s(self) -> float | None:
        """Of each channel, as far as the file says; None if it does not."""

    def seek(self, sample: int) -> bool:
        """Begin at a sample and return True; return False, and stay, where that is not possible to the sample."""

    def blocks(self, block_samples: int) -> Iterator[NDArray[np.float32]]:
        """Yield `(sample, channel)`, at most `block_samples` each; `AudioError` where the file cannot be decoded."""


@contextmanager
def open_recording(path: Path, name: str | None = None) -> Iterator[Recording]:
    """Open an audio or video file, or refuse it with a reason.

    Args:
        path: the file.
        name: the file's name in messages; by default its path.

    Raises:
        UnknownFormatError: it is not audio, or needs ffmpeg and there is none.
        AudioError: it is missing, no file, empty, truncated, damaged or two files in one.
    """
    name = name or str(path)
    _check_is_file(path, name)
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))
            contents = inspect(raw, recorded_mpeg=path.suffix.lower() in _RECORDED_MPEG_SUFFIXES)
        except FaultError as fault:
            raise AudioError(f"{name}: {fault}") from None
        except OSError as error:
            raise AudioError(f"{name}: cannot be read ({error.strerror})") from None
        recording = _decoder(path, name, raw, contents, stack)
        if not LOWEST_RATE_HZ <= recording.sample_rate_hz <= HIGHEST_RATE_HZ:
            raise AudioError(f"{name}: damaged: it declares a sample rate of {recording.sample_rate_hz} Hz")
        yield recording


def _decoder(path: Path, name: str, raw: BinaryIO, contents: Contents | None, stack: ExitStack) -> Recording:
    """Return the recording, opened by libsndfile or else by ffmpeg; see the table at the top."""
    unknown = _unknown(path, name, known=contents is not None)
    refused: AudioError | None = None
    if contents is not None and not contents.foreign:
        try:
            return SoundStream(path, name, raw, contents, stack)
        except UnknownFormatError as error:
            refused = error
        except soundfile.LibsndfileError as error:
            reason = explained(name, error)
            refused = None if isinstance(reason, UnknownFormatError) else reason
    program = shutil.which("ffmpeg")
    if program is None:
        raise refused or UnknownFormatError(
            f"{unknown}; or install ffmpeg, which reads it as it is: none is on the PATH"
        )
    try:
        return stack.enter_context(open_with_ffmpeg(program, path, name, contents))
    except UnknownFormatError:
        raise refused or unknown from None
    except AudioError as error:
        raise error if refused is None else AudioError(f"{refused}; {str(error).removeprefix(f'{name}: ')}") from None


def _check_is_file(path: Path, name: str) -> None:
    """Refuse what is no regular file with something in it, and raw samples.

    Raises:
        AudioError: it is.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        is_address = re.match("[A-Za-z][A-Za-z0-9+.-]+:/", str(path))  # a path has one slash of the two
        raise AudioError(f"{name}: no such file" + ("; download it first" if is_address else "")) from None
    except (OSError, ValueError) as error:
        raise AudioError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{name}: is a folder, not an audio file")
    if stat.S_ISFIFO(status.st_mode):
        raise AudioError(f"{name}: is a pipe, not a file; `- < {name}` reads it")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{name}: is a device, not a file")
    if status.st_size == 0:
        raise AudioError(f"{name}: the file is empty (0 bytes)")
    if path.suffix.lower() in _HEADERLESS_SUFFIXES:
        raise AudioError(
            f"{name}: {path.suffix} files do not say their rate and format; convert it first, e.g. "
            f"ffmpeg -f s16le -ar 16000 -ac 1 -i {path.name} {path.stem}.wav"
        )


def _unknown(path: Path, name: str, *, known: bool) -> AudioError:
    """Return the error for a file of a format that libsndfile does not know, of a known kind or not."""
    if path.suffix.lower() in FFMPEG_SUFFIXES:
        what = f"{path.suffix} files cannot be decoded"
    elif known:
        what = "libsndfile does not decode this kind of audio"
    else:
        what = f"not audio in a known format ({' '.join(sorted(AUDIO_SUFFIXES))})"
    suffix = ".flac" if path.suffix.lower() == ".wav" else ".wav"
    return UnknownFormatError(f"{name}: {what}; convert it first, e.g. ffmpeg -i {path.name} {path.stem}{suffix}")


def usable(samples: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which samples can be computed with, in their shape: not NaN, not infinite, and at most `LOUDEST`."""
    found: NDArray[np.bool_] = np.abs(samples) <= LOUDEST
    return found


def check_finite(name: str, samples: NDArray[np.float32]) -> None:
    """Refuse `(sample, channel)` with samples that are not `usable`.

    Raises:
        AudioError: some are not.
    """
    good = usable(samples)
    if not good.all():
        bad = int(np.count_nonzero(~good.all(axis=1)))
        raise AudioError(
            f"{name}: {bad} of {len(samples)} samples are {UNUSABLE}; write the file again from its source"
        )


@dataclass(frozen=True)
class AudioInfo:
    """What is known of an audio file."""

    sample_rate_hz: int
    channels: int
    samples: int

    @property
    def duration_s(self) -> float:
        """Return the length of each channel."""
        return self.samples / self.sample_rate_hz


def audio_info(path: str | Path) -> AudioInfo:
    """Return an audio file's rate, channels and length.

    The header tells the length where it fits the bytes of the file; otherwise the file is decoded once. What was found
    is kept as long as the file does not change.

    Raises:
        AudioError: as `open_recording`; or the file turns out to be damaged while it is decoded.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return _audio_info(Path(path), None)
    return _audio_info(Path(path), (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=4096)
def _audio_info(path: Path, version: tuple[int, int, int] | None) -> AudioInfo:
    with open_recording(path) as recording:
        samples = recording.samples
        if samples is None:
            samples = sum(map(len, recording.blocks(_BLOCK_SAMPLES)))
        return AudioInfo(recording.sample_rate_hz, recording.channels, samples)


def audio_files(
    folder: Path, on_error: Callable[[OSError], None], suffixes: frozenset[str] = AUDIO_SUFFIXES
) -> Iterator[Path]:
    """Yield the audio files of a folder and its sub-folders, in the order of names, without hidden ones.

    Args:
        folder: the folder to search.
        on_error: is called with the error of each folder that cannot be read, of each link to another folder, which is
            not followed, and of each pipe or device.
        suffixes: endings of the names of audio files, in lower case.
    """
    for parent, names in walk(folder, on_error):
        for name in names:
            if os.path.splitext(name)[1].lower() in suffixes:
                path = parent / name
                if path.exists() and not path.is_file():
                    on_error(OSError(errno.EINVAL, "is a pipe or a device, not a file", str(path)))
                else:
                    yield path


def read_audio(
    path: str | Path, *, start_s: float = 0.0, duration_s: float | None = None
) -> tuple[NDArray[np.float32], int]:
    """Return the samples of an audio file, or of a part of it, and their rate in Hz.

    A part of a file in a codec without exact seeking is decoded from the start of the file: mp3, GSM, some ADPCM, and
    all that ffmpeg decodes.

    Args:
        path: a file that `open_recording` opens, with any rate and number of channels.
        start_s: start of the part.
        duration_s: length of the part; None reads to the end.

    Returns:
        `(channel, sample)` float32 within [-1, 1] for integer formats, and the sample rate in Hz.

    Raises:
        AudioError: the file is missing, not audio, empty, truncated or damaged, holds samples that are not
            finite, or ends before the part asked for.
    """
    path = Path(path)
    with open_recording(path) as recording:
        rate = recording.sample_rate_hz
        part = _Part(start_s, duration_s, rate)
        if duration_s is not None and part.wanted <= 0:
            raise AudioError(f"{path}: the part asked for lasts {duration_s:g} s; it must be longer than 0 s")
        if recording.samples is not None or start_s < 0:
            part.check(path, recording.samples or 0)
        samples = _read_part(recording, part, path)
    check_finite(str(path), samples)
    return np.ascontiguousarray(samples.T), rate


@dataclass(frozen=True)
class _Part:
    """What is asked for of a file."""

    start_s: float
    duration_s: float | None
    rate_hz: int

    @property
    def start(self) -> int:
        return round(self.start_s * self.rate_hz)

    @property
    def wanted(self) -> int:
        return UNKNOWN_SAMPLES if self.duration_s is None else round(self.duration_s * self.rate_hz)

    def check(self, path: Path, total: int) -> None:
        """Refuse what is not within a file of so many samples.

        Raises:
            AudioError: it is not.
        """
        lasts = f"the file lasts {total / self.rate_hz:g} s"
        if self.start_s < 0 or self.start >= total:
            raise AudioError(f"{path}: the part asked for starts at {self.start_s:g} s, but {lasts}")
        if self.duration_s is not None and self.start + self.wanted > total + round(_OVERRUN_S * self.rate_hz):
            raise AudioError(
                f"{path}: the part asked for ends at {self.start_s + self.duration_s:g} s, but {lasts}; "
                "it was cut off or the manifest belongs to another version of it"
            )


def _read_part(recording: Recording, part: _Part, path: Path) -> NDArray[np.float32]:
    """Return the `(sample, channel)` asked for; a part that reaches the end is read until that is verified."""
    start, stop = part.start, part.start + part.wanted
    place = start if recording.seek(start) else 0
    length = recording.samples
    step = min(part.wanted, _BLOCK_SAMPLES) if length is None else min(stop, length) - place
    found: list[NDArray[np.float32]] = []
    for block in recording.blocks(step):
        wanted = block[max(0, start - place) : max(0, stop - place)]
        if len(wanted):
            found.append(wanted)
        place += len(block)
        if place > stop or (place == stop and length is not None and stop < length):
            break
    else:
        if length is None or not found:
            part.check(path, place)
    return found[0] if len(found) == 1 else np.concatenate(found)
