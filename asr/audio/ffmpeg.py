"""Audio and video that libsndfile does not know → samples, by a process of ffmpeg where it is installed.

ffmpeg writes the first audio track, with its own rate and channels, as an AU stream: a header of six numbers, then
float samples in big-endian order. Source: https://pubs.opengroup.org/external/auformat.html
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from asr.errors import AudioError

_AU_HEADER = struct.Struct(">4s5I")  # magic, place of the first sample, bytes of samples, encoding, rate, channels
_AU_FLOAT = 6
_DURATION = re.compile(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)")
# The first error says what is wrong; the next ones are its consequences.
_ERROR = re.compile(r"^(?:\[[^\]]* @ [^\]]*\] )*\[(?:error|fatal)\] (.+)$", re.MULTILINE)
# With these messages ffmpeg ends as if it had read the whole file.
_CUT_OFF = re.compile(r"File ended prematurely|partial file")


class FfmpegStream:
    """What a running ffmpeg says about a file, and then its samples.

    Attributes:
        sample_rate_hz: of the first audio track.
        channels: their number in that track.
        duration_s: of the longest track, as the file declares it; None if it does not.
    """

    def __init__(self, process: subprocess.Popen[bytes], messages: IO[bytes], name: str) -> None:
        """Read the header, which ffmpeg writes once it has found the audio.

        Raises:
            AudioError: ffmpeg finds no audio.
        """
        assert process.stdout is not None
        self._process, self._messages, self._name = process, messages, name
        self._samples = process.stdout
        header = self._samples.read(_AU_HEADER.size)
        if len(header) < _AU_HEADER.size:
            self._check_exit()
            raise AudioError(f"{name}: ffmpeg found no audio in it")
        magic, start, _, encoding, self.sample_rate_hz, self.channels = _AU_HEADER.unpack(header)
        if magic != b".snd" or encoding != _AU_FLOAT or self.sample_rate_hz == 0 or self.channels == 0:
            raise AudioError(f"{name}: the ffmpeg on the PATH did not write an AU stream; install another one")
        self._samples.read(start - _AU_HEADER.size)
        declared = _DURATION.search(self._said())
        self.duration_s = None
        if declared:
            hours, minutes, seconds = declared.groups()
            self.duration_s = 3600 * int(hours) + 60 * int(minutes) + float(seconds)

    def read(self, samples: int) -> NDArray[np.float32]:
        """Return the next samples as `(sample, channel)`, fewer at the end, then none.

        Raises:
            AudioError: ffmpeg failed.
        """
        data = self._samples.read(samples * self.channels * 4)
        if len(data) < samples * self.channels * 4:
            self._check_exit()
        whole = len(data) // (4 * self.channels) * self.channels
        return np.frombuffer(data, ">f4", whole).astype(np.float32).reshape(-1, self.channels)

    def _check_exit(self) -> None:
        status, said = self._process.wait(), self._said()
        if status != 0:
            first = _ERROR.search(said)
            reason = first[1] if first else said.strip().rpartition("\n")[2]
            raise AudioError(f"{self._name}: ffmpeg cannot decode it ({reason.strip() or f'exit status {status}'})")
        if _CUT_OFF.search(said):
            raise AudioError(f"{self._name}: truncated: it ends before its header says; copy or convert the file again")

    def _said(self) -> str:
        self._messages.seek(0)
        return self._messages.read().decode("utf-8", "replace")


@contextmanager
def open_with_ffmpeg(program: str, path: Path, name: str) -> Iterator[FfmpegStream]:
    """Decode a file's first audio track; the process ends with the block.

    Args:
        program: path of ffmpeg.
        path: the file. ffmpeg opens files only, even if a playlist holds other addresses.
        name: the file's name in messages.

    Raises:
        AudioError: ffmpeg cannot decode the file. The message gives ffmpeg's reason.
    """
    command = [program, "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info", "-xerror"]
    command += ["-protocol_whitelist", "file", "-i", f"file:{path}", "-map", "0:a:0"]
    # If the track begins after the picture, silence goes before it, so that times are those of the video.
    command += ["-af", "aresample=async=1:first_pts=0", "-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    with (
        tempfile.TemporaryFile("a+b") as messages,  # appending: a reader's position does not move the writer's
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages) as process,
    ):
        try:
            yield FfmpegStream(process, messages, name)
        finally:
            process.kill()
