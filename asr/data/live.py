"""Audio that is still being recorded, read from a pipe as it comes.

Raw samples, or a file in a format that can be decoded while it is being written: wav, aiff, au and ogg through
libsndfile. What a file holds, `asr.data.blocks` reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.data.audio import mix_down
from asr.data.sound_file import UNUSABLE, usable
from asr.errors import AudioError

BLOCK_S = 0.1  # how much is waited for at a time


class LiveAudio(NamedTuple):
    """Consecutive blocks `(sample,)`, mono float32 in [-1, 1], and their rate."""

    sample_rate_hz: int
    blocks: Iterator[NDArray[np.float32]]


def live_audio(descriptor: int, rate_hz: int | None) -> LiveAudio:
    """Begin to read an open file descriptor, such as 0 for standard input.

    Args:
        descriptor: of a pipe or file.
        rate_hz: of raw samples: signed 16-bit integers, little-endian, one channel. None if a header tells.

    Raises:
        AudioError: the header is of no format that can be read from a pipe. The blocks raise it where what follows is
            damaged.
    """
    if rate_hz is not None:
        return LiveAudio(rate_hz, _raw_blocks(descriptor, max(1, round(BLOCK_S * rate_hz))))
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
    samples = max(1, round(BLOCK_S * file.samplerate))
    try:
        while len(block := file.read(samples, dtype="float32", always_2d=True)):
            channels: NDArray[np.float32] = np.ascontiguousarray(block.T)
            if not usable(channels).all():
                raise AudioError(f"the stream holds samples that are {UNUSABLE}")
            yield mix_down(channels)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"the stream is damaged ({error.error_string.strip().rstrip('.')})") from None
