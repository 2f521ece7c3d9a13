"""Models → a web application that transcribes.

| request | answer |
| --- | --- |
| `POST /v1/audio/transcriptions` | the transcript of a recording, as OpenAI's server sends it |
| `GET /v1/models`, `GET /v1/models/NAME` | the names of the models |
| `GET /v1/stream` as a WebSocket | partial and final results of audio that is still arriving (`live.py`) |
| `GET /` | the page (`page.py`) |
| `GET /health` | 200 once all workers have loaded the models, 503 before |
| `GET /metrics` | figures for Prometheus |

Without a token, only this machine may ask (`asr/pages/access.py`). With one, every request needs it in a header, but
for those of `PUBLIC` (`middleware.py`). Errors have OpenAI's form.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from asr.errors import AsrError, DependencyError
from asr.files import printable, temporary_folder
from asr.machine import Accelerator
from asr.serving.connection import LiveLimits
from asr.serving.fair_queue import sender_of
from asr.serving.live import Live
from asr.serving.metrics import Metrics
from asr.serving.middleware import TRANSCRIPTIONS, Guard, Watch, http_error, refused
from asr.serving.openai_form import RefusalError, Wish, json_response, transcript_response, written
from asr.serving.page import page_routes
from asr.serving.pool import Pool
from asr.serving.upload import ServeLimits, Upload, drain, gives_up_a_slow_one, last_coming, receive, upload_in
from asr.serving.worker import FailureError, FileJob, FileResult, Served

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

Result = TypeVar("Result")

# Status, field and code of a request that a worker could not do, by the kind of its failure.
_FAILURES = {
    "audio": (400, "file", "invalid_audio"),
    "too_long": (413, "file", "audio_too_long"),
    "died": (500, None, "worker_died"),
}
_CROWDED = "all places are taken, and another sender has fewer of them"
_GONE = 499  # nginx's status for a client that has gone; nobody receives it


@dataclass(frozen=True)
class Service:
    """What is served, and how.

    Attributes:
        models: the first is the one of requests that name none.
        jobs: number of worker processes.
        limits: of requests.
        token: which requests must have; None: only this machine may ask.
        accelerator: for models that run with torch.
        log_text: whether the log has the transcripts.
        at_once: number of files that each worker has at a time.
    """

    models: tuple[Served, ...]
    jobs: int = 1
    limits: ServeLimits = field(default_factory=ServeLimits)
    token: str | None = None
    accelerator: Accelerator = "auto"
    log_text: bool = False
    at_once: int = 1


def app(
    service: Service,
    on_failure: Callable[[AsrError], object] = lambda _: None,
    on_ready: Callable[[], object] = lambda: None,
) -> Starlette:
    """Return the application. Its workers start with it, and end with it.

    Args:
        service: what is served.
        on_failure: is called if the workers cannot load the models.
        on_ready: is called once all workers have loaded them.

    Raises:
        DependencyError: a package is not installed.
    """
    try:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.middleware import Middleware
    except ImportError:
        raise DependencyError("the server needs the package starlette: pip install 'asr[serve]'") from None
    desk = Desk(service)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            desk.folder = stack.enter_context(temporary_folder())
            await desk.pool.start()
            stack.push_async_callback(desk.pool.stop)
            watching = asyncio.create_task(_report_start(desk, on_failure, on_ready))
            stack.callback(watching.cancel)
            yield

    application = Starlette(
        routes=_routes(desk),
        lifespan=lifespan,
        middleware=[Middleware(Watch, metrics=desk.metrics), Middleware(Guard, token=service.token)],
        exception_handlers={HTTPException: http_error, RefusalError: refused},
    )
    application.state.desk = desk
    return application


def _routes(desk: Desk) -> list[BaseRoute]:
    from starlette.routing import Route, WebSocketRoute

    return [
        *page_routes(desk.service.token is not None, desk.service.limits.upload_mb),
        WebSocketRoute("/v1/stream", desk.live.stream),
        Route(TRANSCRIPTIONS, desk.transcriptions, methods=["POST"]),
        Route("/v1/models", desk.models),
        Route("/v1/models/{name:path}", desk.model),
        Route("/health", desk.health),
        Route("/metrics", desk.figures),
    ]


async def _report_start(desk: Desk, on_failure: Callable[[AsrError], object], on_ready: Callable[[], object]) -> None:
    try:
        await desk.pool.until_ready()
    except AsrError as error:
        desk.failure = str(error)
        on_failure(error)
    else:
        on_ready()


class Desk:
    """The answers to requests.

    Attributes:
        service: what is served.
        pool: the workers.
        folder: for uploads.
        failure: why the models cannot be loaded; empty if they can.
        in_progress: number of transcriptions that have been accepted and not answered.
    """

    def __init__(self, service: Service) -> None:
        """Start nothing yet."""
        self.service = service
        self.pool = Pool(service.models, service.accelerator, service.jobs, service.at_once)
        self.folder = Path()
        self.failure = ""
        self.in_progress = 0
        self.live = Live(self.pool, tuple(model.name for model in service.models), LiveLimits(service.limits.streams))
        self._uploads: set[Upload] = set()
        self.metrics = Metrics(self.pool, lambda: self.in_progress, self.live)

    async def models(self, request: Request) -> Response:
        """List the models."""
        return json_response({"object": "list", "data": [_described(model) for model in self.service.models]})

    async def model(self, request: Request) -> Response:
        """Describe one model."""
        return json_response(_described(self.chosen(request.path_params["name"])))

    def chosen(self, name: str) -> Served:
        """Return the model of a name, or the first if there is no name.

        Raises:
            RefusalError: there is no such model.
        """
        for model in self.service.models:
            if name in ("", model.name):
                return model
        names = ", ".join(model.name for model in self.service.models)
        raise RefusalError(
            404, f"there is no model {printable(name)!r}; there are: {names}", "model", "model_not_found"
        )

    async def health(self, request: Request) -> Response:
        """Say whether all workers are ready."""
        if self.pool.is_ready:
            return json_response({"status": "ready", "models": [model.name for model in self.service.models]})
        reason = self.failure or "workers are loading the models"
        return json_response({"status": "not ready", "reason": reason}, 503, {"Retry-After": "1"})

    async def figures(self, request: Request) -> Response:
        """Return figures for Prometheus."""
        from starlette.responses import Response

        content, kind = self.metrics.text()
        return Response(content, media_type=kind)

    async def transcriptions(self, request: Request) -> Response:
        """Transcribe a recording."""
        limits = self.service.limits
        sender = sender_of(request.scope.get("client"))
        if self.in_progress >= limits.requests and not self._makes_place(sender):
            await drain(request)
            raise self._too_many(f"{limits.requests} requests are in progress, which is the most")
        self.in_progress += 1
        try:
            with upload_in(self.folder, self._uploads, sender) as upload:
                return await self._transcribed(request, upload)
        finally:
            self.in_progress -= 1

    def _makes_place(self, sender: str) -> bool:
        """Let another request give its place to one of a sender; return whether one does.

        It is a slow one. Otherwise it is the last one of the sender that has most, if he has more than this one would
        have then. A request that is at work keeps its place.
        """
        if gives_up_a_slow_one(self._uploads):
            return True
        places = Counter(upload.sender for upload in self._uploads if upload.given_up is None)
        most, count = max(places.items(), key=lambda place: place[1], default=("", 0))
        if count <= places[sender] + 1:
            return False
        if self.pool.send_away(most):
            return True
        upload = last_coming(self._uploads, most)
        if upload is not None:
            upload.given_up = self._too_many(_CROWDED)
        return upload is not None

    def _too_many(self, message: str) -> RefusalError:
        """Return a refusal that says after what time the requests that wait are done, about: from 1 s to a minute."""
        wait_s = min(
            60, max(1, math.ceil(self.pool.waiting * self.pool.usual_s / self.service.jobs / self.service.at_once))
        )
        message += "; try again in a few seconds"
        return RefusalError(429, message, code="rate_limit_exceeded", headers={"Retry-After": str(wait_s)})

    async def _transcribed(self, request: Request, upload: Upload) -> Response:
        from starlette.requests import ClientDisconnect
        from starlette.responses import Response

        facts = request.scope["asr.facts"]
        try:
            await receive(request, upload, self.service.limits)
            wish = Wish.of(upload.fields)
            model = self.chosen(wish.model)
            facts["model"] = model.name
            if model.grammar is not None and wish.hotwords:
                message = f"{model.name} hears only the texts of a grammar; leave the prompt out"
                raise RefusalError(400, message, "prompt")
            longest_s = self.service.limits.audio_s
            write = partial(written, wish=wish)
            job = FileJob(model.name, upload.path, upload.file_name, wish.hotwords, longest_s, write)
            result = await self.answered(request, job, upload.sender)
        except RefusalError as error:
            if not upload.is_received and upload.given_up is None and error.status != 408:
                await drain(request)
            raise
        except ClientDisconnect:
            return Response(status_code=_GONE)
        facts["audio_s"] = round(result.audio_s, 3)
        if self.service.log_text:
            facts["text"] = result.text
        self.metrics.transcribed(model.name, result.audio_s)
        return transcript_response(result, wish)

    async def answered(self, request: Request, job: FileJob, sender: str) -> FileResult:
        """Return the transcript of a file. The work ends early if nobody waits for it any more.

        Raises:
            RefusalError: there is no transcript, or it takes too long.
            ClientDisconnect: the sender has gone.
        """
        limit_s = self.service.limits.answer_s
        try:
            return await _unless_gone(request, asyncio.wait_for(self.pool.transcribe(job, sender), limit_s))
        except asyncio.TimeoutError:
            raise RefusalError(504, f"no answer within {limit_s:g} s; send a shorter recording, or try later") from None
        except FailureError as error:
            if error.kind == "crowded":
                raise self._too_many(_CROWDED) from None
            status, param, code = _FAILURES.get(error.kind, (500, None, None))
            raise RefusalError(status, error.message, param, code) from None


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of work, which is cancelled if the sender of the request goes.

    Raises:
        ClientDisconnect: he has gone.
    """
    from starlette.requests import ClientDisconnect

    async def until_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(until_gone())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientDisconnect
        return tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await tasks[1]


def _described(model: Served) -> dict[str, object]:
    created = 0
    with suppress(OSError):
        created = int(Path(model.folder).stat().st_mtime)
    return {"id": model.name, "object": "model", "created": created, "owned_by": "asr"}
