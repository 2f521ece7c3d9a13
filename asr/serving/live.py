"""A WebSocket with audio that is still arriving → what is said so far, and the words of each utterance at its end.

The first message says what the audio is; samples or pieces of a WebM file follow, and `{"type": "end"}` after the last.
`docs/serving.md` lists the messages.

Audio that arrives faster than it is heard is not read from the connection, so a sender cannot fill the memory. Nor can
one that does not read his answers. Each stream ends by itself: when its sender is silent, has gone, does not read, or
has reached the limit.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from asr.decoding.hotwords import hotword_bonuses
from asr.decoding.streaming import Partial
from asr.errors import AsrError, AudioError, DependencyError
from asr.files import printable
from asr.reading import parse_json
from asr.records import Record, checked
from asr.serving.connection import (
    DEFECT,
    GONE,
    LATER,
    NORMAL,
    REFUSED,
    TOO_MUCH,
    UNUSABLE,
    Connection,
    GoneError,
    Inbox,
    LiveLimits,
    StreamError,
)
from asr.serving.fair_queue import sender_of
from asr.serving.live_worker import (
    PAUSE_S,
    StreamAudio,
    StreamFailed,
    StreamHeard,
    StreamPartial,
    StreamReady,
    StreamStart,
    StreamStop,
)
from asr.serving.openai_form import RefusalError, require_few
from asr.serving.pool import Pool, Worker
from asr.serving.webm import RATE_HZ, WebmDecoder, webm_decoder
from asr.serving.worker import FailureError
from asr.transcript.transcript import rounded_word

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

PROTOCOL = "asr"  # which a browser names besides its token, because a server must choose one of those that it names
_RATES_HZ = (4_000, 192_000)
_ANSWER_S = 60.0  # of a worker


class _First(Record):
    """The first message."""

    model: str = ""
    encoding: Literal["pcm16", "webm"] = "pcm16"
    sample_rate_hz: int | None = None
    hotwords: list[str] | dict[str, float] = Field(default_factory=list)
    end_silence_s: float = PAUSE_S


@dataclass
class StreamFacts:
    """What is known of a stream without its words.

    Attributes:
        model: its name; empty if none was chosen.
        audio_s: length of the audio that was heard.
        wall_s: time from the connection on.
        code: with which the connection was closed.
        error: why the stream ended before its end; empty if it did not.
    """

    model: str = ""
    audio_s: float = 0.0
    wall_s: float = 0.0
    code: int = NORMAL
    error: str = ""


class Live:
    """All streams of a server.

    Attributes:
        limits: of streams that begin.
        on_end: is called when a stream has ended.
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
        self.on_end: Callable[[StreamFacts], object] = lambda _: None

    @property
    def streams(self) -> int:
        """Number of streams at present."""
        return self._of_worker.total()

    async def stream(self, websocket: WebSocket) -> None:
        """Transcribe what comes through a WebSocket; who may ask has been seen to."""
        start_s = time.monotonic()
        protocols = websocket.scope.get("subprotocols", [])
        await websocket.accept(PROTOCOL if PROTOCOL in protocols else None)
        connection = Connection(websocket, self.limits)
        code, reason, facts = NORMAL, "", StreamFacts()
        try:
            first = self._first(await connection.message(self.limits.start_s), websocket.query_params.get("model", ""))
            facts.model = first.model
            async with self._place() as worker:
                sender = sender_of(websocket.scope.get("client"))
                await _Session(self._pool, worker, connection, self.limits, facts).run(first, sender)
        except GoneError:
            code = GONE
        except StreamError as error:
            code, reason = error.code, str(error)
        except AudioError as error:
            code, reason = UNUSABLE, str(error)
        except DependencyError as error:
            code, reason = DEFECT, str(error)
        finally:
            facts.wall_s = time.monotonic() - start_s
            facts.code, facts.error = code, reason
            self.on_end(facts)
        if code != GONE:
            with suppress(GoneError, StreamError):
                if reason:
                    await connection.send({"type": "error", "message": reason})
                await connection.close(code, reason)

    def _first(self, message: str | bytes, model: str) -> _First:
        """Return what the first message says of the stream.

        Raises:
            StreamError: it is none, or has a value that it cannot have.
        """
        if isinstance(message, bytes):
            raise StreamError(REFUSED, 'the first message is a text, such as {"sample_rate_hz": 16000}; audio follows')
        try:
            content = parse_json(message, AsrError, "the first message")
            first = checked(_First, content, "the first message", AsrError, "see docs/serving.md")
        except AsrError as error:
            raise StreamError(REFUSED, str(error)) from None
        first = first.model_copy(update={"model": first.model or model or self._models[0]})
        if first.encoding == "webm":
            first = first.model_copy(update={"sample_rate_hz": RATE_HZ})
        if first.sample_rate_hz is None or not _RATES_HZ[0] <= first.sample_rate_hz <= _RATES_HZ[1]:
            message = f"sample_rate_hz is {first.sample_rate_hz}; pcm16 needs one from {_RATES_HZ[0]} to {_RATES_HZ[1]}"
            raise StreamError(REFUSED, message)
        if first.model not in self._models:
            there = ", ".join(self._models)
            raise StreamError(REFUSED, f"there is no model {printable(first.model)!r}; there are: {there}")
        try:
            require_few(first.hotwords)
        except RefusalError as error:
            raise StreamError(REFUSED, str(error)) from None
        return first

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[Worker]:
        """Take a place in the worker that has the fewest streams.

        Raises:
            StreamError: there is none.
        """
        if self.streams >= self.limits.streams:
            reason = f"{self.limits.streams} streams are open, which is the most; try again later"
            raise StreamError(LATER, reason)
        if not self._pool.workers:
            raise StreamError(LATER, "the workers are loading the models; try again in some seconds")
        worker = min(self._pool.workers, key=lambda worker: self._of_worker[worker])
        self._of_worker[worker] += 1
        try:
            yield worker
        finally:
            self._of_worker[worker] -= 1
            if not self._of_worker[worker]:
                del self._of_worker[worker]


