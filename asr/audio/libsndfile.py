"""A file, or pieces of one → samples, decoded by libsndfile through soundfile from the start to the verified end."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.audio.pieces import Bytes, Contents, Piece, Spliced
from asr.errors import AudioError, AudioWarning, UnknownFormatError

UNKNOWN_SAMPLES = 1 << 62  # more are declared where nobody knows how many there are
# Other codecs cannot seek, or not to the same samples: they are decoded from the start.
_SEEKABLE = re.compile(r"PCM_|FLOAT|DOUBLE|[UA]LAW|(IMA|MS)_ADPCM|ALAC|VORBIS|OPUS")
_MOST_VALUES = 4_000_000  # of a block, samples times channels, even if a damaged header declares millions of channels
# An mp3's declared length counts encoder padding, which not every decoder returns: two MPEG frames of leeway.
_MP3_LEEWAY_SAMPLES = 2 * 1152
_MOST_SAMPLES_A_BYTE = 5_000  # digital silence takes a Vorbis file a byte for 1,000 or so


# What libmpg123 prints about damaged frames, for its programmers.
_FAULT = re.compile(rb"^(?:\[(?:src/)?(?:libmpg123/)?\w+\.c:|Note: |Warning: ).*\n?", re.MULTILINE)
_PRINTED_BYTES = 1 << 20
_redirecting = threading.Lock()  # standard errors belong to the whole process


class SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read from its start to its end.

    soundfile seeks after every read in files that can. Some codecs cannot, others lose what they keep of the samples
    before: an mp3 gives other samples then, and messages on stderr.
    """

    def seekable(self) -> bool:
        """Tell soundfile to read on where it is."""
        return False


class SoundStream:
    """A recording that libsndfile decodes; see `asr.audio.sound_file.Recording`.

    Attributes:
        sample_rate_hz: of each channel.
        channels: their number.
        samples: of each channel; None if only decoding tells.
    """

    def __init__(self, path: Path, name: str, raw: BinaryIO, contents: Contents, stack: ExitStack) -> None:
        """Open all parts of the file; the stack closes them.

        Raises:
            soundfile.LibsndfileError: libsndfile cannot; see `explained`.
            UnknownFormatError: it cannot decode all of the file.
            AudioError: the file has no samples, or parts that do not fit each other.
        """
        self._path, self._name, self._raw, self._contents = path, name, raw, contents
        self._start, self._spliced, self._faults = 0, list[Spliced](), 0
        parts: Sequence[Sequence[Piece]] = contents.parts or ((),)
        self._parts = [self._open(part, stack) for part in parts]
        first = self._parts[0]
        self.sample_rate_hz, self.channels = first.samplerate, first.channels
        for part in self._parts:
            if (part.samplerate, part.channels) != (first.samplerate, first.channels):
                raise AudioError(
                    f"{name}: recordings of different rates or numbers of channels follow each other in it "
                    f"({first.samplerate} Hz × {first.channels}, {part.samplerate} Hz × {part.channels}); "
                    "convert them one by one"
                )
        frames = sum(part.frames for part in self._parts)
        most = _MOST_SAMPLES_A_BYTE * path.stat().st_size
        self.samples = frames if contents.counted and frames <= most else None
        if contents.samples is not None and frames < contents.samples - _MP3_LEEWAY_SAMPLES:
            raise UnknownFormatError(f"{name}: libsndfile cannot decode all of it; convert it first, e.g. with ffmpeg")
        if frames == 0:
            raise AudioError(f"{name}: holds no samples (0 s of audio)")

    @property
    def duration_s(self) -> float | None:
        """Return the length of each channel, if it is known."""
        return None if self.samples is None else self.samples / self.sample_rate_hz

    def seek(self, sample: int) -> bool:
        """Begin at a sample and return True; return False where that is not possible to the sample."""
        first, *others = self._parts
        if sample and (others or not self._contents.counted or not _SEEKABLE.match(first.subtype)):
            return False
        with _decoding(self._name):
            self._start = first.seek(sample) if sample else 0
        return True

    def blocks(self, block_samples: int) -> Iterator[NDArray[np.float32]]:
        """Yield `(sample, channel)` to the end, which is verified. An `AudioWarning` says where an mp3 is damaged.

        Raises:
            AudioError: fewer samples can be decoded than there are, or another recording follows.
        """
        step, decoded = bounded(block_samples, self.channels), self._start
        for part in self._parts:
            # Fewer samples mean the end, or a hole, after which libsndfile goes on as if nothing were missing.
            samples = self._read(part, step)
            while len(samples):
                decoded += len(samples)
                yield samples
                if len(samples) < step:
                    break
                samples = self._read(part, step)
            self._check_part(part, decoded)
            decoded = 0
        if (place := Bytes(self._raw).find_again(self._contents)) is not None:
            raise AudioError(
                f"{self._name}: another recording follows at byte {place}; write each to a file of its own"
            )

        if self._faults:
            message = f"{self._name}: the mp3 decoder found {self._faults} faults in it; words there may be wrong"
            warnings.warn(message, AudioWarning, stacklevel=2)

    def _read(self, part: SequentialFile, most: int) -> NDArray[np.float32]:
        is_mpeg = part.subtype.startswith("MPEG")
        counted: AbstractContextManager[list[bytes]] = faults_counted() if is_mpeg else nullcontext([])
        with _decoding(self._name), counted as faults:
            samples: NDArray[np.float32] = part.read(most, dtype="float32", always_2d=True)
        self._faults += len(faults)
        return samples

    def _open(self, pieces: Sequence[Piece], stack: ExitStack) -> SequentialFile:
        # On most systems names are bytes, and need not be text.
        plain = str(self._path) if os.name == "nt" else os.fsencode(self._path)
        if pieces:
            self._spliced.append(Spliced(self._raw, pieces))
        part: SequentialFile = stack.enter_context(SequentialFile(self._spliced[-1] if pieces else plain))
        return part

    def _check_part(self, part: SequentialFile, decoded: int) -> None:
        for failed in (spliced.failed for spliced in self._spliced if spliced.failed):
            raise AudioError(f"{self._name}: cannot be read ({failed.strerror})")
        leeway = _MP3_LEEWAY_SAMPLES if part.subtype.startswith("MPEG") else 0
        wanted = part.frames if part.frames < UNKNOWN_SAMPLES else 1
        if decoded == 0 or decoded < wanted - leeway:
            raise AudioError(
                f"{self._name}: truncated: {wanted} samples were expected and {decoded} could be decoded; "
                "copy or convert the file again"
            )


