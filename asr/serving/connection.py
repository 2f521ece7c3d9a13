"""A WebSocket → messages within limits; audio that was read and is still to be heard, a few seconds at most."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asr.files import to_json

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

MOST_MESSAGE_BYTES = 1 << 20
_WAITING_S = 5.0  # of audio that was read and not yet heard
_AT_ONCE_S = 2.0  # of audio that a worker is given in one message
_CLOSE_S = 5.0  # after it, a connection that does not close is left to the server

# Codes with which a connection is closed. Source: https://www.iana.org/assignments/websocket
NORMAL, UNUSABLE, REFUSED, TOO_MUCH, DEFECT, LATER = 1000, 1007, 1008, 1009, 1011, 1013
GONE = 1006  # by the sender; it is never sent


@dataclass(frozen=True)
class LiveLimits:
    """What a stream may take.

    Attributes:
        streams: number of streams at once; the next one is told to come later.
        audio_s: length of a stream.
        message_bytes: size of a message.
        start_s: until the first message comes.
        idle_s: between two messages.
        send_s: until a message is taken from the server.
    """

    streams: int = 20
    audio_s: float = 4 * 3600.0
    message_bytes: int = MOST_MESSAGE_BYTES
    start_s: float = 10.0
    idle_s: float = 30.0
    send_s: float = 10.0


class StreamError(Exception):
    """A stream ends before its end. It is no `AsrError`, because it never leaves the server.

    Attributes:
        code: with which its connection is closed.
    """

    def __init__(self, code: int, message: str) -> None:
        """Keep the code."""
        super().__init__(message)
        self.code = code


class GoneError(Exception):
    """The sender has closed the connection."""


class Connection:
    """Messages of a WebSocket, within limits."""

    def __init__(self, websocket: WebSocket, limits: LiveLimits) -> None:
        """Take a WebSocket that was accepted."""
        self._websocket, self._limits = websocket, limits

    async def message(self, within_s: float) -> str | bytes:
        """Return the next message.

        Raises:
            StreamError: none comes within a time, or it is too large.
            GoneError: the connection was closed.
        """
        try:
            message = await asyncio.wait_for(self._websocket.receive(), within_s)
        except asyncio.TimeoutError:
            raise StreamError(REFUSED, f"no message came for {within_s:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise GoneError
        content: str | bytes = message.get("text") or message.get("bytes") or b""
        if len(content) > self._limits.message_bytes:
            raise StreamError(TOO_MUCH, f"a message is larger than {self._limits.message_bytes} bytes")
        return content

    async def send(self, content: object) -> None:
        """Send JSON.

        Raises:
            StreamError: it is not taken within a time.
            GoneError: the connection was closed.
        """
        await self._within(self._websocket.send_text(to_json(content)), self._limits.send_s)

    async def close(self, code: int, reason: str) -> None:
        """Close the connection; the reason is cut to what fits.

        Raises:
            StreamError, GoneError: as `send`.
        """
        short = reason.encode()[:120].decode(errors="ignore")
        await self._within(self._websocket.close(code, short), _CLOSE_S)

    async def _within(self, sending: Coroutine[Any, Any, None], seconds: float) -> None:
        from starlette.websockets import WebSocketDisconnect

        try:
            await asyncio.wait_for(sending, seconds)
        except asyncio.TimeoutError:
            raise StreamError(REFUSED, f"the answers were not read for {seconds:g} s") from None
        except (WebSocketDisconnect, RuntimeError, OSError):
            raise GoneError from None


class Inbox:
    """Samples that were read and are to be heard: a few seconds at most."""

    def __init__(self, rate_hz: int) -> None:
        """Begin with none."""
        self._most, self._at_once = int(_WAITING_S * rate_hz) * 2, int(_AT_ONCE_S * rate_hz) * 2
        self._data, self._ended = bytearray(), False
        self._changed = asyncio.Condition()

    async def put(self, pcm: bytes) -> None:
        """Add samples, once there is room."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._data) < self._most)
            self._data += pcm
            self._changed.notify_all()

    async def end(self) -> None:
        """Say that nothing follows."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def take(self) -> bytes:
        """Return what has come by now, whole samples; nothing at the end."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._data) >= 2 or self._ended)
            count = min(len(self._data) // 2 * 2, self._at_once)
            pcm = bytes(self._data[:count])
            del self._data[:count]
            self._changed.notify_all()
            return pcm
