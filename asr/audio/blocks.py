"""Files, pipes and arrays → mono samples at the model's rate, block by block, so that memory does not grow with length.

* `open_audio`, `audio_blocks` and `load_audio` read finished files, by libsndfile or else by ffmpeg. `-` is standard
  input.
* `live_audio` reads a pipe while it is written: raw samples, or a format that libsndfile decodes from a pipe (wav,
  aiff, au, ogg).
* `checked_waveform`, `waveform_blocks` and `mono_blocks` take samples that are in memory already.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.audio.ffmpeg import FfmpegStream, open_with_ffmpeg
from asr.audio.resample import Resampler, StreamResampler
from asr.audio.sound_file import (
    AUDIO_SUFFIXES,
    FFMPEG_SUFFIXES,
    HIGHEST_RATE_HZ,
    LOUDEST,
    LOWEST_RATE_HZ,
    UNUSABLE,
    bounded,
    check_complete,
    check_finite,
    open_sound,
    read_blocks,
    usable,
)
from asr.errors import AudioError, UnknownFormatError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

STDIN = "-"
RECORDING_SUFFIXES: frozenset[str] = AUDIO_SUFFIXES | FFMPEG_SUFFIXES
"""Audio and video that `open_audio` reads; those of `FFMPEG_SUFFIXES` only where ffmpeg is installed."""
BLOCK_S = 10.0  # of a block of a file
LIVE_BLOCK_S = 0.1  # of a block of a pipe; each is waited for

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO"
"""Where a recording is: a path, `-` for standard input, the bytes of a file, or a file open for reading bytes."""


@dataclass(frozen=True)
class AudioStream:
    """An open recording.

    Attributes:
        sample_rate_hz: of each channel.
        channels: their number.
        duration_s: as the file declares it; None if it does not.
        blocks: `(channel, sample)` float32, to be read once, in order. Reading them raises an `AudioError` where the
            file is damaged.
    """

    sample_rate_hz: int
    channels: int
    duration_s: float | None
    blocks: Iterator[NDArray[np.float32]]


@contextmanager
def open_audio(source: Source) -> Iterator[AudioStream]:
    """Open any audio or video file, or standard input, to read it in blocks of `BLOCK_S`.

    Args:
        source: in a format that libsndfile or ffmpeg can decode. All but paths are copied to a temporary file first,
            because many formats have their header at the end or need it twice.

    Raises:
        AudioError: the source is missing, empty, damaged or not audio.
        UnknownFormatError: it needs ffmpeg, which is not installed.
    """
    with ExitStack() as stack:
        file, name = stack.enter_context(_as_file(source))
        unknown = None
        try:
            sound = stack.enter_context(open_sound(file, name))
        except UnknownFormatError as error:
            unknown = str(error)
        if unknown is None:
            duration_s = sound.frames / sound.samplerate
            yield AudioStream(sound.samplerate, sound.channels, duration_s, _sound_blocks(sound, name))
        elif (program := shutil.which("ffmpeg")) is None:
            raise UnknownFormatError(f"{unknown}; or install ffmpeg, which reads it as it is: none is on the PATH")
        else:
            stream = stack.enter_context(open_with_ffmpeg(program, file, name))
            if not LOWEST_RATE_HZ <= stream.sample_rate_hz <= HIGHEST_RATE_HZ:
                raise AudioError(f"{name}: damaged: it declares a sample rate of {stream.sample_rate_hz} Hz")
            yield AudioStream(stream.sample_rate_hz, stream.channels, stream.duration_s, _ffmpeg_blocks(stream, name))


def is_source(audio: object) -> TypeIs[Source]:
    """Return whether `audio` is a recording to open, and not its samples."""
    return isinstance(audio, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(audio, "read")


def source_name(source: Source) -> str | None:
    """Return the path of a recording as it was given; None for bytes and open files."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


@contextmanager
def _as_file(source: Source) -> Iterator[tuple[Path, str]]:
    """Yield the file to read and its name in messages."""
    if isinstance(source, (str, os.PathLike)) and os.fspath(source) != STDIN:
        yield Path(source), os.fspath(source)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "audio"
        if isinstance(source, (bytes, bytearray, memoryview)):
            copy.write_bytes(source)
            yield copy, "the bytes given"
            return
        standard = isinstance(source, (str, os.PathLike))
        if standard and sys.stdin is None:
            raise AudioError("standard input is closed")
        given: BinaryIO = sys.stdin.buffer if standard else source  # type: ignore[assignment]
        name = "standard input" if standard else "the file object"
        with copy.open("wb") as file:
            try:
                shutil.copyfileobj(given, file)
            except TypeError:
                raise AudioError(f"{name}: gives text, not bytes; open it with mode 'rb'") from None
            except OSError as error:
                raise AudioError(f"{name}: cannot be read ({error.strerror})") from None
        yield copy, name


