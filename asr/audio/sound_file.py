"""An audio file → its header, its samples, or an error that says what is wrong with it.

libsndfile decodes, through soundfile: wav, flac, ogg, opus, mp3, NIST sphere, aiff.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.errors import AudioError, UnknownFormatError

AUDIO_SUFFIXES: frozenset[str] = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph", ".aiff", ".aif"})

FFMPEG_SUFFIXES: frozenset[str] = frozenset(
    {".m4a", ".mp4", ".m4b", ".aac", ".webm", ".mkv", ".mov", ".avi", ".wma", ".amr", ".3gp"}
)
"""Audio and video that libsndfile cannot decode; `asr.audio.ffmpeg` can, where ffmpeg is installed."""

_HEADERLESS_SUFFIXES = frozenset({".raw", ".pcm"})
# A rate beyond these was never meant, and resampling from it could take all memory.
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1_000, 1_000_000
# Programs that write to a pipe cannot go back to fill in the length, so they declare the largest possible one
# (ffmpeg 0xFFFFFFFF, sox 0x7FFFF000 or so). Nothing is missing from such files.
_STREAMING_BYTES = 0x7FFF0000
# Floats are in [-1, 1], or in the range of integers of up to 32 bits if somebody forgot to divide by it. Samples far
# beyond are damaged, and the power of their spectrum would overflow.
LOUDEST = 1e10
UNUSABLE = f"NaN or infinite or larger than {LOUDEST:g}"
_MOST_VALUES = 4_000_000  # of a block, samples times channels, even if a damaged header declares millions of channels
# An mp3's declared length counts encoder padding, which not every decoder returns: two MPEG frames of leeway.
_MP3_LEEWAY_SAMPLES = 2 * 1152


@contextmanager
def open_sound(path: Path, name: str | None = None) -> Iterator[soundfile.SoundFile]:
    """Open an audio file, or refuse it with a reason. Errors while it is decoded get a reason too.

    Args:
        path: the file.
        name: the file's name in messages; by default its path.

    Raises:
        UnknownFormatError: the file is not in one of libsndfile's formats.
        AudioError: the file is missing, a folder, empty, damaged or shorter than its header declares.
    """
    name = name or str(path)
    if path.is_dir():
        raise AudioError(f"{name}: is a folder, not an audio file")
    if not path.exists():
        raise AudioError(f"{name}: no such file")
    if path.suffix.lower() in _HEADERLESS_SUFFIXES:
        raise AudioError(
            f"{name}: {path.suffix} files do not say their rate and format; convert it first, e.g. "
            f"ffmpeg -f s16le -ar 16000 -ac 1 -i {path.name} {path.stem}.wav"
        )
    if path.suffix.lower() in FFMPEG_SUFFIXES:
        raise UnknownFormatError(
            f"{name}: {path.suffix} files cannot be decoded; convert it first, e.g. "
            f"ffmpeg -i {path.name} {path.stem}.wav (or .flac)"
        )
    try:
        with path.open("rb") as raw:  # libsndfile does not say why it cannot open a file
            header = raw.read(1024)
        if not header:
            raise AudioError(f"{name}: the file is empty (0 bytes)")
        # On most systems names are bytes, and need not be text.
        with soundfile.SoundFile(str(path) if os.name == "nt" else os.fsencode(path)) as file:
            reason = _truncation(file, header)
            if reason:
                raise AudioError(f"{name}: truncated: {reason}; copy or convert the file again")
            if not LOWEST_RATE_HZ <= file.samplerate <= HIGHEST_RATE_HZ:
                raise AudioError(f"{name}: damaged: its header declares a sample rate of {file.samplerate} Hz")
            if file.frames == 0:
                raise AudioError(f"{name}: holds no samples (0 s of audio)")
            yield file
    except soundfile.LibsndfileError as error:
        raise _explained(name, error.error_string) from None
    except OSError as error:
        raise AudioError(f"{name}: cannot be read ({error.strerror})") from None


def bounded(samples: int, channels: int) -> int:
    """Return how many samples to read at once: `samples`, or fewer if there are very many channels; at least 1."""
    return max(1, min(samples, _MOST_VALUES // channels))


def read_blocks(file: soundfile.SoundFile, wanted: int, block_samples: int) -> Iterator[NDArray[np.float32]]:
    """Yield the next `wanted` samples in blocks `(sample, channel)`; fewer if there are no more, see `check_complete`.

    libsndfile allocates memory for all samples it is asked for, and a damaged header may declare more than memory
    holds.
    """
    step = bounded(block_samples, file.channels)
    while wanted > 0 and len(samples := file.read(min(step, wanted), dtype="float32", always_2d=True)):
        yield samples
        if len(samples) < step:  # the end, or a hole, after which libsndfile goes on as if nothing were missing
            return
        wanted -= step


def check_complete(name: str, file: soundfile.SoundFile, wanted: int, decoded: int) -> None:
    """Refuse a file if fewer samples were decoded than it should hold.

    Raises:
        AudioError: the file is truncated or damaged.
    """
    leeway = _MP3_LEEWAY_SAMPLES if file.format == "MP3" else 0
    if decoded == 0 or decoded < wanted - leeway:
        raise AudioError(
            f"{name}: truncated: {wanted} samples were expected and {decoded} could be decoded; "
            "copy or convert the file again"
        )


def usable(samples: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which samples can be computed with: not NaN, not infinite, and at most `LOUDEST`."""
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


