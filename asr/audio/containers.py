"""The bytes of an audio file → where its header errs, and which bytes a decoder must be given instead.

Decoders believe the length in a header. Programs that write to a pipe cannot go back to fill it in, recorders that
crash leave an old one, and joined files keep that of their first part. Here it is compared with the bytes that exist.

| container      | its length is wrong                                      | what is done                           |
| -------------- | -------------------------------------------------------- | -------------------------------------- |
| WAV, RF64, W64 | 0 or the largest possible; it counts the header as well  | the audio is read to the file's end    |
| AIFF, CAF, AU  | more audio follows                                       | likewise                               |
|                | more than there is                                       | refused: truncated                     |
|                | another file follows                                     | refused: joined                        |
| NIST sphere    | more than there is, or another file follows              | refused                                |
| FLAC           | 0, or less than the number of the last frame             | all frames are decoded                 |
|                | another file follows                                     | refused, see `Contents.again`          |
| mp3, in WAV or | no Xing frame, or one that counts too few                | frames are counted, see `mpeg.py`      |
| by itself      |                                                          |                                        |
| Ogg            | another stream follows (chained)                         | decoded one after the other            |
|                | a page is earlier than the one before it, or has no time | refused: damaged                       |
| MP4            | a box is larger than what is there, or a film follows    | refused: truncated or joined           |

Sources: RFC 9639 (FLAC), RFC 3533 (Ogg), EBU Tech 3306 (RF64), ISO 14496-12 (MP4), Apple's Core Audio Format and AIFF-C
specifications, https://pubs.opengroup.org/external/auformat.html (AU).
"""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from functools import partial
from typing import BinaryIO, NamedTuple

from asr.audio.mpeg import mpeg_contents, tag_end
from asr.audio.pieces import Bytes, Contents, FaultError, Piece

# Programs that write to a pipe declare the largest length (ffmpeg 0xFFFFFFFF, sox 0x7FFFF000 or so), or none.
_STREAMING_BYTES = {4: 0x7FFF0000, 8: 1 << 62}
_MOST_CHUNKS = 10_000
_MP3_CODECS = (b"\x50\0", b"\x55\0")  # in a WAV's format chunk
_AGAIN = "copy or convert the file again"
_JOINED = "another recording follows at byte {}; write each to a file of its own"


class _Chunked(NamedTuple):
    """How a container of chunks is laid out."""

    head: struct.Struct  # of a chunk: what it is, and its length
    first: int  # where the first chunk begins
    audio: bytes  # the name of the chunk with the audio
    counts_head: bool = False  # whether the length does
    align: int = 2


_LITTLE, _BIG = struct.Struct("<4sI"), struct.Struct(">4sI")
_RIFF, _RIFX, _AIFF = _Chunked(_LITTLE, 12, b"data"), _Chunked(_BIG, 12, b"data"), _Chunked(_BIG, 12, b"SSND")
_CAF = _Chunked(struct.Struct(">4sq"), 8, b"data", align=1)
_W64 = _Chunked(struct.Struct("<16sq"), 40, b"data", counts_head=True, align=8)
_W64_START = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_AU_BIG, _AU_LITTLE = struct.Struct(">4s2I"), struct.Struct("<4s2I")

