"""HTTP on one connection, within limits that uvicorn has not: silence, tiny pieces, answers that nobody reads.

Nothing here looks at what a request asks for. Each limit ends one connection, so that others do not notice it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 20.0  # within which the headers of a request must have come
MOST_WAITING = 200  # connections without a request; for the next one, the one that has waited longest is closed
_LOOK_S = 10.0  # an answer of which nothing was read for so long is given up
# A body may come in so many pieces, and in one more for each so many bytes: a piece costs more time than its bytes.
_PIECES, _PIECE_BYTES = 1000, 128


class _Reader(h11.Connection):
    """Bytes → what they mean, as h11 does it, but for bodies in tiny pieces."""

    _pieces = _bytes = 0

    def next_event(self) -> Any:
        """Return what comes next.

        Raises:
            h11.RemoteProtocolError: it is no HTTP, or the body has too many pieces.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._bytes += len(event.data)
            if self._pieces > _PIECES + self._bytes / _PIECE_BYTES:
                raise h11.RemoteProtocolError("the body has too many pieces")
        return event


class Protocol(H11Protocol):
    """What a connection does with what comes. `Protocol.waiting` is shared: a server makes a class of its own."""

    waiting: ClassVar[dict[Protocol, None]]  # connections without a request, in the order in which they began to wait

    def __init__(self, *arguments: Any, **named: Any) -> None:
        """Begin; the arguments are uvicorn's."""
        super().__init__(*arguments, **named)
        self.conn = _Reader(h11.SERVER, self.config.h11_max_incomplete_event_size or 1 << 16)
        self._waits_since: float | None = None
        self._unread = 0
        self._timer: Any = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()
        self._timer = self.loop.call_later(_LOOK_S, self._look)

    def data_received(self, data: bytes) -> None:
        """Go on, and close the connection after this answer if more is asked before it has come.

        Programs do not do that; who does not read the answers could let the server write them without end.
        """
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait_no_more()
            if self.conn.their_state is h11.DONE and self.conn.trailing_data[0]:
                self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._forget()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Leave the connection to another protocol, unless there are too many; uvicorn counts only requests."""
        self._forget()
        if self.limit_concurrency is not None and len(self.connections) > self.limit_concurrency:
            self.transport.abort()
            return
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, where an answer has not been sent already."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def _wait(self) -> None:
        self._waits_since = self.loop.time()
        self.waiting.pop(self, None)
        self.waiting[self] = None
        if len(self.waiting) > MOST_WAITING:
            longest = next(iter(self.waiting))
            longest.transport.abort()
            self.connections.discard(longest)  # at once, so that it does not count for others that come now
            self.waiting.pop(longest)

    def _wait_no_more(self) -> None:
        self._waits_since = None
        self.waiting.pop(self, None)

    def _look(self) -> None:
        """End the connection if it has waited too long, or if nothing was read since the last look."""
        unread = self.transport.get_write_buffer_size()
        waits_too_long = self._waits_since is not None and self.loop.time() - self._waits_since > HEAD_S
        if waits_too_long or (unread and unread == self._unread):
            self.transport.abort()
            return
        self._unread = unread
        self._timer = self.loop.call_later(_LOOK_S, self._look)

    def _forget(self) -> None:
        self._wait_no_more()
        if self._timer is not None:
            self._timer.cancel()


def protocol() -> type[Protocol]:
    """Return the protocol of one server."""

    class OfServer(Protocol):
        waiting: ClassVar[dict[Protocol, None]] = {}

    return OfServer