def audio_blocks(source: Source, sample_rate_hz: int, *, channel: int | None = None) -> Iterator[NDArray[np.float32]]:
    """Yield a recording as consecutive blocks `(sample,)`, mono float32 at `sample_rate_hz`.

    Args:
        source: see `open_audio`.
        sample_rate_hz: the rate to resample to.
        channel: the one to take, counted from 0; None for the average of all.

    Raises:
        AudioError: as `open_audio`, or the recording has no such channel.
    """
    name = source_name(source) or "the recording"
    with open_audio(source) as stream:
        mono = (one_channel(block, channel, name) for block in stream.blocks)
        yield from resampled(mono, stream.sample_rate_hz, sample_rate_hz)


def waveform_blocks(
    waveform: NDArray[np.float32], from_hz: int, to_hz: int, *, channel: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield a waveform `(channel, sample)` of `from_hz` as `audio_blocks` yields a file.

    Raises:
        AudioError: the waveform has no such channel.
    """
    mono, step = one_channel(waveform, channel, "the waveform"), max(1, round(BLOCK_S * from_hz))
    return resampled((mono[start : start + step] for start in range(0, len(mono), step)), from_hz, to_hz)


def load_audio(source: Source, sample_rate_hz: int, *, channel: int | None = None) -> NDArray[np.float32]:
    """Return a whole recording as `(sample,)` mono float32 at `sample_rate_hz`.

    Args and Raises: as `audio_blocks`.
    """
    return np.concatenate(list(audio_blocks(source, sample_rate_hz, channel=channel)))


def resampled(
    blocks: Iterable[NDArray[np.float32]], from_hz: int, to_hz: int, resampler: Resampler | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield blocks `(sample,)` at another rate.

    Args:
        blocks: consecutive, mono.
        from_hz: their rate.
        to_hz: the rate to change to.
        resampler: between these rates, nothing heard yet. By default soxr's: together the blocks are then `resample` of
            the whole.
    """
    change = resampler or StreamResampler(from_hz, to_hz)
    yield from filter(len, map(change, blocks))
    rest = change(np.zeros(0, np.float32), last=True)
    if len(rest):
        yield rest


def one_channel(waveform: NDArray[np.float32], channel: int | None, name: str) -> NDArray[np.float32]:
    """Return one channel of `(channel, sample)`, counted from 0, or with None the average of all.

    Raises:
        AudioError: there is no such channel. The message calls the recording `name`.
    """
    if channel is None:
        return mix_down(waveform)
    if not 0 <= channel < len(waveform):
        raise AudioError(f"{name}: channel {channel} was asked for, but its {len(waveform)} are counted from 0")
    chosen: NDArray[np.float32] = waveform[channel]
    return chosen


def _sound_blocks(file: soundfile.SoundFile, name: str) -> Iterator[NDArray[np.float32]]:
    wanted, decoded = file.frames, 0
    for samples in read_blocks(file, wanted, round(BLOCK_S * file.samplerate)):
        decoded += len(samples)
        check_finite(name, samples)
        yield np.ascontiguousarray(samples.T)
    check_complete(name, file, wanted, decoded)


def _ffmpeg_blocks(stream: FfmpegStream, name: str) -> Iterator[NDArray[np.float32]]:
    step = bounded(round(BLOCK_S * stream.sample_rate_hz), stream.channels)
    decoded = 0
    while len(samples := stream.read(step)):
        decoded += len(samples)
        check_finite(name, samples)
        yield np.ascontiguousarray(samples.T)
    if decoded == 0:
        raise AudioError(f"{name}: holds no samples (0 s of audio)")


class LiveAudio(NamedTuple):
    """Consecutive blocks `(sample,)`, mono float32 in [-1, 1], and their rate."""

    sample_rate_hz: int
    blocks: Iterator[NDArray[np.float32]]


def live_audio(descriptor: int, rate_hz: int | None) -> LiveAudio:
    """Begin to read an open file descriptor, such as 0 for standard input.

    Args:
        descriptor: of a pipe or file.
        rate_hz: sample rate of raw samples: signed 16-bit integers, little-endian, one channel. None if there is a
            header.

    Raises:
        AudioError: the header is of no format that can be read from a pipe. Reading the blocks raises it where the
            audio is damaged.
    """
    if rate_hz is not None:
        return LiveAudio(rate_hz, _raw_blocks(descriptor, max(1, round(LIVE_BLOCK_S * rate_hz))))
    try:
        file = soundfile.SoundFile(descriptor, closefd=False)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        raise AudioError(
            f"the stream is in no format that can be read from a pipe, such as wav or ogg ({reason}); raw 16-bit "
            "samples of one channel need --rate, their samples per second; for any other format put "
            "ffmpeg -i - -f wav - | in between"
        ) from None
    return LiveAudio(file.samplerate, _decoded_blocks(file))


def _raw_blocks(descriptor: int, samples: int) -> Iterator[NDArray[np.float32]]:
    rest = b""  # a read may end within a sample
    while data := os.read(descriptor, 2 * samples):
        data = rest + data
        whole = len(data) // 2
        rest = data[2 * whole :]
        yield np.frombuffer(data, "<i2", whole).astype(np.float32) / np.float32(2**15)


def _decoded_blocks(file: soundfile.SoundFile) -> Iterator[NDArray[np.float32]]:
    samples = max(1, round(LIVE_BLOCK_S * file.samplerate))
    try:
        while len(block := file.read(samples, dtype="float32", always_2d=True)):
            channels: NDArray[np.float32] = np.ascontiguousarray(block.T)
            if not usable(channels).all():
                raise AudioError(f"the stream holds samples that are {UNUSABLE}")
            yield mix_down(channels)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"the stream is damaged ({error.error_string.strip().rstrip('.')})") from None