# Others know these formats, and stop after the first of two recordings.
_FLAC_START = rb"fLaC[\0\x80]\0\0\x22"
_ONE_RECORDING = (
    rb"FLV\x01.\0\0\0\x09",
    re.escape(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")),  # ASF: wma, wmv
    rb"\x1aE\xdf\xa3.{1,12}\x42\x86\x81",  # EBML: mkv, webm
    rb"#!AMR(-WB)?\n",
    rb"TTA[12][\x01\x03]\0",
    rb"MAC [\x80-\xff]\x0f",  # Monkey's Audio
    rb"DSD \x1c\0{7}",
    rb"Creative Voice File\x1a",
)


def inspect(file: BinaryIO, *, recorded_mpeg: bool = False) -> Contents | None:
    """Return what is in an open audio file; None if its bytes are of no format that is known here.

    Args:
        file: can seek.
        recorded_mpeg: it may be an mp3 that was cut from a broadcast and begins in the middle of a frame.

    Raises:
        FaultError: it is truncated, damaged or two files in one.
    """
    data = Bytes(file)
    head = data.at(0, 64)
    if (kind := chunked_kind(head)) is not None:
        return _chunked(data, kind)
    if head[:4] in (b".snd", b"dns."):
        return _au(data, head)
    if head.startswith(b"NIST_1A"):
        return _nist(data, head)
    if head.startswith(b"OggS"):
        return _ogg(data)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"free"):
        return _mp4(data)
    start = tag_end(data, 0) if head.startswith(b"ID3") else 0
    if start >= data.size:
        raise FaultError(f"holds a tag and no audio; {_AGAIN}")
    if data.at(start, 4) == b"fLaC":
        return _flac(data, start)
    for pattern in _ONE_RECORDING:
        if re.match(pattern, head, re.DOTALL):
            return Contents(foreign=True, again=pattern)
    if head[8:12] == b"\0\2\0\0" and data.size == 12 + 2 * int.from_bytes(head[:4], "big"):
        return Contents(counted=True)  # HTK: 16-bit samples behind their number
    return mpeg_contents(data, 0, data.size, skip_junk=recorded_mpeg)


def chunked_kind(head: bytes) -> _Chunked | None:
    """Return how a container of chunks is laid out that begins with these 40 bytes; None if none does."""
    form = head[8:12]
    if head[:4] in (b"RIFF", b"RF64", b"BW64"):
        return _RIFF if form == b"WAVE" else None
    if head[:4] == b"RIFX":
        return _RIFX if form == b"WAVE" else None
    if head[:4] == b"FORM":
        return _AIFF if form in (b"AIFF", b"AIFC") else None
    return _CAF if head[:4] == b"caff" else _W64 if head[:16] == _W64_START else None


def _chunked(data: Bytes, kind: _Chunked) -> Contents:
    """Return what is in a container of chunks."""
    place, codec = kind.first, b""
    for _ in range(_MOST_CHUNKS):
        head = data.at(place, kind.head.size)
        if len(head) < kind.head.size:
            return Contents(counted=True)  # no audio in it, which the decoder will say
        name, length = kind.head.unpack(head)
        start, name = place + kind.head.size, name[:4]
        length -= kind.head.size if kind.counts_head else 0
        if name == kind.audio:
            break
        if name == b"fmt ":
            codec = data.at(start, 2)
        if length < 0:
            raise FaultError(f"damaged: the chunk at byte {place} has a negative length; {_AGAIN}")
        place = _aligned(start + length, kind)
    else:
        raise FaultError(f"damaged: its first {_MOST_CHUNKS} chunks hold no audio; {_AGAIN}")
    where, field = place + kind.head.size - struct.calcsize(_length_format(kind)), _length_format(kind)
    if data.at(0, 4) in (b"RF64", b"BW64") and length == 0xFFFFFFFF and data.at(12, 4) == b"ds64":
        where, field = 28, "<Q"  # what does not fit into 32 bits
        length = int.from_bytes(data.at(where, 8), "little")
    endless = _goes_to_the_end(data, start, length, struct.calcsize(field), kind)
    end = data.size if endless else start + length
    if codec in _MP3_CODECS:
        return mpeg_contents(data, start, end) or Contents(counted=True)
    if not endless:
        return Contents(counted=True)
    right = data.size - start + (kind.head.size if kind.counts_head else 0)
    right = right if field[1] in "qQ" else min(right, 0xFFFFFFFF)
    return replace(_with_length(data, where, struct.pack(field, right)), endless=kind in (_RIFF, _RIFX))


def _length_format(kind: _Chunked) -> str:
    return kind.head.format[0] + kind.head.format[-1]