class _Session:
    """One stream: reads audio, gives it to a worker, and sends what the worker answers."""

    def __init__(
        self, pool: Pool, worker: Worker, connection: Connection, limits: LiveLimits, facts: StreamFacts
    ) -> None:
        self._worker, self._connection, self._limits, self._facts = worker, connection, limits, facts
        self._number = pool.new_number()
        self._answers: asyncio.Queue[object] = asyncio.Queue()
        self._turn = asyncio.Semaphore(0)  # free while the worker has nothing to hear and all answers were sent

    async def run(self, first: _First, sender: str) -> None:
        """Transcribe to the end.

        Raises:
            StreamError, AudioError, DependencyError: the stream ends before its end.
            GoneError: the connection was closed.
        """
        assert first.sample_rate_hz is not None
        bonuses = hotword_bonuses(first.hotwords)
        start = StreamStart(first.model, first.sample_rate_hz, bonuses, first.end_silence_s, sender)
        inbox = Inbox(start.sample_rate_hz)
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

    async def _read_into(self, target: Inbox | WebmDecoder) -> None:
        """Read the audio up to its end."""
        put = target.put if isinstance(target, Inbox) else target.write
        while True:
            message = await self._connection.message(self._limits.idle_s)
            if isinstance(message, bytes):
                await put(message)
            elif parse_json(message, AudioError, "a message") == {"type": "end"}:
                await target.end()
                break
            else:
                raise StreamError(REFUSED, 'a text is the first message, or {"type": "end"}; audio is binary')
        await self._connection.message(self._limits.audio_s)  # nothing comes but the end of the connection
        raise StreamError(REFUSED, "a message came after the end")

    async def _hear(self, inbox: Inbox, rate_hz: int) -> None:
        """Give the audio to the worker, the next once all answers to the one before were sent."""
        while True:
            await self._turn.acquire()
            pcm = await inbox.take()
            self._facts.audio_s += len(pcm) / 2 / rate_hz
            if self._facts.audio_s > self._limits.audio_s:
                raise StreamError(TOO_MUCH, f"the stream is longer than {self._limits.audio_s:g} s; begin another one")
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
                        await self._connection.send({"type": "end", "duration_s": round(self._facts.audio_s, 3)})
                        return
                    self._turn.release()
                case StreamFailed(reason, is_refused):
                    raise StreamError(REFUSED if is_refused else DEFECT, reason)
                case FailureError() as failure:
                    raise StreamError(DEFECT, failure.message)

    async def _next_answer(self) -> object:
        """Return the worker's next answer. While the sender is not idle, there is always one to come."""
        try:
            return await asyncio.wait_for(self._answers.get(), self._limits.idle_s + _ANSWER_S)
        except asyncio.TimeoutError:
            raise StreamError(DEFECT, f"the audio was not heard within {_ANSWER_S:g} s; try again later") from None


async def _decode(decoder: WebmDecoder, inbox: Inbox) -> None:
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
        for task in tasks:
            if not task.cancelled():
                task.exception()  # one is enough for the sender; asyncio would print those that nobody asked for


def _final(final: Partial) -> dict[str, object]:
    words = [rounded_word(word) for word in final.words]
    confidence = sum(word.confidence for word in final.words) / len(words) if words else 0.0
    return {
        "type": "final",
        "text": final.text,
        "start_s": words[0]["start_s"] if words else None,
        "end_s": words[-1]["end_s"] if words else None,
        "confidence": round(confidence, 4),
        "words": words,
    }