def checked_rate_hz(sample_rate_hz: Any) -> int:
    """Return a sample rate that a caller gave.

    Raises:
        AudioError: it is not an integer, or no recording has it.
    """
    number = isinstance(sample_rate_hz, (int, float, np.integer, np.floating))
    if number and LOWEST_RATE_HZ <= sample_rate_hz <= HIGHEST_RATE_HZ and sample_rate_hz == int(sample_rate_hz):
        return int(sample_rate_hz)
    if sample_rate_hz is None:
        raise AudioError("a waveform needs sample_rate_hz=, its samples per second")
    raise AudioError(
        f"sample_rate_hz={sample_rate_hz!r}: a sample rate is an integer from {LOWEST_RATE_HZ:,} to {HIGHEST_RATE_HZ:,}"
    )


def checked_waveform(audio: NDArray[Any], channels: int | None = None) -> NDArray[np.float32]:
    """Return samples that came as an array as `(channel, sample)` float32.

    Args:
        audio: floats of any width in [-1, 1], `(sample,)` or `(channel, sample)`.
        channels: their number, where it is known; then there may be fewer samples than channels.

    Raises:
        AudioError: it is something else, is empty or holds samples that are not finite.
    """
    if audio.ndim not in (1, 2) or audio.size == 0:
        raise AudioError(f"a waveform is (sample,) or (channel, sample) and not empty; got shape {audio.shape}")
    if audio.ndim == 2 and audio.shape[0] > audio.shape[1] and audio.shape[0] != channels:
        raise AudioError(
            f"a waveform of shape {audio.shape} would have more channels than samples; some packages, such as "
            "soundfile, give (sample, channel): pass waveform.T"
        )
    if not np.issubdtype(audio.dtype, np.floating) and audio.dtype.name != "bfloat16":
        raise AudioError(f"a waveform holds floats in [-1, 1]; got {audio.dtype}: divide integers by their full scale")
    with np.errstate(over="ignore"):
        waveform = np.atleast_2d(audio).astype(np.float32)
    if not usable(waveform).all():
        raise AudioError(f"the waveform holds samples that are not finite numbers or larger than {LOUDEST:g}")
    return waveform


def mono_blocks(blocks: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
    """Yield blocks of samples that came as arrays, mono `(sample,)` float32, without the empty ones.

    Args:
        blocks: consecutive, as for `checked_waveform`. A block may hold fewer samples than channels if the block before
            has as many channels.

    Raises:
        AudioError: a block cannot be used.
    """
    channels = None
    for block in blocks:
        if block.size:
            waveform = checked_waveform(block, channels)
            channels = len(waveform)
            yield mix_down(waveform)


def equal_blocks(blocks: Iterable[NDArray[np.float32]], samples: int) -> Iterator[NDArray[np.float32]]:
    """Yield the same samples `(sample,)` in blocks of equal size, each once it is full; the last may be shorter."""
    waiting, count = [], 0
    for block in blocks:
        waiting.append(block)
        count += len(block)
        if count >= samples:
            joined = np.concatenate(waiting)
            whole = count // samples * samples
            yield from joined[:whole].reshape(-1, samples)
            waiting, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(waiting)


def mix_down(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the channels: `(channel, sample)` → `(sample,)`.

    They are added one after the other, so that a sample's value does not depend on the shape of its block; numpy's own
    sums do.
    """
    mono: NDArray[np.float32] = waveform[0]
    if len(waveform) > 1:
        mono = mono.copy()
        for channel in waveform[1:]:
            mono += channel
        mono /= len(waveform)
    return mono
