"""Files and arrays → blocks of mono samples at the model's rate, so that memory does not grow with length.

* `open_audio`, `audio_blocks` and `load_audio` read finished files, standard input and pipes.
* `checked_waveform`, `waveform_blocks` and `mono_blocks` take samples that are in memory already.

`asr/audio/live.py` reads a pipe while it is written.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr.audio.channels import mixed
from asr.audio.resample import Resampler, StreamResampler
from asr.audio.sound_file import (
    HIGHEST_RATE_HZ,
    LOUDEST,
    LOWEST_RATE_HZ,
    Recording,
    check_finite,
    open_recording,
    usable,
)
from asr.audio.sources import Source, as_file, source_name
from asr.errors import AudioError, AudioWarning

BLOCK_S = 10.0  # of a block of a file, at most
_MOST_BLOCK_SAMPLES = 1 << 24  # of all channels of a block: 64 MB. Eight channels at 192 kHz have less in 10 s
_TOO_QUIET = 2.0**-12  # speech whose loudest samples have 8 steps of 16 bits is lost in their noise


@dataclass(frozen=True)
class AudioStream:
    """An open recording.

    Attributes:
        sample_rate_hz: of each channel.
        channels: their number.
        duration_s: as far as the file says; None if it does not.
        blocks: `(channel, sample)` float32, to be read once, in order. Reading them raises an `AudioError` where the
            file is damaged.
    """

    sample_rate_hz: int
    channels: int
    duration_s: float | None
    blocks: Iterator[NDArray[np.float32]]


@contextmanager
def open_audio(source: Source) -> Iterator[AudioStream]:
    """Open any audio or video file, standard input or an open pipe, to read it in blocks of `BLOCK_S`.

    Args:
        source: in a format that libsndfile or ffmpeg can decode; see `asr.audio.sound_file`. All but files are copied
            to a temporary file first, because many formats have their header at the end or need it twice.

    Raises:
        AudioError: the source is missing, empty, damaged, not audio, or a pipe with a name.
        UnknownFormatError: it needs ffmpeg, which is not installed.
    """
    with as_file(source) as (file, name), open_recording(file, name) as recording:
        blocks = _checked_blocks(recording, name)
        yield AudioStream(recording.sample_rate_hz, recording.channels, recording.duration_s, blocks)


def _checked_blocks(recording: Recording, name: str) -> Iterator[NDArray[np.float32]]:
    most = max(1, _MOST_BLOCK_SAMPLES // recording.channels)
    for samples in recording.blocks(min(round(BLOCK_S * recording.sample_rate_hz), most)):
        check_finite(name, samples)
        yield np.ascontiguousarray(samples.T)


def audio_blocks(source: Source, sample_rate_hz: int, *, channel: int | None = None) -> Iterator[NDArray[np.float32]]:
    """Yield a recording as consecutive blocks `(sample,)`, mono float32 at `sample_rate_hz`.

    Args:
        source: see `open_audio`.
        sample_rate_hz: the rate to resample to.
        channel: the one to take, counted from 0; None for the average of all.

    Raises:
        AudioError: as `open_audio`, or the recording has no such channel.
    """
    with open_audio(source) as stream:
        mono = mixed(stream.blocks, source_name(source) or "the recording", channel=channel)
        yield from resampled(mono, stream.sample_rate_hz, sample_rate_hz)


def waveform_blocks(
    waveform: NDArray[np.float32], from_hz: int, to_hz: int, *, channel: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield a waveform `(channel, sample)` of `from_hz` as `audio_blocks` yields a file.

    Raises:
        AudioError: the waveform has no such channel.
    """
    (mono,) = mixed([waveform], "the waveform", channel=channel)
    step = max(1, round(BLOCK_S * from_hz))
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


def checked_waveform(given: ArrayLike, channels: int | None = None) -> NDArray[np.float32]:
    """Return samples that came as an array, or as lists, as `(channel, sample)` float32.

    Args:
        given: floats of any width in [-1, 1], `(sample,)` or `(channel, sample)`.
        channels: their number, where it is known; then there may be fewer samples than channels.

    Raises:
        AudioError: it is something else, is empty or holds samples that are not finite.
    """
    audio = _samples(given)
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


def _samples(given: ArrayLike) -> NDArray[Any]:
    try:
        samples = np.asarray(given)
    except ValueError:  # lists of different lengths
        samples = np.asarray(None)
    if samples.dtype.kind not in "fiubcV":  # numbers, and V for the types of ml_dtypes
        raise AudioError(
            "audio is a path, an open file, or floats (sample,) or (channel, sample); "
            f"a {type(given).__name__} is none of these"
        )
    return samples


def mono_blocks(blocks: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
    """Yield blocks of samples that came as arrays, mono `(sample,)` float32, without the empty ones.

    Args:
        blocks: consecutive, as for `checked_waveform`. A block may hold fewer samples than channels if the block before
            has as many channels.

    Raises:
        AudioError: a block cannot be used.
    """
    return mixed(_checked_waveforms(blocks), "the stream")


def _checked_waveforms(blocks: Iterable[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
    channels = None
    for block in map(_samples, blocks):
        if block.size:
            waveform = checked_waveform(block, channels)
            channels = len(waveform)
            yield waveform


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


class Heard:
    """Passes on a recording's blocks as they are asked for, counts their samples and remembers how loud they were."""

    def __init__(self, blocks: Iterable[NDArray[np.float32]]) -> None:
        """Begin with none."""
        self._blocks = blocks
        self.samples = 0
        self._lowest, self._highest = math.inf, -math.inf

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the blocks `(sample,)`, mono."""
        for block in self._blocks:
            if len(block):
                self.samples += len(block)
                self._lowest = min(self._lowest, float(block.min()))
                self._highest = max(self._highest, float(block.max()))
            yield block

    @property
    def loudest(self) -> float:
        """How far the samples were from the middle between the lowest and the highest; 1 is full scale."""
        return (self._highest - self._lowest) / 2 if self.samples else 0.0

    def warn_if_quiet(self, name: str) -> None:
        """Say with an `AudioWarning` that the recording was too quiet to be understood, if it was."""
        if self.samples and self.loudest < _TOO_QUIET:
            level = f"at {20 * math.log10(self.loudest):.0f} dBFS" if self.loudest else "as quiet as all others"
            message = f"{name}: too quiet to be understood: its loudest sample is {level}; 16 bits have noise at -90"
            warnings.warn(message, AudioWarning, stacklevel=3)
