"""Utterances and their corrections → a page that only this machine's browser can read, and only who knows its address.

The address has a token in it that nobody can guess. A page of another site cannot read or correct anything, whatever it
asks the browser to do. It does not know the token. If it lets its own name lead to this machine (DNS rebinding), the
name is refused. What changes something needs the token in a header, which a form cannot send.

| request | answer |
| --- | --- |
| `GET /TOKEN/` | the page |
| `GET /TOKEN/utterance/PLACE` | an utterance as JSON |
| `GET /TOKEN/audio/PLACE` | its audio with seconds around it, as WAV, or the reason why not, as JSON |
| `GET /TOKEN/changes` | the place and the version of each utterance when it is corrected (server-sent events) |
| `POST /TOKEN/correct`, `POST /TOKEN/undo` | what became of it, as JSON; the correction is on disk |
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError, DependencyError
from asr.files import to_json
from asr.pages.access import refusal_of_strangers, same_secret
from asr.pages.page import render
from asr.reading import parse_json
from asr.records import Record, checked
from asr.reviewing.corrections import Answer, Review
from asr.reviewing.journal import State

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

TOKEN_HEADER = "X-Review-Token"
START_HEADER = "X-Review-Start"  # where audio begins in its recording, in seconds
_MOST_BYTES = 1 << 20  # of a request
_LONGEST_PATH = 200  # characters; Python reads no number of thousands of digits
_LOOK_EVERY_S = 0.5  # whether the server is to end


class _Wish(Record):
    """What the page asks for: which utterance, the version that it knows, and what the utterance becomes."""

    place: int
    version: int
    now: State | None = None


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(24)


def app(review: Review, token: str, title: str, is_ending: Callable[[], bool] = lambda: False) -> Starlette:
    """Return the application that serves a review to this machine.

    Args:
        review: utterances and their corrections.
        token: `new_token()`.
        title: names the data on the page.
        is_ending: whether the server is to end; what a page listens to ends then, because it would never do so itself.

    Raises:
        DependencyError: starlette is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.middleware import Middleware
        from starlette.routing import Mount, Route
    except ImportError:
        raise DependencyError("the page needs the package starlette: pip install 'asr[serve]'") from None
    desk = _Desk(review, token, title, is_ending)
    routes = [
        Route("/", desk.page),
        Route("/utterance/{place:int}", desk.utterance),
        Route("/audio/{place:int}", desk.audio),
        Route("/changes", desk.changes),
        Route("/correct", desk.correct, methods=["POST"]),
        Route("/undo", desk.undo, methods=["POST"]),
    ]
    return Starlette(routes=[Mount(f"/{token}", routes=routes)], middleware=[Middleware(_Guard, token=token)])


class _Guard:
    """Lets through what comes from the page itself; all else gets 403."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse

        if scope["type"] == "http" and (reason := self._refusal(Request(scope))):
            await PlainTextResponse(f"{reason}\n", status_code=403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> str:
        if reason := refusal_of_strangers(request.headers):
            return reason
        path = request.scope["path"]  # of `OPTIONS *` it has no part
        if not same_secret("".join(path.split("/")[1:2]), self._token):
            return "the address lacks the token that asr review has printed"
        if len(path) > _LONGEST_PATH:
            return "the address is too long"
        if request.method not in ("GET", "HEAD") and not same_secret(
            request.headers.get(TOKEN_HEADER, ""), self._token
        ):
            return f"the header {TOKEN_HEADER} lacks the token"
        return ""


class _Desk:
    """The answers to requests; files are read and written in threads."""

    def __init__(self, review: Review, token: str, title: str, is_ending: Callable[[], bool]) -> None:
        self._review = review
        self._token = token
        self._title = title
        self._is_ending = is_ending
        self._listeners: set[asyncio.Queue[str]] = set()

    async def page(self, request: Request) -> Response:
        from starlette.responses import HTMLResponse

        nonce = secrets.token_urlsafe(16)
        start = {"token": self._token, "first": self._review.first, "counts": self._review.counts()}
        values = {"title": self._title, "start": start, "nonce": nonce}
        content = render("asr.reviewing", "review.html.jinja", values)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
        return HTMLResponse(content, headers=headers)

    async def utterance(self, request: Request) -> Response:
        place = request.path_params["place"]
        return _json(self._review.shown(place)) if self._has(place) else _missing()

    async def audio(self, request: Request) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import Response

        place = request.path_params["place"]
        if not self._has(place):
            return _missing()
        try:
            start_s, content = await run_in_threadpool(self._review.audio, place)
        except AsrError as error:
            return _json({"reason": str(error)})  # not as 4xx: for the page it is what it asked for
        headers = {START_HEADER: repr(start_s), "Cache-Control": "no-store"}
        return Response(content, media_type="audio/wav", headers=headers)

    async def correct(self, request: Request) -> Response:
        return await self._answer(request, undo=False)

    async def undo(self, request: Request) -> Response:
        return await self._answer(request, undo=True)

    async def _answer(self, request: Request, *, undo: bool) -> Response:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import PlainTextResponse

        try:
            wish = await _wish(request)
        except AsrError as error:
            return PlainTextResponse(f"{error}\n", status_code=400)
        if not self._has(wish.place):
            return _missing()
        if wish.now is None and not undo:
            return PlainTextResponse("now is missing\n", status_code=400)
        try:
            answer = await run_in_threadpool(self._done, wish, undo)
        except OSError as error:
            answer = Answer(False, self._review.shown(wish.place), f"it cannot be written ({error.strerror})")
        if answer.kept:
            for listener in self._listeners:
                listener.put_nowait(to_json({"place": wish.place, "version": answer.utterance["version"]}))
        counts = self._review.counts()
        return _json({"kept": answer.kept, "reason": answer.reason, "utterance": answer.utterance, "counts": counts})

    def _done(self, wish: _Wish, undo: bool) -> Answer:
        if undo or wish.now is None:
            return self._review.undo(wish.place, wish.version)
        return self._review.correct(wish.place, wish.version, wish.now)

    async def changes(self, request: Request) -> Response:
        from starlette.responses import StreamingResponse

        return StreamingResponse(self._events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def _events(self) -> AsyncIterator[str]:
        listener: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.add(listener)
        try:
            yield ": open\n\n"
            while not self._is_ending():
                try:
                    yield f"data: {await asyncio.wait_for(listener.get(), _LOOK_EVERY_S)}\n\n"
                except asyncio.TimeoutError:
                    yield ":\n\n"
        finally:
            self._listeners.discard(listener)

    def _has(self, place: int) -> bool:
        return 0 <= place < len(self._review.utterances)


async def _wish(request: Request) -> _Wish:
    """Return what a request's body asks for.

    Raises:
        AsrError: it is too large, or not of that form.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise AsrError("the request is too large")
    content: Any = parse_json(body.decode("utf-8", "replace"), AsrError, "the request")
    return checked(_Wish, content, "the request", AsrError, "load the page again")


def _json(content: Any) -> Response:
    from starlette.responses import Response

    return Response(to_json(content), media_type="application/json", headers={"Cache-Control": "no-store"})


def _missing() -> Response:
    from starlette.responses import PlainTextResponse

    return PlainTextResponse("no such utterance\n", status_code=404)
