"""A WebSocket with audio that is still arriving → what is said so far, and the words of each utterance at its end.

The first message says what the audio is; samples or pieces of a WebM file follow, and `{"type": "end"}` after the last.
`docs/serving.md` lists the messages.

Audio that arrives faster than it is heard is not read from the connection, so a sender cannot fill the memory. Nor can
one that does not read his answers. Each stream ends by itself: when its sender is silent, has gone, does not read, or
has reached the limit.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from asr.audio.segment import STREAM_RULE
from asr.decoding.hotwords import hotword_bonuses
from asr.decoding.streaming import Partial
from asr.errors import AsrError, AudioError, DependencyError
from asr.files import printable, to_json
from asr.reading import parse_json
from asr.records import Record, checked
from asr.serving.live_worker import (
    StreamAudio,
    StreamFailed,
    StreamHeard,
    StreamPartial,
    StreamReady,
    StreamStart,
    StreamStop,
)
from asr.serving.pool import Pool, Worker
from asr.serving.webm import RATE_HZ, WebmDecoder, webm_decoder
from asr.serving.worker import FailureError

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

PROTOCOL = "asr"  # which a browser names besides its token, because a server must choose one of those that it names
_RATES_HZ = (4_000, 192_000)
_MOST_HOTWORDS = 1000
_WAITING_S = 5.0  # of audio that was read and not yet heard
_AT_ONCE_S = 2.0  # of audio that a worker is given in one message
_ANSWER_S = 60.0  # of a worker
_CLOSE_S = 5.0  # after it, a connection that does not close is left to the server

# Codes with which a connection is closed. Source: https://www.iana.org/assignments/websocket
_NORMAL, _UNUSABLE, _REFUSED, _TOO_MUCH, _DEFECT, _LATER = 1000, 1007, 1008, 1009, 1011, 1013


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
    message_bytes: int = 1 << 20
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


class _GoneError(Exception):
    """The sender has closed the connection."""


class _First(Record):
    """The first message."""

    model: str = ""
    encoding: Literal["pcm16", "webm"] = "pcm16"
    sample_rate_hz: int | None = None
    hotwords: list[str] | dict[str, float] = Field(default_factory=list)
    end_silence_s: float = STREAM_RULE.pause_s


class Live:
    """All streams of a server.

    Attributes:
        limits: of streams that begin.
        audio_s: seconds of audio that were heard.
    """

    def __init__(self, pool: Pool, models: tuple[str, ...], limits: LiveLimits) -> None:
        """Begin with none.

        Args:
            pool: the workers.
            models: names; the first is that of streams that name none.
            limits: of each stream, and of their number.
        """
        self._pool, self._models, self.limits = pool, models, limits
        self._of_worker: Counter[Worker] = Counter()
        self.audio_s = 0.0

    @property
    def streams(self) -> int:
        """Number of streams at present."""
        return self._of_worker.total()

    async def stream(self, websocket: WebSocket) -> None:
        """Transcribe what comes through a WebSocket; who may ask has been seen to."""
        protocols = websocket.scope.get("subprotocols", [])
        await websocket.accept(PROTOCOL if PROTOCOL in protocols else None)
        connection = _Connection(websocket, self.limits)
        code, reason = _NORMAL, ""
        try:
            first = self._first(await connection.message(self.limits.start_s), websocket.query_params.get("model", ""))
            async with self._place() as worker:
                await _Session(self._pool, worker, connection, self.limits, self).run(first)
        except _GoneError:
            return
        except StreamError as error:
            code, reason = error.code, str(error)
        except AudioError as error:
            code, reason = _UNUSABLE, str(error)
        except DependencyError as error:
            code, reason = _DEFECT, str(error)
        with suppress(_GoneError, StreamError):
            if reason:
                await connection.send({"type": "error", "message": reason})
            await connection.close(code, reason)

    def _first(self, message: str | bytes, model: str) -> _First:
        """Return what the first message says of the stream.

        Raises:
            StreamError: it is none, or has a value that it cannot have.
        """
        if isinstance(message, bytes):
            raise StreamError(_REFUSED, 'the first message is a text, such as {"sample_rate_hz": 16000}; audio follows')
        try:
            content = parse_json(message, AsrError, "the first message")
            first = checked(_First, content, "the first message", AsrError, "see docs/serving.md")
        except AsrError as error:
            raise StreamError(_REFUSED, str(error)) from None
        first = first.model_copy(update={"model": first.model or model or self._models[0]})
        if first.encoding == "webm":
            first = first.model_copy(update={"sample_rate_hz": RATE_HZ})
        if first.sample_rate_hz is None or not _RATES_HZ[0] <= first.sample_rate_hz <= _RATES_HZ[1]:
            message = f"sample_rate_hz is {first.sample_rate_hz}; pcm16 needs one from {_RATES_HZ[0]} to {_RATES_HZ[1]}"
            raise StreamError(_REFUSED, message)
        if first.model not in self._models:
            there = ", ".join(self._models)
            raise StreamError(_REFUSED, f"there is no model {printable(first.model)!r}; there are: {there}")
        if len(first.hotwords) > _MOST_HOTWORDS:
            raise StreamError(_REFUSED, f"there are {len(first.hotwords)} hotwords; the most are {_MOST_HOTWORDS}")
        return first

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[Worker]:
        """Take a place in the worker that has the fewest streams.

        Raises:
            StreamError: there is none.
        """
        if self.streams >= self.limits.streams:
            reason = f"{self.limits.streams} streams are open, which is the most; try again later"
            raise StreamError(_LATER, reason)
        if not self._pool.workers:
            raise StreamError(_LATER, "the workers are loading the models; try again in some seconds")
        worker = min(self._pool.workers, key=lambda worker: self._of_worker[worker])
        self._of_worker[worker] += 1
        try:
            yield worker
        finally:
            self._of_worker[worker] -= 1
            if not self._of_worker[worker]:
                del self._of_worker[worker]


class _Connection:
    """Messages of a WebSocket, within limits."""

    def __init__(self, websocket: WebSocket, limits: LiveLimits) -> None:
        self._websocket, self._limits = websocket, limits

    async def message(self, within_s: float) -> str | bytes:
        """Return the next message.

        Raises:
            StreamError: none comes within a time, or it is too large.
            _GoneError: the connection was closed.
        """
        try:
            message = await asyncio.wait_for(self._websocket.receive(), within_s)
        except asyncio.TimeoutError:
            raise StreamError(_REFUSED, f"no message came for {within_s:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise _GoneError
        content: str | bytes = message.get("text") or message.get("bytes") or b""
        if len(content) > self._limits.message_bytes:
            raise StreamError(_TOO_MUCH, f"a message is larger than {self._limits.message_bytes} bytes")
        return content

    async def send(self, content: object) -> None:
        """Send JSON.

        Raises:
            StreamError: it is not taken within a time.
            _GoneError: the connection was closed.
        """
        await self._within(self._websocket.send_text(to_json(content)), self._limits.send_s)

    async def close(self, code: int, reason: str) -> None:
        """Close the connection; the reason is cut to what fits.

        Raises:
            StreamError, _GoneError: as `send`.
        """
        short = reason.encode()[:120].decode(errors="ignore")
        await self._within(self._websocket.close(code, short), _CLOSE_S)

    async def _within(self, sending: Coroutine[Any, Any, None], seconds: float) -> None:
        from starlette.websockets import WebSocketDisconnect

        try:
            await asyncio.wait_for(sending, seconds)
        except asyncio.TimeoutError:
            raise StreamError(_REFUSED, f"the answers were not read for {seconds:g} s") from None
        except (WebSocketDisconnect, RuntimeError, OSError):
            raise _GoneError from None


class _Inbox:
    """Samples that were read and are to be heard: a few seconds at most."""

    def __init__(self, rate_hz: int) -> None:
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


class _Session:
    """One stream: reads audio, gives it to a worker, and sends what the worker answers."""

    def __init__(self, pool: Pool, worker: Worker, connection: _Connection, limits: LiveLimits, live: Live) -> None:
        self._worker, self._connection, self._limits, self._live = worker, connection, limits, live
        self._number = pool.new_number()
        self._answers: asyncio.Queue[object] = asyncio.Queue()
        self._turn = asyncio.Semaphore(0)  # free while the worker has nothing to hear and all answers were sent
        self._heard_s = 0.0

    async def run(self, first: _First) -> None:
        """Transcribe to the end.

        Raises:
            StreamError, AudioError, DependencyError: the stream ends before its end.
            _GoneError: the connection was closed.
        """
        assert first.sample_rate_hz is not None
        bonuses = hotword_bonuses(first.hotwords)
        start = StreamStart(first.model, first.sample_rate_hz, bonuses, first.end_silence_s)
        inbox = _Inbox(start.sample_rate_hz)
        self._worker.listeners[self._number] = self._answers.put_nowait
        try:
            async with AsyncExitStack() as stack:
                self._worker.send(self._number, start)
                if first.encoding == "webm":
                    decoder = await stack.enter_async_context(webm_decoder())
                    reading = [self._read_into(decoder), _decode(decoder, inbox)]
                else:
                    reading = [self._read_into(inbox)]
                await _until_first(self._answer(first), *reading, self._hear(inbox, start.sample_rate_hz))
        finally:
            del self._worker.listeners[self._number]
            self._worker.send(self._number, StreamStop())
            self._live.audio_s += self._heard_s

    async def _read_into(self, target: _Inbox | WebmDecoder) -> None:
        """Read the audio up to its end."""
        put = target.put if isinstance(target, _Inbox) else target.write
        while True:
            message = await self._connection.message(self._limits.idle_s)
            if isinstance(message, bytes):
                await put(message)
            elif parse_json(message, AudioError, "a message") == {"type": "end"}:
                await target.end()
                break
            else:
                raise StreamError(_REFUSED, 'a text is the first message, or {"type": "end"}; audio is binary')
        await self._connection.message(self._limits.audio_s)  # nothing comes but the end of the connection
        raise StreamError(_REFUSED, "a message came after the end")

    async def _hear(self, inbox: _Inbox, rate_hz: int) -> None:
        """Give the audio to the worker, the next once all answers to the one before were sent."""
        while True:
            await self._turn.acquire()
            pcm = await inbox.take()
            self._heard_s += len(pcm) / 2 / rate_hz
            if self._heard_s > self._limits.audio_s:
                raise StreamError(_TOO_MUCH, f"the stream is longer than {self._limits.audio_s:g} s; begin another one")
            self._worker.send(self._number, StreamAudio(pcm, last=not pcm))
            if not pcm:
                return

    async def _answer(self, first: _First) -> None:
        """Send what the worker answers, up to the end of the stream."""
        while True:
            match await self._next_answer():
                case StreamReady(notes):
                    await self._connection.send({"type": "ready", "model": first.model, "notes": list(notes)})
                    self._turn.release()
                case StreamPartial(text):
                    await self._connection.send({"type": "partial", "text": text})
                case StreamHeard(finals, last):
                    for final in finals:
                        await self._connection.send(_final(final))
                    if last:
                        await self._connection.send({"type": "end", "duration_s": round(self._heard_s, 3)})
                        return
                    self._turn.release()
                case StreamFailed(reason, is_refused):
                    raise StreamError(_REFUSED if is_refused else _DEFECT, reason)
                case FailureError() as failure:
                    raise StreamError(_DEFECT, failure.message)

    async def _next_answer(self) -> object:
        """Return the worker's next answer. While the sender is not idle, there is always one to come."""
        try:
            return await asyncio.wait_for(self._answers.get(), self._limits.idle_s + _ANSWER_S)
        except asyncio.TimeoutError:
            raise StreamError(_DEFECT, f"the audio was not heard within {_ANSWER_S:g} s; try again later") from None


async def _decode(decoder: WebmDecoder, inbox: _Inbox) -> None:
    while pcm := await decoder.read():
        await inbox.put(pcm)
    await inbox.end()


async def _until_first(main: Coroutine[Any, Any, None], *others: Coroutine[Any, Any, None]) -> None:
    """Do things at the same time until the first is done, or any fails; then nothing of them goes on."""
    tasks = [asyncio.ensure_future(one) for one in (main, *others)]
    waiting = set(tasks)
    try:
        while not tasks[0].done():
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        # Again and again, because before Python 3.12 wait_for may take no notice of being cancelled.
        while waiting := {task for task in tasks if not task.done()}:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting, timeout=0.05)


def _final(final: Partial) -> dict[str, object]:
    words = [
        {
            **word.to_json(),
            "start_s": round(word.start_s, 3),
            "end_s": round(word.end_s, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in final.words
    ]
    confidence = sum(word.confidence for word in final.words) / len(words) if words else 0.0
    return {
        "type": "final",
        "text": final.text,
        "start_s": words[0]["start_s"] if words else None,
        "end_s": words[-1]["end_s"] if words else None,
        "confidence": round(confidence, 4),
        "words": words,
    }
