"""Damaged audio files, made from good recordings by chance: of one seed always the same."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

Chance = np.random.Generator

# Suffix → libsndfile's names of container and encoding.
ENCODINGS = {
    ".wav": ("WAV", "PCM_16"),
    ".float.wav": ("WAV", "FLOAT"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".sph": ("NIST", "PCM_16"),
    ".aiff": ("AIFF", "PCM_16"),
}
WRONG_SUFFIXES = [
    *(suffix for suffix in ENCODINGS if suffix != ".float.wav"),
    ".mp4",
    ".m4a",
    ".webm",
    ".raw",
    ".txt",
    "",
]


def damaged_files(
    recordings: Sequence[tuple[np.ndarray, int]], folder: Path, count: int, seed: int = 0
) -> Iterator[tuple[Path, str]]:
    """Write damaged files one by one; yield the path of each and what was done to it.

    Args:
        recordings: waveforms `(sample,)` in [-1, 1] with their rates.
        folder: where to write them.
        count: how many.
        seed: of all chance.
    """
    encoded = lru_cache(maxsize=None)(_encoded)
    for index in range(count):
        chance = np.random.default_rng((seed, index))
        suffix = str(chance.choice(list(ENCODINGS)))
        number, channels = int(chance.integers(len(recordings))), int(chance.integers(1, 3))
        waveform, rate = recordings[number]
        data = bytearray(encoded(waveform.tobytes(), rate, channels, suffix))
        name = str(chance.choice(list(DAMAGES)))
        damaged = DAMAGES[name](data, chance)
        if name == "wrong suffix":
            suffix = str(chance.choice([other for other in WRONG_SUFFIXES if other != suffix]))
        path = folder / f"{index:04d}{suffix}"
        path.write_bytes(damaged)
        yield path, name


def _encoded(samples: bytes, rate: int, channels: int, suffix: str) -> bytes:
    waveform = np.frombuffer(samples, np.float32)
    file = io.BytesIO()
    container, encoding = ENCODINGS[suffix]
    soundfile.write(file, np.stack([waveform] * channels, axis=1), rate, format=container, subtype=encoding)
    return file.getvalue()


def _cut_off(data: bytearray, chance: Chance) -> bytes:
    return data[: chance.integers(1, len(data))]


def _stub(data: bytearray, chance: Chance) -> bytes:
    return data[: chance.integers(1, 65)]


def _flip(data: bytearray, chance: Chance, within: int) -> bytes:
    for _ in range(chance.choice([1, 3, 10, 100])):
        data[chance.integers(min(within, len(data)))] ^= 1 << chance.integers(8)
    return data


def _punch(data: bytearray, chance: Chance) -> bytes:
    """Put noise or zeros in place of some of the middle, or take it out."""
    start, end = sorted(chance.integers(0, len(data), 2))
    put = [chance.bytes(end - start), bytes(end - start), b""][chance.integers(3)]
    return data[:start] + put + data[end:]


def _zero_rate(data: bytearray, chance: Chance) -> bytes:
    kind = bytes(data[:4])
    if kind == b"RIFF":
        data[24:28] = bytes(4)
    elif kind == b"fLaC":
        data[18:21] = bytes([0, 0, data[20] & 0x0F])
    elif kind == b"OggS":
        data[40:44] = bytes(4)  # of Vorbis; of Opus the rate that was once recorded
    elif kind == b"FORM":
        start = data.index(b"COMM") + 16
        data[start : start + 10] = bytes(10)
    elif kind == b"NIST":
        return _with_field(data, b"sample_rate", b"0")
    else:
        data[_mp3_frame(data) + 2] |= 0x0C  # the rate that is none
    return data


def _huge(data: bytearray, chance: Chance) -> bytes:
    kind = bytes(data[:4])
    if kind == b"RIFF":
        start = data.index(b"data") + 4
        data[start : start + 4] = bytes([*chance.bytes(3), chance.choice([0x0F, 0x7F, 0xFF])])
        if chance.integers(2):
            data[4:8] = b"\xff" * 4
    elif kind == b"fLaC":
        data[21] |= chance.integers(16)
        data[22:26] = b"\xff" * 4
    elif kind == b"OggS":
        start = data.rindex(b"OggS") + 6
        data[start : start + 8] = b"\xff" * 7 + b"\x3f"
    elif kind == b"FORM":
        start = data.index(b"COMM") + 10
        data[start : start + 4] = b"\x7f" + chance.bytes(3)
        if chance.integers(2):
            start = data.index(b"SSND") + 4
            data[start : start + 4] = b"\x7f" + chance.bytes(3)
    elif kind == b"NIST":
        return _with_field(data, b"sample_count", str(chance.choice([10**9, 2**31 - 1, 2**40])).encode())
    else:
        mark = max(data.find(b"Xing"), data.find(b"Info"))
        if mark >= 0:
            data[mark + 8 : mark + 12] = b"\x7f\xff\xff\xff"
    return data


def _not_finite(data: bytearray, chance: Chance) -> bytes:
    """Put NaN or infinity into the samples; in integers they are loud."""
    start = data.find(b"data") + 8 if data[:4] == b"RIFF" else len(data) // 2
    for _ in range(chance.choice([1, 100])):
        place = start + 4 * int(chance.integers((len(data) - start) // 4))
        data[place : place + 4] = np.float32(chance.choice([np.nan, np.inf, -np.inf])).tobytes()
    return data


def _with_field(data: bytearray, name: bytes, value: bytes) -> bytes:
    """Return a sphere file with an integer field of its header replaced."""
    head, _, tail = bytes(data[:1024]).partition(name + b" -i ")
    header = head + name + b" -i " + value + b"\n" + tail.partition(b"\n")[2]
    return header.rstrip()[:1023].ljust(1023) + b"\n" + data[1024:]


def _mp3_frame(data: bytearray) -> int:
    return next(place for place in range(len(data) - 4) if data[place] == 0xFF and data[place + 1] & 0xE0 == 0xE0)


DAMAGES: dict[str, Callable[[bytearray, Chance], bytes]] = {
    "cut off": _cut_off,
    "stub": _stub,
    "empty": lambda data, chance: b"",
    "bits flipped": lambda data, chance: _flip(data, chance, len(data)),
    "bits of the header flipped": lambda data, chance: _flip(data, chance, 128),
    "middle replaced or missing": _punch,
    "wrong suffix": lambda data, chance: bytes(data),
    "rate of 0 Hz": _zero_rate,
    "huge length declared": _huge,
    "NaN or infinite": _not_finite,
    "noise": lambda data, chance: chance.bytes(len(data)),
    "zeros": lambda data, chance: bytes(len(data)),
}
