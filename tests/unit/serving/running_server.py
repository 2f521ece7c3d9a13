"""A server that runs in a thread of this process, on a real port."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Running:
    """A server that runs in a thread: its address, and the application's desk."""

    url: str
    desk: object


@contextmanager
def running(service: object, seconds: float = 60.0) -> Iterator[Running]:
    """Serve on a free port until the `with` statement ends; wait until the models are loaded."""
    from asr.serving.app import app
    from asr.serving.serve import listening, uvicorn_server

    ready, failures = threading.Event(), []

    def failed(error: Exception) -> None:
        failures.append(error)
        ready.set()

    application = app(service, failed, ready.set)
    with listening("127.0.0.1", 0) as socket:
        server = uvicorn_server(application, service.limits)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
        thread.start()
        try:
            assert ready.wait(seconds), "the models are not loaded"
            assert not failures, failures
            yield Running(f"http://127.0.0.1:{socket.getsockname()[1]}", application.state.desk)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
