"""MPEG audio (mp3, mp2) → how many frames there are, and the pieces with which a decoder finds them all.

An mp3 has no header. Its first frame may declare how many follow (the Xing frame). Without it decoders guess from the
bit rate of the first frames; in joined files they stop after the first part. Here frames are counted, and a Xing frame
with that number is put before them. What is between frames is left out: tags, and the rest of a frame that was cut.

A frame of layer III may keep some of its data in the frames before it (the bit reservoir). Where these are missing, at
the start of a recorded broadcast or after a cut, it decodes to noise and messages on stderr. It is made silent.

Sources: ISO 11172-3 section 2.4; http://gabriel.mp3-tech.org/mp3infotag.html (Xing and Info frames); https://id3.org.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from asr.audio.pieces import BLOCK_BYTES, Bytes, Contents, FaultError, Piece

_LARGEST_FRAME = 2881  # bytes; a gap that is longer is more than the rest of one frame
_KBITS = {  # by MPEG 1 or not, and layer
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version
_RESERVOIR_BYTES = 511
_STREAMING_FRAMES = 0x7FFF0000  # who writes to a pipe declares the largest number
_SYNC = struct.Struct(">I")


class _Kind(NamedTuple):
    """What all frames of a recording have in common."""

    mpeg1: bool
    layer: int
    rate_hz: int

    @property
    def samples(self) -> int:
        """Of each channel, in one frame."""
        return 384 if self.layer == 1 else 1152 if self.layer == 2 or self.mpeg1 else 576


@lru_cache(maxsize=1)
def _frame_table() -> dict[int, tuple[int, _Kind]]:
    """Return the bytes and the kind of every possible frame, by the first 23 bits of its header."""
    table = {}
    for version, layer, rate_index in product(_RATES_HZ, (1, 2, 3), range(3)):
        kind = _Kind(version == 3, layer, _RATES_HZ[version][rate_index])
        unit_bytes = 4 if layer == 1 else 1  # the length of a frame is counted in these
        for (bits, kbits), padding in product(enumerate(_KBITS[kind.mpeg1, layer], 1), (0, 1)):
            units = kind.samples // (8 * unit_bytes) * 1000 * kbits // kind.rate_hz + padding
            for unprotected in (0, 1):
                key = 0x7FF << 12 | version << 10 | (4 - layer) << 8 | unprotected << 7
                table[key | bits << 3 | rate_index << 1 | padding] = unit_bytes * units, kind
    return table


def mpeg_contents(data: Bytes, start: int, end: int, *, skip_junk: bool = False) -> Contents | None:
    """Count the frames between two places; None if no MPEG frames begin there.

    Args:
        data: the file.
        start: where the first frame or tag is.
        end: where the audio ends.
        skip_junk: look for the first frame also behind up to a frame of other bytes, as in a recorded broadcast.

    Raises:
        FaultError: frames are missing or damaged, or the kind of frames changes.
    """
    walk = _Walk(data, end)
    if not walk.find_first(start, skip_junk):
        return None
    walk.run()
    assert walk.kind is not None
    first = data.at(walk.first, 200)
    told = _told_frames(first, walk.kind)
    frames = walk.frames - (told is not None)
    if told is not None and frames + 1 < told < _STREAMING_FRAMES:  # the last one may be cut
        raise FaultError(f"truncated: {told} MPEG frames are declared, {frames} are there; copy or convert it again")
    samples, ranges = frames * walk.kind.samples, walk.ranges
    begin, stop = ranges[0]
    plain = start == 0 and len(ranges) == 1 and walk.first in (0, tag_end(data, 0))
    if plain and frames == told and _told_bytes(first, walk.kind, stop - begin):
        return Contents(parts=() if stop == data.size else (((0, stop),),), counted=True, samples=samples)
    if told is not None:
        ranges[0] = (begin + _frame_table()[_key(first)][0], stop)
    pieces: list[Piece] = [*ranges]
    if walk.kind.layer == 3:
        pieces = [_xing_frame(first, frames), *(piece for part in ranges for piece in _decodable(data, *part))]
    return Contents(parts=(tuple(pieces),), counted=True, samples=samples)


class _Walk:
    """Goes from frame to frame.

    Attributes:
        first: where the first frame is.
        kind: of the frames.
        frames: how many whole ones there are.
        ranges: where they lie without anything in between.
    """

    def __init__(self, data: Bytes, end: int) -> None:
        self.first, self.frames = 0, 0
        self.kind: _Kind | None = None
        self.ranges: list[tuple[int, int]] = []
        self._data, self._end = data, end

    def find_first(self, place: int, skip_junk: bool) -> bool:
        """Find the first frame behind tags, zeros and, if that is allowed, junk."""
        place = self._behind_tags(place)
        last = min(self._end, place + _LARGEST_FRAME) if skip_junk else place + 1
        for candidate in range(place, last):
            kind = self._confirmed(candidate)
            if kind is not None:
                self.first, self.kind = candidate, kind
                return True
        return False

    def run(self) -> None:
        """Go through all frames.

        Raises:
            FaultError: something else than frames and tags is in between.
        """
        table, unpack, kind = _frame_table(), _SYNC.unpack_from, self.kind
        place = begin = self.first
        while place < self._end:
            block = self._data.at(place, min(BLOCK_BYTES, self._end - place))
            at, stop, count = 0, len(block) - 3, 0
            while at < stop:
                found = table.get(unpack(block, at)[0] >> 9)
                if found is None or found[1] != kind:
                    break
                at += found[0]
                count += 1
            place += at
            self.frames += count - (place > self._end)
            if at < stop or place >= self._end - 3:
                self.ranges.append((begin, min(place, self._end)))
                place = begin = self._next_frame(place)

    def _next_frame(self, place: int) -> int:
        """Return where frames go on behind what is at a place, or the end.

        Raises:
            FaultError: it is neither tags nor the rest of one frame.
        """
        behind = self._behind_tags(place)
        if behind >= self._end - 3:
            return self._end
        if self._confirmed(behind) == self.kind:
            return behind
        if self._confirmed(behind) is not None:
            raise FaultError(f"the kind of its MPEG frames changes at byte {behind}; convert the parts one by one")
        for candidate in range(behind + 1, min(behind + _LARGEST_FRAME, self._end - 3)):
            if self._confirmed(candidate) == self.kind:
                return candidate
        if self._end - behind < _LARGEST_FRAME:
            return self._end
        raise FaultError(f"damaged: there are no MPEG frames from byte {behind} on; copy or convert it again")

    def _confirmed(self, place: int) -> _Kind | None:
        """Return the kind of the frame at a place, if another of its kind or the end follows."""
        found = _frame_table().get(_key(self._data.at(place, 4)))
        if found is None or place + found[0] > self._end:
            return None
        after = place + found[0]
        following = _frame_table().get(_key(self._data.at(after, 4)))
        if following is not None and following[1] == found[1]:
            return found[1]
        return found[1] if after >= self._end - 3 or self._behind_tags(after) != after else None

    def _behind_tags(self, place: int) -> int:
        while place < self._end:
            after = tag_end(self._data, place)
            if after == place and self._data.at(place, 1) == b"\0":
                block = self._data.at(place, BLOCK_BYTES)
                after += len(block) - len(block.lstrip(b"\0"))
            if after == place:
                break
            place = after
        return min(place, self._end)


def tag_end(data: Bytes, place: int) -> int:
    """Return where a tag that begins at a place ends: ID3, APE or Lyrics3; the place itself if none does."""
    head = data.at(place, 32)
    if head.startswith(b"ID3") and len(head) >= 10 and max(head[6:10]) < 0x80:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        return place + size + (20 if head[5] & 0x10 else 10)
    if head.startswith(b"APETAGEX") and len(head) == 32:
        is_header = head[23] & 0x20
        return place + (32 + int.from_bytes(head[12:16], "little") if is_header else 32)
    if head.startswith(b"TAG"):
        return place + 128
    return data.size if head.startswith(b"LYRICSBEGIN") else place


def _key(header: bytes) -> int:
    return int.from_bytes(header[:4], "big") >> 9 if len(header) >= 4 else 0


def _side_info(header: bytes, kind: _Kind) -> tuple[int, int]:
    """Return where the side information of a frame of layer III begins, and its bytes."""
    mono = header[3] >> 6 == 3
    return 4 if header[1] & 1 else 6, (17 if mono else 32) if kind.mpeg1 else (9 if mono else 17)


def _xing(frame: bytes, kind: _Kind) -> tuple[int, int, int] | None:
    """Return the flags of a Xing frame and its first two fields; None if it is none."""
    start, size = _side_info(frame, kind)
    for offset in {4 + size, start + size}:
        if kind.layer == 3 and frame[offset : offset + 4] in (b"Xing", b"Info"):
            flags, first, second = struct.unpack_from(">3I", frame, offset + 4)
            return flags, first, second
    return None


def _told_frames(frame: bytes, kind: _Kind) -> int | None:
    """Return how many frames a Xing frame declares; None if it is none, or does not."""
    xing = _xing(frame, kind)
    return xing[1] if xing and xing[0] & 1 else None


def _told_bytes(frame: bytes, kind: _Kind, right: int) -> bool:
    """Return whether a Xing frame declares about the right number of bytes, or none; decoders print a warning else."""
    xing = _xing(frame, kind)
    return xing is None or xing[0] & 3 != 3 or abs(xing[2] - right) <= right // 100


def _xing_frame(header: bytes, frames: int) -> bytes:
    """Return a Xing frame that declares a number of frames, for a recording with such a header."""
    for bits in range(1, 15):
        like = bytes([header[0], header[1] | 1, bits << 4 | header[2] & 0x0C, header[3]])
        size, kind = _frame_table()[_key(like)]
        side = _side_info(like, kind)[1]
        if size >= 160:  # decoders look for none in shorter ones
            break
    return (like + bytes(side) + b"Xing" + struct.pack(">II", 1, frames)).ljust(size, b"\0")


def _decodable(data: Bytes, place: int, end: int) -> list[Piece]:
    """Return the frames between two places with those made silent, at the start, whose data begin before it."""
    there, pieces = 0, list[Piece]()
    while place < end and there < _RESERVOIR_BYTES:
        header = data.at(place, 40)
        size, kind = _frame_table()[_key(header)]
        start, side = _side_info(header, kind)
        needed = int.from_bytes(header[start : start + 2], "big") >> (7 if kind.mpeg1 else 8)
        after = min(place + size, end)
        if needed > there and place + start + side < after:
            pieces += [(place, place + start), bytes(side), (place + start + side, after)]
        else:
            pieces.append((place, after))
        there += size - start - side
        place = after
    return [*pieces, (place, end)] if place < end else pieces