def _aligned(place: int, kind: _Chunked) -> int:
    return -(-place // kind.align) * kind.align


def _with_length(data: Bytes, where: int, length: bytes) -> Contents:
    """Return the file with another length in its header."""
    pieces: tuple[Piece, ...] = ((0, where), length, (where + len(length), data.size))
    return Contents(parts=(pieces,), counted=True)


def _goes_to_the_end(data: Bytes, start: int, length: int, width: int, kind: _Chunked | None) -> bool:
    """Return whether audio goes on to the file's end, whatever length the header gives it.

    Raises:
        FaultError: the file is truncated, or two in one.
    """
    there = data.size - start
    if there < 0:
        raise FaultError(f"truncated: its audio begins at byte {start}, but there are {data.size} bytes; {_AGAIN}")
    if 0 < length <= there:
        return not is_no_audio(data, start + length, kind)
    if length == 0:
        return there > 0 and (data.zeros_from(start) or not is_no_audio(data, start, kind))
    if 0 < length < _STREAMING_BYTES[width] and length - there > start:  # else it counts the header as well
        raise FaultError(f"truncated: {length} bytes of audio are declared, {there} are there; {_AGAIN}")
    return True


def is_no_audio(data: Bytes, place: int, kind: _Chunked | None) -> bool:
    """Return whether from a place on there are only chunks, tags and zeros.

    Args:
        data: what follows the audio, or the whole file.
        place: where to begin.
        kind: how chunks are laid out; None if the container has none.

    Raises:
        FaultError: another recording begins there.
    """
    for _ in range(_MOST_CHUNKS):
        head = data.at(place, 64)
        if len(head) < (kind.head.size if kind else 1) or tag_end(data, place) != place:
            return True
        if not any(head) and data.zeros_from(place):
            return True
        padded = head.lstrip(b"\0")
        if chunked_kind(padded) or padded[:4] in (b".snd", b"dns.", b"OggS", b"fLaC"):
            raise FaultError(_JOINED.format(place))
        if kind is None:
            return False
        for start in (_aligned(place, kind), place):  # not everybody fills up odd lengths
            name, length = kind.head.unpack(data.at(start, kind.head.size).ljust(kind.head.size, b"\0"))
            after = start + length + (0 if kind.counts_head else kind.head.size)
            if name[:4].isascii() and name[:4].decode("ascii").isprintable() and start < after <= data.size + 1:
                break
        else:
            return False
        if name[:4] == kind.audio and after - start > kind.head.size:
            raise FaultError(_JOINED.format(start))
        place = after
    return False


def _au(data: Bytes, head: bytes) -> Contents:
    form = _AU_BIG if head[:4] == b".snd" else _AU_LITTLE
    _, start, length = form.unpack_from(head.ljust(form.size, b"\0"))
    if not _goes_to_the_end(data, start, length, 4, None):
        return Contents(counted=True)
    right = min(data.size - start, 0xFFFFFFFF)
    return _with_length(data, 8, struct.pack(form.format[0] + "I", right))


def _nist(data: Bytes, head: bytes) -> Contents:
    """Return what is in a NIST sphere file: a header of text, then samples."""
    size = int(head[8:16]) if head[8:16].strip().isdigit() else 1024
    text = data.at(0, min(size, 1 << 16))
    fields = dict(re.findall(rb"^(\w+) -\w+ (\S+)", text, re.MULTILINE))
    try:
        count, width = int(fields[b"sample_count"]), int(fields[b"sample_n_bytes"]) * int(fields[b"channel_count"])
    except (KeyError, ValueError):
        return Contents(counted=True)
    there = data.size - size
    if b"," in fields.get(b"sample_coding", b"") or width <= 0:  # compressed
        return Contents(counted=True)
    if count * width - there > size:
        raise FaultError(f"truncated: {count} samples are declared, {there // width} are there; {_AGAIN}")
    if data.at(size + count * width, 7) == b"NIST_1A":
        raise FaultError(_JOINED.format(size + count * width))
    return Contents(counted=True)


def _mp4(data: Bytes) -> Contents:
    """Return what is in an MP4 or QuickTime file, which only others decode."""
    place, films = 0, 0
    for _ in range(_MOST_CHUNKS):
        head = data.at(place, 16)
        if len(head) < 8:
            break
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0 is to the end of the file
            break
        films += name == b"moov"
        if films > 1:
            raise FaultError(_JOINED.format(place))
        if place + length > data.size and name.isalnum():
            raise FaultError(
                f"truncated: {length} bytes are declared at byte {place}, {data.size - place} are there; {_AGAIN}"
            )
        place += length
    return Contents(foreign=True)


_OGG_PAGE = struct.Struct("<4sBBqIIIB")  # magic, version, flags, position, stream, number, checksum, segments
_OGG_BEGINS = 2
_OGG_DECODED = (b"\x01vorbis", b"OpusHead")


def _ogg(data: Bytes) -> Contents:
    """Return the streams that follow each other in an Ogg file."""
    place, position, links = 0, -1, list[int]()
    in_headers, foreign = False, False
    while place < data.size:
        head = data.at(place, _OGG_PAGE.size + 255)
        if head[:4] != b"OggS" or len(head) < _OGG_PAGE.size:
            if tag_end(data, place) != place or data.zeros_from(place):
                break
            raise FaultError(f"truncated: the stream breaks off within a page at byte {place}; {_AGAIN}")
        _, _, flags, samples, _, _, _, segments = _OGG_PAGE.unpack_from(head)
        table = head[_OGG_PAGE.size : _OGG_PAGE.size + segments]
        body = place + _OGG_PAGE.size + segments
        if body + sum(table) > data.size:
            raise FaultError(f"truncated: the stream breaks off within a page at byte {place}; {_AGAIN}")
        if flags & _OGG_BEGINS:
            foreign |= in_headers or not data.at(body, 8).startswith(_OGG_DECODED)  # several streams at once
            if not in_headers:
                links.append(place)
                position = -1
        elif 0 <= samples < position:
            raise FaultError(f"damaged: the page at byte {place} is earlier than the one before it; {_AGAIN}")
        elif samples == -1 and any(value < 255 for value in table):  # -1 is for pages within one packet
            raise FaultError(f"damaged: the page at byte {place} has no time; {_AGAIN}")
        in_headers, position = bool(flags & _OGG_BEGINS), max(samples, position)
        place = body + sum(table)
    if foreign or len(links) < 2:
        return Contents(foreign=foreign, counted=not foreign)
    parts = tuple(((start, end),) for start, end in zip(links, [*links[1:], place], strict=True))
    return Contents(parts=parts, counted=True)


def _flac(data: Bytes, start: int) -> Contents:
    """Return what is in a FLAC file; its last frame tells how many samples there are."""
    info = data.at(start, 42)
    flac = partial(Contents, again=_FLAC_START, again_from=start + 16)
    if len(info) < 42 or info[4] & 0x7F != 0:
        return flac()  # the decoder will say what is wrong
    told = (info[21] & 15) << 32 | int.from_bytes(info[22:26], "big")
    largest = int.from_bytes(info[15:18], "big") or 1 << 16
    last = _last_flac_sample(data, int.from_bytes(info[8:10], "big"), largest)
    if told == 0 or last is None or told >= last:
        return flac(counted=last is not None and told == last)
    unknown = bytes([info[21] & 0xF0]) + bytes(4)
    place = start + 21
    return flac(parts=(((0, place), unknown, (place + 5, data.size)),))


def _last_flac_sample(data: Bytes, block_samples: int, largest_frame: int) -> int | None:
    """Return where the last frame of a FLAC file ends, in samples; None if none is found."""
    begin = max(0, data.size - 2 * largest_frame - 1024)
    tail = data.at(begin, data.size - begin)
    place = len(tail)
    while (place := tail.rfind(b"\xff", 0, place)) >= 0:
        end = _flac_frame_end(tail[place : place + 16], block_samples)
        if end is not None:
            return end
    return None


def _flac_frame_end(frame: bytes, block_samples: int) -> int | None:
    """Return at which sample a FLAC frame ends; None if none begins there."""
    if len(frame) < 6 or frame[1] & 0xFE != 0xF8 or frame[2] >> 4 == 0 or frame[3] & 1 or frame[3] >> 4 > 10:
        return None
    more = max(0, 7 - (frame[4] ^ 0xFF).bit_length())  # bytes of the number that follow, as in UTF-8
    number = frame[4] & (0x7F if more == 0 else 0x3F >> more)
    for byte in frame[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    place, code = 5 + more, frame[2] >> 4
    if code in (6, 7):
        samples = int.from_bytes(frame[place : place + code - 5], "big") + 1
        place += code - 5
    else:
        samples = 192 if code == 1 else 576 << code - 2 if code < 6 else 256 << code - 8
    place += {12: 1, 13: 2, 14: 2}.get(frame[2] & 15, 0)
    if place >= len(frame) or _crc8(frame[:place]) != frame[place]:
        return None
    return (number if frame[1] & 1 else number * block_samples) + samples


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1) ^ (0x107 if crc & 0x80 else 0)
    return crc