def explained(name: str, error: soundfile.LibsndfileError) -> AudioError:
    """Return an error of libsndfile as one that says what is wrong with a file: `UnknownFormatError` if nothing is."""
    text = error.error_string.strip().rstrip(".")
    if "SF_INFO struct incomplete" in text:
        text = "its header declares a sample rate of 0 Hz or no channels"
    elif re.search("format not recognised|(unknown|unimplemented) format", text, re.IGNORECASE):
        return UnknownFormatError(f"{name}: libsndfile does not know its format")
    return AudioError(f"{name}: damaged or truncated ({text}); copy or convert the file again")


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except soundfile.LibsndfileError as error:
        raise explained(name, error) from None


@contextmanager
def faults_counted() -> Iterator[list[bytes]]:
    """Yield a list that gets the lines which libmpg123 prints meanwhile; other messages are printed at the end.

    libmpg123 prints to standard errors, past Python, so the stream itself is redirected, to a pipe.
    """
    faults: list[bytes] = []
    with _redirecting:
        kept = -1
        with suppress(OSError):  # it is closed
            kept = os.dup(2)
        if kept < 0 or os.name != "posix":
            yield faults
            return
        reading, writing = os.pipe()
        for end in (reading, writing):  # what does not fit into the pipe is dropped, not waited for
            os.set_blocking(end, False)
        try:
            os.dup2(writing, 2)
            yield faults
        finally:
            os.dup2(kept, 2)
            printed = b""
            with suppress(BlockingIOError):
                printed = os.read(reading, _PRINTED_BYTES)
            for end in (kept, reading, writing):
                os.close(end)
            faults += _FAULT.findall(printed)
            if others := _FAULT.sub(b"", printed):
                with suppress(OSError):
                    os.write(2, others)


def bounded(samples: int, channels: int) -> int:
    """Return how many samples to read at once: `samples`, or fewer if there are very many channels; at least 1."""
    return max(1, min(samples, _MOST_VALUES // channels))
