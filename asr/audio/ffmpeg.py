"""Audio and video that libsndfile does not know → samples, by a process of ffmpeg where it is installed.

ffmpeg writes the first audio track, with its own rate and channels, as an AU stream: a header of six numbers, then
float samples in big-endian order. Source: https://pubs.opengroup.org/external/auformat.html

It opens files of known formats only: a playlist, whatever its suffix, could lead anywhere and never end.
"""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from asr.audio.pieces import Bytes, Contents
from asr.errors import AudioError, UnknownFormatError

FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,eac3,flac,flv,g722,gsm,ircam,matroska,mov,mp3,mpeg,mpegts,"
    "nistsphere,ogg,tta,voc,w64,wav,wv"
)
"""ffmpeg's names of the formats it may open: files of audio or video that name no other files."""

STALL_S = 120.0  # without a block of samples for so long, it is given up

_AU_HEADER = struct.Struct(">4s5I")  # magic, place of the first sample, bytes of samples, encoding, rate, channels
_AU_FLOAT = 6
_MOST_CHANNELS = 1024
_MOST_BYTES = 1 << 24  # of a block
_DURATION = re.compile(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)")
_DECODED = re.compile(r"Input stream #0:\d+ \(audio\):.*frames decoded.*?\((\d+) samples\)")
# The first error says what is wrong; the next ones are its consequences.
_ERROR = re.compile(r"^(?:\[[^\]]* @ [^\]]*\] )*\[(?:error|fatal)\] (.+)$", re.MULTILINE)
_NO_SOUND = "matches no streams"
_NO_FORMAT = "Invalid data found when processing input"
# With these messages ffmpeg ends as if it had read the whole file.
_CUT_OFF = re.compile(r"File ended prematurely|partial file|Packet corrupt")
_JOINED = re.compile(r"Found duplicated MOOV Atom|File extends beyond end of segment")
_DROPPED_S = 0.1  # of samples that were decoded and did not arrive: more than the rounding of times


