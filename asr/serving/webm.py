"""Opus in WebM, as browsers record it, while it arrives → samples, by a process of ffmpeg."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from asr.errors import AudioError, DependencyError
from asr.files import printable

RATE_HZ = 48_000  # of Opus
_READ_BYTES = 1 << 16
_SAID_BYTES = 1000  # of ffmpeg's messages
# Nothing is looked at beyond the first block, and nothing is kept back: somebody waits for the words.
_AT_ONCE = ("-probesize", "32", "-analyzeduration", "0")


class WebmDecoder:
    """Pieces of a WebM stream → signed 16-bit integers, little-endian, one channel, at `RATE_HZ`.

    What nobody reads stays in the pipes, which hold little. Then `write` waits.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Take a running ffmpeg."""
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._input, self._output, self._messages = process.stdin, process.stdout, process.stderr
        self._said = asyncio.create_task(self._listen())

    async def write(self, data: bytes) -> None:
        """Decode the next bytes."""
        with suppress(ConnectionError):  # ffmpeg has ended; `read` says why
            self._input.write(data)
            await self._input.drain()

    async def end(self) -> None:
        """Say that nothing follows."""
        with suppress(ConnectionError):
            self._input.close()
            await self._input.wait_closed()

    async def read(self) -> bytes:
        """Return samples as soon as there are any; none at the end.

        Raises:
            AudioError: ffmpeg cannot decode what it was given.
        """
        data = await self._output.read(_READ_BYTES)
        if not data and await self._process.wait() != 0:
            said = (await self._said).strip().splitlines()
            reason = f" ({printable(said[0])})" if said else ""
            raise AudioError(f"the stream is not Opus in WebM, or is damaged{reason}")
        return data

    async def kill(self) -> None:
        """End the process, and all that it has started."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                if os.name == "posix":
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()
        await self._process.wait()
        self._input.close()
        await self._said

    async def _listen(self) -> str:
        """Read all of ffmpeg's messages, so that it never waits, and return the beginning."""
        said = b""
        while data := await self._messages.read(_READ_BYTES):
            said = (said + data)[:_SAID_BYTES]
        return said.decode("utf-8", "replace")


@asynccontextmanager
async def webm_decoder() -> AsyncIterator[WebmDecoder]:
    """Start a decoder, which ends with the block.

    Raises:
        DependencyError: ffmpeg is not installed.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise DependencyError(
            "the server needs ffmpeg for Opus in WebM, and it is not installed there; send pcm16 instead"
        )
    command = [program, "-hide_banner", "-nostdin", "-nostats", "-loglevel", "error", *_AT_ONCE]
    command += ["-protocol_whitelist", "pipe", "-f", "matroska", "-i", "pipe:0", "-map", "0:a:0"]
    command += ["-ac", "1", "-ar", str(RATE_HZ), "-f", "s16le", "-flush_packets", "1", "pipe:1"]
    pipe = asyncio.subprocess.PIPE
    decoder = WebmDecoder(
        await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=os.name == "posix"
        )
    )
    try:
        yield decoder
    finally:
        await decoder.kill()
