"""Pieces of a sound file (some of its bytes, others replaced) → a file for a decoder; nothing is copied.

`containers.py` and `mpeg.py` say of which pieces: a header with the right length, then the audio.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Buffer

Piece: TypeAlias = "bytes | tuple[int, int]"
"""Bytes, or what a file holds from one place up to another."""

BLOCK_BYTES = 1 << 20


class FaultError(Exception):
    """What is wrong with a file's bytes, in words that follow its name."""


@dataclass(frozen=True)
class Contents:
    """What is in an audio file, as far as its bytes tell.

    Attributes:
        parts: the recordings that follow each other in it, each as the pieces to decode. Empty if the file is decoded
            as it is.
        foreign: libsndfile cannot decode it, whatever it says.
        counted: libsndfile knows the number of samples before it has decoded them.
        samples: how many the frames of the file hold, if that was counted here.
        endless: it is a WAV file whose length is wrong: the audio goes on to the end of the file.
        again: a pattern with which a second recording would begin. Nobody would decode it, so the file is refused if
            that is found further on.
        again_from: the byte from which it would be another recording.
    """

    parts: tuple[tuple[Piece, ...], ...] = ()
    foreign: bool = False
    counted: bool = False
    samples: int | None = None
    endless: bool = False
    again: bytes = b""
    again_from: int = 16


class Bytes:
    """The bytes of an open file."""

    def __init__(self, file: BinaryIO) -> None:
        """Take a file that can seek."""
        self._file = file
        self.size = file.seek(0, io.SEEK_END)

    def at(self, place: int, count: int) -> bytes:
        """Return `count` bytes from a place on, fewer at the end."""
        self._file.seek(place)
        return self._file.read(count)

    def blocks(self, start: int, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield all bytes from a place on in blocks with their places; the end of a block comes again in the next."""
        for place in range(start, self.size, BLOCK_BYTES):
            yield place, self.at(place, BLOCK_BYTES + overlap)

    def zeros_from(self, place: int) -> bool:
        """Return whether nothing but zeros follows."""
        return not any(block.strip(b"\0") for _, block in self.blocks(place))

    def find_again(self, contents: Contents) -> int | None:
        """Return where another recording begins than the one that `contents` is about; None if none does."""
        return self._find(contents.again, contents.again_from) if contents.again else None

    def _find(self, pattern: bytes, start: int) -> int | None:
        """Return where a regular expression, of up to 64 bytes, matches first from a place on."""
        compiled = re.compile(pattern, re.DOTALL)
        for place, block in self.blocks(start, overlap=64):
            if match := compiled.search(block):
                return place + match.start()
        return None


class Spliced(io.RawIOBase):
    """The pieces of a file as one file, to be read only."""

    def __init__(self, file: BinaryIO, pieces: Sequence[Piece]) -> None:
        """Lay the pieces one after the other.

        Args:
            file: can seek, and is used by nobody else meanwhile.
            pieces: what is read.
        """
        super().__init__()
        self._file, self._place = file, 0
        self._pieces: list[tuple[int, int, Piece]] = []  # where each begins and ends
        self.failed: OSError | None = None
        end = 0
        for piece in pieces:
            start, end = end, end + (len(piece) if isinstance(piece, bytes) else piece[1] - piece[0])
            self._pieces.append((start, end, piece))
        self.size = end

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place."""
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        return self._place

    def readinto(self, buffer: Buffer) -> int:
        """Fill a buffer; return how many bytes that took, fewer than it holds only at the end.

        Libraries in C call this and cannot pass an exception on: after one, nothing more comes, and `failed` keeps it.
        """
        view, done = memoryview(buffer).cast("B"), 0
        try:
            for start, end, piece in self._pieces:
                if start <= self._place < end and done < len(view):
                    first, count = self._place - start, min(len(view) - done, end - self._place)
                    if isinstance(piece, bytes):
                        data = piece[first : first + count]
                    else:
                        self._file.seek(piece[0] + first)
                        data = self._file.read(count)
                    view[done : done + len(data)] = data
                    done += len(data)
                    self._place += len(data)
        except OSError as error:
            self.failed = error
        return done