def _truncation(file: soundfile.SoundFile, header: bytes) -> str | None:
    """Return how a file is shorter than its header says; None if it is not.

    libsndfile shortens such a file silently and only notes the difference in its log (`extra_info`).
    """
    log: str = file.extra_info
    match = re.search(r"^\s*(data|SSND) : (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if match and int(match[3]) < int(match[2]) < _STREAMING_BYTES:
        return f"{match[2]} bytes of audio are declared, {match[3]} are there"
    if file.format == "NIST":
        declared = re.search(rb"^sample_count -i (\d+)", header, re.MULTILINE)
        if declared and file.frames < int(declared[1]):
            return f"{int(declared[1])} samples are declared, {file.frames} are there"
    # A stream without an end mark is legal (recordings of broadcasts). One that stops within a page is damaged.
    if file.format == "OGG" and "Junk after the last page" in log:
        return "the stream breaks off within a page"
    return None


def _explained(name: str, message: str) -> AudioError:
    text = message.strip().rstrip(".")
    if "SF_INFO struct incomplete" in text:
        return AudioError(f"{name}: damaged: its header declares a sample rate of 0 Hz or no channels; write it again")
    if re.search("format not recognised|(unknown|unimplemented) format", text, re.IGNORECASE):
        known = " ".join(sorted(AUDIO_SUFFIXES))
        return UnknownFormatError(
            f"{name}: not audio in a known format ({known}); convert it first, e.g. with ffmpeg, to wav or flac"
        )
    return AudioError(f"{name}: damaged or truncated ({text}); copy or convert the file again")


# A request may go this far past a file's end: manifests round durations, and mp3 decoders disagree about padding.
_OVERRUN_S = 0.025


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file's header says."""

    sample_rate_hz: int
    channels: int
    samples: int

    @property
    def duration_s(self) -> float:
        """Return the length of each channel."""
        return self.samples / self.sample_rate_hz


def audio_info(path: str | Path) -> AudioInfo:
    """Return an audio file's rate, channels and length without decoding it.

    Raises:
        AudioError: the file is missing, is not audio, is empty, or is shorter than its header declares.
    """
    with open_sound(Path(path)) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames)


def audio_files(
    folder: Path, on_error: Callable[[OSError], None], suffixes: frozenset[str] = AUDIO_SUFFIXES
) -> Iterator[Path]:
    """Yield the audio files of a folder and its sub-folders, in the order of names, without hidden ones.

    Args:
        folder: the folder to search.
        on_error: is called with the error of each folder that cannot be read.
        suffixes: endings of the names of audio files, in lower case.
    """
    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:
                yield Path(parent, name)


def read_audio(
    path: str | Path, *, start_s: float = 0.0, duration_s: float | None = None
) -> tuple[NDArray[np.float32], int]:
    """Return the samples of an audio file, or of a part of it, and their rate in Hz.

    Args:
        path: a file in one of the formats of `AUDIO_SUFFIXES`, with any rate and number of channels.
        start_s: start of the part.
        duration_s: length of the part; None reads to the end.

    Returns:
        `(channel, sample)` float32 within [-1, 1] for integer formats, and the sample rate in Hz.

    Raises:
        AudioError: the file is missing, not audio, empty, truncated or damaged, holds samples that are not
            finite, or ends before the part asked for.
    """
    path = Path(path)
    with open_sound(path) as file:
        rate = file.samplerate
        start = round(start_s * rate)
        if start_s < 0 or start >= file.frames:
            raise AudioError(f"{path}: the part asked for starts at {start_s:g} s, but the file lasts {_length(file)}")
        wanted = file.frames - start
        if duration_s is not None:
            wanted = round(duration_s * rate)
            if wanted <= 0:
                raise AudioError(f"{path}: the part asked for lasts {duration_s:g} s; it must be longer than 0 s")
            if start + wanted > file.frames + round(_OVERRUN_S * rate):
                raise AudioError(
                    f"{path}: the part asked for ends at {start_s + duration_s:g} s, but the file lasts "
                    f"{_length(file)}; it was cut off or the manifest belongs to another version of it"
                )
            wanted = min(wanted, file.frames - start)
        if start:
            file.seek(start)
        blocks = list(read_blocks(file, wanted, wanted))
        check_complete(str(path), file, wanted, sum(map(len, blocks)))
    samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    check_finite(str(path), samples)
    return np.ascontiguousarray(samples.T), rate


def _length(file: soundfile.SoundFile) -> str:
    return f"{file.frames / file.samplerate:g} s"