class FfmpegStream:
    """A recording that a running ffmpeg decodes; see `asr.audio.sound_file.Recording`.

    Attributes:
        sample_rate_hz: of the first audio track.
        channels: their number in that track.
        samples: None, since only decoding tells.
        duration_s: of the longest track, as the file declares it; None if it does not.
    """

    samples = None

    def __init__(
        self, process: subprocess.Popen[bytes], messages: IO[bytes], path: Path, name: str, contents: Contents
    ):
        """Read the header, which ffmpeg writes once it has found the audio.

        Args:
            process: ffmpeg.
            messages: what it says.
            path: the file that it decodes.
            name: what messages call the file.
            contents: what its bytes tell.

        Raises:
            AudioError: ffmpeg finds no audio.
        """
        assert process.stdout is not None
        self._process, self._messages, self._path, self._name, self._contents = process, messages, path, name, contents
        self._pipe, self._stalled = process.stdout, False
        header = self._read(_AU_HEADER.size)
        if len(header) < _AU_HEADER.size:
            self._check_exit()
            raise AudioError(f"{name}: ffmpeg found no audio in it")
        magic, start, _, encoding, self.sample_rate_hz, self.channels = _AU_HEADER.unpack(header)
        if magic != b".snd" or encoding != _AU_FLOAT or not 0 < self.channels <= _MOST_CHANNELS:
            raise AudioError(f"{name}: the ffmpeg on the PATH did not write an AU stream; install another one")
        self._read(start - _AU_HEADER.size)
        declared = _DURATION.search(self._said())
        self.duration_s = None
        if declared:
            hours, minutes, seconds = declared.groups()
            self.duration_s = 3600 * int(hours) + 60 * int(minutes) + float(seconds)

    def seek(self, sample: int) -> bool:
        """Tell whether decoding begins at a sample: only at the first."""
        return sample == 0

    def blocks(self, block_samples: int) -> Iterator[NDArray[np.float32]]:
        """Yield `(sample, channel)` to the end of the track.

        Raises:
            AudioError: ffmpeg failed or stalled, or did not decode everything.
        """
        decoded, width = 0, 4 * self.channels
        size = max(1, min(block_samples, _MOST_BYTES // width)) * width
        while True:
            data = self._read(size)
            whole = len(data) // width
            if whole:
                yield np.frombuffer(data, ">f4", whole * self.channels).astype(np.float32).reshape(-1, self.channels)
            decoded += whole
            if len(data) < size:
                break
        self._check_exit()
        self._check_whole(decoded)

    def _read(self, count: int) -> bytes:
        """Return so many bytes, fewer at the end; end the process if they do not come."""
        watch = threading.Timer(STALL_S, self._give_up)
        watch.daemon = True
        watch.start()
        try:
            return self._pipe.read(count)
        finally:
            watch.cancel()

    def _give_up(self) -> None:
        self._stalled = True
        end(self._process)

    def _check_exit(self) -> None:
        status, said = self._process.wait(), self._said()
        if self._stalled:
            raise AudioError(f"{self._name}: ffmpeg made no progress for {STALL_S:g} s and was ended")
        if "Format not on whitelist" in said:
            raise AudioError(
                f"{self._name}: a playlist, or in another format that is not opened; give the audio or video file "
                "itself, or convert it first"
            )
        first = _ERROR.search(said)
        if status != 0 or (first and self._contents.endless):
            reason = first[1] if first else said.strip().rpartition("\n")[2].removeprefix("[info] ")
            if reason.endswith(_NO_FORMAT):
                raise UnknownFormatError(f"{self._name}: not audio or video in a format that ffmpeg knows")
            if _NO_SOUND in reason:
                raise AudioError(f"{self._name}: holds no sound, only pictures or other tracks")
            raise AudioError(f"{self._name}: ffmpeg cannot decode it ({reason.strip() or f'exit status {status}'})")
        if _CUT_OFF.search(said) and not self._contents.endless:
            raise AudioError(f"{self._name}: truncated: it ends before its header says; copy or convert the file again")
        if _JOINED.search(said):
            raise AudioError(f"{self._name}: another recording follows in it; write each to a file of its own")

    def _check_whole(self, decoded: int) -> None:
        if decoded == 0:
            raise AudioError(f"{self._name}: holds no samples (0 s of audio)")
        counted = _DECODED.search(self._said())
        if counted and int(counted[1]) - decoded > _DROPPED_S * self.sample_rate_hz:
            dropped_s = (int(counted[1]) - decoded) / self.sample_rate_hz
            raise AudioError(
                f"{self._name}: times go back in it, so that ffmpeg dropped {dropped_s:.1f} s; convert it first, e.g. "
                f"ffmpeg -i {self._path.name} -af asetpts=N/SR/TB {self._path.stem}.wav"
            )
        with self._path.open("rb") as file:
            if (place := Bytes(file).find_again(self._contents)) is not None:
                raise AudioError(
                    f"{self._name}: another recording follows at byte {place}; write each to a file of its own"
                )

    def _said(self) -> str:
        self._messages.seek(0)
        return self._messages.read().decode("utf-8", "replace")


@contextmanager
def open_with_ffmpeg(program: str, path: Path, name: str, contents: Contents | None = None) -> Iterator[FfmpegStream]:
    """Decode a file's first audio track; the process ends with the block.

    Args:
        program: path of ffmpeg.
        path: the file.
        name: the file's name in messages.
        contents: what its bytes tell.

    Raises:
        AudioError: ffmpeg cannot decode the file. The message gives ffmpeg's reason.
        UnknownFormatError: it does not know the format.
    """
    contents = contents or Contents()
    command = [program, "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+verbose"]
    command += ["-protocol_whitelist", "file,pipe", "-format_whitelist", FORMATS]
    # Where the length is ignored, the last packet may be shorter than others, which would end ffmpeg with an error.
    command += ["-ignore_length", "1"] if contents.endless else ["-xerror"]
    command += ["-i", f"file:{path}", "-map", "0:a:0"]
    # If the track begins after the picture, silence goes before it, so that times are those of the video.
    command += ["-af", "aresample=async=1:first_pts=0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    with (
        _messages_file(name) as messages,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=messages,
            start_new_session=os.name == "posix",
        ) as process,
    ):
        try:
            yield FfmpegStream(process, messages, path, name, contents)
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, and all that it has started."""
    if os.name == "posix" and process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _messages_file(name: str) -> IO[bytes]:
    """Return a file without a name, in memory where the system can; appending, so that reading moves no writer."""
    if hasattr(os, "memfd_create"):
        import fcntl

        descriptor = os.memfd_create("ffmpeg")
        fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
        return os.fdopen(descriptor, "a+b")
    try:
        return tempfile.TemporaryFile("a+b")
    except OSError as error:
        raise AudioError(f"{name}: no temporary file can be made for ffmpeg's messages ({error}); set TMPDIR") from None
