"""What surrounds each request: its number, its line of the log, who may ask, and errors in OpenAI's form."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from asr.files import printable
from asr.pages.access import refusal_of_strangers, same_secret
from asr.serving.log import log
from asr.serving.metrics import Metrics
from asr.serving.openai_form import RefusalError, error_response
from asr.serving.page import MICROPHONE
from asr.serving.upload import drain

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

TRANSCRIPTIONS = "/v1/audio/transcriptions"
PUBLIC = frozenset({"/", MICROPHONE, "/health"})  # what needs no token: nothing secret is there
_SILENT = frozenset({"/health", "/metrics"})  # what is asked again and again is not logged


# Both are coroutines, because starlette calls any other function in a thread of its own.
async def refused(request: Request, error: Exception) -> Response:
    """Return a refusal in OpenAI's form, and let the log have it."""
    assert isinstance(error, RefusalError)
    request.scope["asr.facts"]["error"] = str(error)
    return error_response(error)


async def http_error(request: Request, error: Exception) -> Response:
    """Return starlette's own errors, such as 404 and 405, in OpenAI's form."""
    from starlette.exceptions import HTTPException

    assert isinstance(error, HTTPException)
    message = f"{request.method} {printable(request.url.path)}: {error.detail}"
    return await refused(request, RefusalError(error.status_code, message, headers=error.headers))


class Watch:
    """Gives each request a number, counts its answer, and logs it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Surround an application."""
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, number = time.monotonic(), secrets.token_hex(8)
        facts: dict[str, object] = {}
        scope["asr.facts"] = facts
        status = 500

        async def send_numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", number.encode())]}
            await send(message)

        try:
            await self._app(scope, receive, send_numbered)
        finally:
            wall_s = time.monotonic() - start
            path = scope["path"] if scope["path"] in (TRANSCRIPTIONS, "/v1/models", *PUBLIC, *_SILENT) else "other"
            self._metrics.answered(path, status, wall_s)
            if path not in _SILENT:
                log(id=number, path=path, status=status, wall_s=round(wall_s, 3), **facts)


class Guard:
    """Lets through who may ask."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        """Surround an application; without a token, only this machine may ask."""
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        from starlette.requests import HTTPConnection, Request

        error = None if scope["type"] == "lifespan" else self._refusal(HTTPConnection(scope))
        if error is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": str(error)})
        else:
            await drain(Request(scope, receive))
            response = await refused(Request(scope), error)
            await response(scope, receive, send)

    def _refusal(self, request: Any) -> RefusalError | None:
        if self._token is None:
            reason = refusal_of_strangers(request.headers)
            return RefusalError(403, reason) if reason else None
        if request.scope["path"] in PUBLIC or same_secret(_token_of(request), self._token):
            return None
        message = "the header Authorization lacks the server's token: Authorization: Bearer TOKEN"
        return RefusalError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})


def _token_of(request: Any) -> str:
    """Return the token of a request. A browser cannot give a WebSocket headers: it asks for the protocol bearer.TOKEN.

    Some characters of a token, percent-encoded there, cannot be in the name of a protocol.

    Source: RFC 6750, section 2.1.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return str(token.strip())
    for protocol in request.scope.get("subprotocols", ()):
        if protocol.startswith("bearer."):
            return unquote(str(protocol.removeprefix("bearer.")))
    return ""
