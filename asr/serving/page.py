"""The page at `/`: people speak or drop files, and see, hear and save the words.

| request | answer |
| --- | --- |
| `GET /` | the page; nothing secret is in it |
| `GET /microphone.js` | the part of its script that runs where the browser processes sound |
| `POST /v1/written/FORMAT` | words, as JSON, in one of the formats of `asr transcribe`: what the page saves |
"""

from __future__ import annotations

import secrets
from importlib.resources import files
from typing import TYPE_CHECKING

from asr.errors import AsrError
from asr.files import printable
from asr.pages.page import render
from asr.reading import parse_json
from asr.records import Record, checked
from asr.serving.openai_form import RefusalError
from asr.transcript.transcript import FORMATS, Transcript
from asr.transcript.words import Word

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

MICROPHONE = "/microphone.js"
_MOST_BYTES = 16 << 20  # of words to be written: a day's
_NO_STORE = {"Cache-Control": "no-store"}


class _Word(Record):
    text: str
    start_s: float
    end_s: float
    confidence: float
    space_before: bool = True


class _Spoken(Record):
    """The words of a recording, as the page has them."""

    name: str
    duration_s: float
    words: list[_Word]


def page_routes(needs_token: bool, upload_mb: float) -> list[BaseRoute]:
    """Return the routes of the page.

    Args:
        needs_token: whether requests need a token, for which the page then asks.
        upload_mb: the most that an upload may have.
    """
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import Route

    async def page(request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        start = {"needs_token": needs_token, "upload_mb": upload_mb}
        values = {"title": "Speech to text", "start": start, "nonce": nonce}
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}' 'self'; style-src 'unsafe-inline'; connect-src 'self'; "
            "media-src blob:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", **_NO_STORE}
        return HTMLResponse(render("asr.serving", "transcribe.html.jinja", values), headers=headers)

    async def microphone(request: Request) -> Response:
        script = files("asr.pages").joinpath("templates").joinpath("microphone.js").read_bytes()
        return Response(script, media_type="text/javascript", headers=_NO_STORE)

    return [
        Route("/", page),
        Route(MICROPHONE, microphone),
        Route("/v1/written/{format}", _written, methods=["POST"]),
    ]


async def _written(request: Request) -> Response:
    """Return words in a format."""
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import Response

    form = request.path_params["format"]
    if form not in FORMATS:
        raise RefusalError(404, f"there is no format {printable(form)!r}; there are: {', '.join(FORMATS)}")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise RefusalError(413, f"the words have more than {_MOST_BYTES >> 20} MB")
    text = await run_in_threadpool(lambda: FORMATS[form](_transcript(body)))
    return Response(text, media_type="text/plain; charset=utf-8", headers=_NO_STORE)


def _transcript(body: bytes) -> Transcript:
    """Return the transcript of words that the page sends.

    Raises:
        RefusalError: they are not in the page's form.
    """
    try:
        content = parse_json(body.decode("utf-8", "replace"), AsrError, "the words")
        spoken = checked(_Spoken, content, "the words", AsrError, "send them as the page does")
    except AsrError as error:
        raise RefusalError(400, str(error)) from None
    words = [Word(one.text, one.start_s, one.end_s, one.confidence, one.space_before) for one in spoken.words]
    return Transcript.of(words, spoken.duration_s, spoken.name)
