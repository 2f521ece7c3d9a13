"""A pipe that is written at this moment → mono blocks: raw samples, or a format that can be decoded without seeking.

Decodable are WAV, AIFF, AU, NIST and Ogg (Vorbis, Opus). The bytes go through a pipe of our own to libsndfile, with
the length in their header put right: a program that writes to a pipe may declare none.
"""

from __future__ import annotations

import os
import re
import select
import struct
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.audio.blocks import mix_down
from asr.audio.libsndfile import SequentialFile
from asr.audio.sound_file import UNUSABLE, usable
from asr.errors import AudioError

LIVE_BLOCK_S = 0.1  # of a block of a pipe; each is waited for

_LARGEST_HEADER = 1 << 20
_LARGEST = b"\xff\xff\xff\xff"  # of a length: to the end
_CHUNK = {b"RIFF": struct.Struct("<4sI"), b"RIFX": struct.Struct(">4sI"), b"FORM": struct.Struct(">4sI")}
_OGG_PAGE = re.compile(rb"OggS\0([\0-\x07])", re.DOTALL)
_OGG_BEGINS = 2
_REST_S = 1.0  # how long is waited for what follows the end that a header declares


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
            audio is damaged, or goes on after the end that the header declares.
    """
    if rate_hz is not None:
        return LiveAudio(rate_hz, _raw_blocks(descriptor, max(1, round(LIVE_BLOCK_S * rate_hz))))
    relay = _Relay(descriptor, _header(descriptor))
    try:
        file = SequentialFile(relay.reading, closefd=False)
    except soundfile.LibsndfileError as error:
        relay.close()
        raise _undecodable(error.error_string.strip().rstrip(".")) from None
    return LiveAudio(file.samplerate, _decoded_blocks(file, relay))


def _undecodable(reason: str) -> AudioError:
    return AudioError(
        f"the stream is in no format that can be read from a pipe, such as wav or ogg ({reason}); raw 16-bit "
        "samples of one channel need --rate, their samples per second; for any other format put "
        "ffmpeg -i - -f wav - | in between"
    )


def _raw_blocks(descriptor: int, samples: int) -> Iterator[NDArray[np.float32]]:
    rest = b""  # a read may end within a sample
    while data := os.read(descriptor, 2 * samples):
        data = rest + data
        whole = len(data) // 2
        rest = data[2 * whole :]
        yield np.frombuffer(data, "<i2", whole).astype(np.float32) / np.float32(2**15)


def _header(descriptor: int) -> bytes:
    """Read up to the audio; return it with a length that a decoder reads to the end, if it had none.

    Raises:
        AudioError: the format cannot be read from a pipe.
    """
    head = _exactly(descriptor, 12)
    if head.startswith((b"NIST_1A", b"OggS")):
        return head
    if head.startswith((b".snd", b"dns.")):
        return head[:8] + (head[8:] if any(head[8:]) else _LARGEST)
    form, audio = _CHUNK.get(head[:4]), b"SSND" if head.startswith(b"FORM") else b"data"
    if form is None or head[8:] not in (b"WAVE", b"AIFF", b"AIFC"):
        raise _undecodable("it has an unknown header" if head else "it is empty")
    while True:
        chunk = _exactly(descriptor, form.size)
        name, length = form.unpack(chunk.ljust(form.size, b"\0"))
        if name == audio or len(chunk) < form.size:
            return head + (chunk if length or not chunk else chunk[:4] + _LARGEST)
        head += chunk + _exactly(descriptor, min(length + length % 2, _LARGEST_HEADER))
        if len(head) > _LARGEST_HEADER:
            raise _undecodable(f"its header is larger than {_LARGEST_HEADER} bytes")


def _exactly(descriptor: int, count: int) -> bytes:
    """Return so many bytes, fewer at the end."""
    data = b""
    while len(data) < count and (more := os.read(descriptor, count - len(data))):
        data += more
    return data


class _Relay:
    """A header, and then what a descriptor gives, as a pipe.

    Attributes:
        reading: the pipe's descriptor to read from.
        chained: whether several Ogg streams have followed each other, of which libsndfile reads the first.
    """

    def __init__(self, descriptor: int, header: bytes) -> None:
        self.reading, self._writing = os.pipe()
        self.chained = False
        self._descriptor, self._header = descriptor, header
        threading.Thread(target=self._copy, daemon=True).start()

    def close(self) -> None:
        os.close(self.reading)

    def rest(self) -> bytes:
        """Return what nobody has read, as far as it comes at once."""
        ready = os.name != "posix" or select.select([self.reading], [], [], _REST_S)[0]
        return os.read(self.reading, 1 << 16) if ready else b""

    def _copy(self) -> None:
        data, within, overlap = self._header, False, b""
        try:
            while data:
                if self._header.startswith(b"OggS"):
                    for page in _OGG_PAGE.finditer(overlap + data):
                        begins = page[1][0] & _OGG_BEGINS != 0
                        self.chained |= begins and within
                        within |= not begins
                    overlap = data[-5:]
                view = memoryview(data)
                while view:
                    view = view[os.write(self._writing, view) :]
                data = os.read(self._descriptor, 1 << 16)
        except OSError:  # nobody reads any more, or there is nothing more to read
            pass
        finally:
            os.close(self._writing)


def _decoded_blocks(file: SequentialFile, relay: _Relay) -> Iterator[NDArray[np.float32]]:
    samples, decoded = max(1, round(LIVE_BLOCK_S * file.samplerate)), 0
    try:
        with file:
            while len(block := file.read(samples, dtype="float32", always_2d=True)):
                decoded += len(block)
                channels: NDArray[np.float32] = np.ascontiguousarray(block.T)
                if not usable(channels).all():
                    raise AudioError(f"the stream holds samples that are {UNUSABLE}")
                yield mix_down(channels)
            rest = relay.rest()
    except soundfile.LibsndfileError as error:
        raise AudioError(f"the stream is damaged ({error.error_string.strip().rstrip('.')})") from None
    finally:
        relay.close()
    if decoded == 0:
        raise AudioError("the stream holds no samples")
    follows = rest.lstrip(b"\0")[:4]
    if relay.chained or follows in _CHUNK or not (follows.isascii() and follows.decode("ascii").isprintable()):
        raise AudioError(
            "the stream goes on after the end that its header declares, perhaps with another recording; put "
            "ffmpeg -i - -f wav - | in between"
        )
