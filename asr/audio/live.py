"""A pipe that is written at this moment → mono blocks: raw samples, or a format that can be decoded without seeking.

Decodable are WAV, AIFF, AU, NIST and Ogg (Vorbis, Opus). The bytes go through a pipe of our own to libsndfile, with
the length in their header put right: a program that writes to a pipe may declare none.
"""

from __future__ import annotations

import io
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

from asr.audio.channels import mixed
from asr.audio.containers import chunked_kind, is_no_audio
from asr.audio.libsndfile import SequentialFile
from asr.audio.pieces import Bytes, FaultError
from asr.audio.sound_file import UNUSABLE, usable
from asr.errors import AudioError

LIVE_BLOCK_S = 0.1  # of a block of a pipe; each is waited for

_LARGEST_HEADER = 1 << 20
_LARGEST = b"\xff\xff\xff\xff"  # of a length: to the end
_CHUNK = {b"RIFF": struct.Struct("<4sI"), b"RIFX": struct.Struct(">4sI"), b"FORM": struct.Struct(">4sI")}
_OGG_PAGE = re.compile(rb"OggS\0([\0-\x07])", re.DOTALL)
_OGG_BEGINS = 2
_AU_ADPCM = range(23, 27)  # encodings of which libsndfile reads nothing from a pipe
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
    return LiveAudio(file.samplerate, mixed(_decoded_blocks(file, relay), "the stream"))


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
        head = head[:8] + (head[8:] if any(head[8:]) else _LARGEST) + _exactly(descriptor, 4)
        if int.from_bytes(head[12:], "big" if head[0:1] == b"." else "little") in _AU_ADPCM:
            raise _undecodable("it is AU with ADPCM")
        return head
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
        self._descriptor, self._header = os.dup(descriptor), header  # whoever opened it may close it meanwhile
        threading.Thread(target=self._copy, daemon=True).start()

    def close(self) -> None:
        os.close(self.reading)

    def rest(self) -> bytes:
        """Return what nobody has read: all that comes without a pause, up to `_LARGEST_HEADER`."""
        rest = b""
        while len(rest) < _LARGEST_HEADER:
            if os.name == "posix" and not select.select([self.reading], [], [], _REST_S)[0]:
                break
            if not (more := os.read(self.reading, 1 << 16)):
                break
            rest += more
        return rest

    def goes_on(self) -> bool:
        """Return whether more audio follows what was read."""
        rest = Bytes(io.BytesIO(self.rest()))
        try:
            return self.chained or not is_no_audio(rest, 0, chunked_kind(self._header))
        except FaultError:
            return True

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
            os.close(self._descriptor)


def _decoded_blocks(file: SequentialFile, relay: _Relay) -> Iterator[NDArray[np.float32]]:
    """Yield `(channel, sample)` to the end of the stream, which is verified."""
    samples, decoded = max(1, round(LIVE_BLOCK_S * file.samplerate)), 0
    try:
        with file:
            # Of a request that goes beyond the declared end, libsndfile would take what follows from the pipe.
            while len(block := file.read(min(samples, file.frames - decoded), dtype="float32", always_2d=True)):
                decoded += len(block)
                channels: NDArray[np.float32] = np.ascontiguousarray(block.T)
                if not usable(channels).all():
                    raise AudioError(f"the stream holds samples that are {UNUSABLE}")
                yield channels
            goes_on = relay.goes_on()
    except soundfile.LibsndfileError as error:
        raise AudioError(f"the stream is damaged ({error.error_string.strip().rstrip('.')})") from None
    finally:
        relay.close()
    if decoded == 0:
        raise AudioError("the stream holds no samples")
    if goes_on:
        raise AudioError(
            "the stream goes on after the end that its header declares, perhaps with another recording; put "
            "ffmpeg -i - -f wav - | in between"
        )
