"""Recordings of which one hears whether all of it is there, and sound files whose headers lie about their length."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE_HZ = 16000
# A tone each for the quarters of a recording.
TONES_HZ = (400, 700, 1100, 1700)
# Codecs that fill up their last block; the header may count what is in it.
MOST_PADDING = 3000

LIES = ("nothing", "the most", "the header too", "half", "a little less")


def tones(seconds: float = 1.0, rate: int = RATE_HZ) -> np.ndarray:
    """Return `(sample,)` with a tone in each of its quarters."""
    time_s = np.arange(round(seconds * rate / 4)) / rate
    return np.concatenate([0.5 * np.sin(2 * np.pi * hz * time_s) for hz in TONES_HZ]).astype(np.float32)


def assert_whole(samples: np.ndarray, times: int = 1, seconds: float = 1.0, rate: int = RATE_HZ) -> None:
    """Check that all tones are there, `times` times, and nothing else but padding."""
    samples = np.atleast_2d(samples)[0]
    whole = round(times * seconds * rate)
    assert whole <= len(samples) + 600 * times, f"{len(samples)} samples of {whole}"
    assert len(samples) <= whole + times * MOST_PADDING, f"{len(samples)} samples of {whole}"
    quarter = len(samples) / times / 4
    for number in range(4 * times):
        middle = samples[round((number + 0.35) * quarter) : round((number + 0.65) * quarter)]
        loudest_hz = np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 14))) * rate / (1 << 14)
        assert loudest_hz == pytest.approx(TONES_HZ[number % 4], rel=0.06)


def with_length(data: bytes, container: str, lie: str) -> bytes:
    """Return the file with another length in its header.

    Args:
        data: a file whose header is right.
        container: as soundfile calls it.
        lie: one of `LIES`.
    """
    return _SET[container](data, lambda right, most, header: int(_lied(right, most, header)[lie]))


def _lied(right: int, most: int, header: int) -> Mapping[str, float]:
    return {
        "nothing": 0,
        "the most": most,
        "the header too": right + header,
        "half": right // 2,
        "a little less": right - max(2, min(right // 50 // 2 * 2, 300)),
    }


Lie = Callable[[int, int, int], int]


def _put(data: bytes, place: int, form: str, lie: Lie, most: int, header: int) -> bytes:
    changed = bytearray(data)
    (right,) = struct.unpack_from(form, data, place)
    struct.pack_into(form, changed, place, lie(right, most, header))
    return bytes(changed)


def _riff(data: bytes, lie: Lie) -> bytes:
    place = data.index(b"data") + 4
    return _put(data, place, "<I", lie, 0xFFFFFFFF, place + 4)


def _rf64(data: bytes, lie: Lie) -> bytes:
    return _put(data, 28, "<Q", lie, (1 << 64) - 1, data.index(b"data", 36) + 8)


def _w64(data: bytes, lie: Lie) -> bytes:
    place = data.index(b"data\xf3\xac\xd3\x11") + 16
    changed = bytearray(data)
    (right,) = struct.unpack_from("<Q", data, place)
    told = lie(right - 24, (1 << 63) - 25, place + 8)
    struct.pack_into("<Q", changed, place, told + 24 if told else 0)
    return bytes(changed)


def _aiff(data: bytes, lie: Lie) -> bytes:
    place = data.index(b"SSND") + 4
    return _put(data, place, ">I", lie, 0xFFFFFFFF, place + 4)


def _au(data: bytes, lie: Lie) -> bytes:
    return _put(data, 8, ">I", lie, 0xFFFFFFFF, 24)


def _caf(data: bytes, lie: Lie) -> bytes:
    place = data.index(b"data", 60) + 4
    return _put(data, place, ">q", lambda right, most, header: lie(right, most, header) or -1, (1 << 63) - 1, place + 8)


def _nist(data: bytes, lie: Lie) -> bytes:
    head, _, rest = data[:1024].partition(b"sample_count -i ")
    right, _, rest = rest.partition(b"\n")
    told = lie(int(right), 10**12, 1)
    return (head + b"sample_count -i %d\n" % told + rest)[:1024].ljust(1024, b" ") + data[1024:]


def _flac(data: bytes, lie: Lie) -> bytes:
    right = (data[21] & 15) << 32 | int.from_bytes(data[22:26], "big")
    told = lie(right, 0, 0)  # the most is nothing: unknown
    return data[:21] + bytes([data[21] & 0xF0 | told >> 32]) + (told & 0xFFFFFFFF).to_bytes(4, "big") + data[26:]


def _mp3(data: bytes, lie: Lie) -> bytes:
    place = max(data.find(b"Xing"), data.find(b"Info"))
    assert place > 0
    return _put(data, place + 8, ">I", lie, 0xFFFFFFFF, 0)


_SET: Mapping[str, Callable[[bytes, Lie], bytes]] = {
    "WAV": _riff,
    "WAVEX": _riff,
    "RF64": _rf64,
    "W64": _w64,
    "AIFF": _aiff,
    "AU": _au,
    "CAF": _caf,
    "NIST": _nist,
    "FLAC": _flac,
    "MP3": _mp3,
}
CONTAINERS = tuple(_SET)


def _encodings() -> list[tuple[str, str]]:
    known = {"OGG", *CONTAINERS}
    return [
        (container, codec)
        for container in soundfile.available_formats()
        if container in known
        for codec in soundfile.available_subtypes(container)
        if (container, codec) not in {("MP3", "MPEG_LAYER_I"), ("MP3", "MPEG_LAYER_II"), ("WAV", "MPEG_LAYER_III")}
        and not codec.startswith("DWVW")  # of the codecs of samplers; libsndfile cannot write and read them here
    ]


ENCODINGS = _encodings()
"""Container and codec of all that libsndfile writes here, of the containers that are decoded."""


def encoded(container: str, codec: str, folder: Path) -> bytes:
    """Return `tones` as a file."""
    path = folder / "encoded"
    soundfile.write(path, tones(), RATE_HZ, format=container, subtype=codec)
    return path.read_bytes()
