"""A review that is killed at any moment: what it said is kept is there after a restart. One that is ended says so."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from review_data import PARTS, TOKEN, open_review, write_reviewable

from asr.reviewing.journal import Journal, journal_of
from asr.reviewing.server import TOKEN_HEADER

uvicorn = pytest.importorskip("uvicorn", reason="the extra serve is not installed")
KILLS = 20
LOADED_LATE = ["uvicorn.protocols.http.auto", "uvicorn.loops.auto", "uvicorn.lifespan.on", "starlette.concurrency"]


def serve(manifest: Path, connection: Any) -> None:
    """Serve a review until the process is killed; send its port once it answers."""
    import asyncio

    from asr.reviewing.server import app

    async def run() -> None:
        server = uvicorn.Server(uvicorn.Config(app(open_review(manifest), TOKEN, "train"), port=0, log_level="error"))
        running = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        connection.send(server.servers[0].sockets[0].getsockname()[1])
        await running

    asyncio.run(run())


def ask(connection: http.client.HTTPConnection, method: str, path: str, wish: Any = None) -> Any:
    headers = {TOKEN_HEADER: TOKEN, "Content-Type": "application/json"}
    connection.request(method, f"/{TOKEN}/{path}", None if wish is None else json.dumps(wish), headers)
    return json.loads(connection.getresponse().read())


def test_every_correction_that_was_confirmed_survives_twenty_kills(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_reviewable(tmp_path, damaged=False)
    # Each server is forked off a process that has loaded all it needs, so that it starts in no time.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *LOADED_LATE])
    confirmed: set[tuple[str, str]] = set()
    for kill in range(KILLS):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(manifest, there))
        process.start()
        assert here.poll(60)
        connection = http.client.HTTPConnection("127.0.0.1", here.recv(), timeout=30)
        timer = threading.Timer(rng.uniform(0.1, 0.5), process.kill)
        timer.start()
        with suppress(OSError, http.client.HTTPException):  # the server is dead
            for number in range(100_000):
                utterance = ask(connection, "GET", f"utterance/{number % len(PARTS)}")
                text = f"{kill} {number} {'long ' * int(rng.integers(0, 2000))}"
                now = {**utterance["now"], "text": text}
                wish = {"place": utterance["place"], "version": utterance["version"], "now": now}
                assert ask(connection, "POST", "correct", wish)["kept"]
                confirmed.add((utterance["id"], text))
        timer.join()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        journal = Journal.open(journal_of(manifest))
        found = {(name, state.text) for name, history in journal.histories.items() for state in history.kept}
        assert confirmed <= found
        assert len(found - confirmed) <= kill + 1, "at most one a kill was written and not confirmed any more"
    assert len(confirmed) > KILLS


def test_ctrl_c_ends_a_review_with_an_open_page_and_says_what_it_came_to(tmp_path: Path) -> None:
    manifest = write_reviewable(tmp_path)
    command = [sys.executable, "-m", "asr", "review", str(manifest)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "4 utterances: 0 confirmed, 0 bad\n"
        address = urlsplit(process.stdout.readline().removeprefix("open ").strip())
        assert process.stdout.readline() == "Ctrl-C ends\n"
        listening = http.client.HTTPConnection(address.netloc, timeout=30)
        listening.request("GET", f"{address.path}changes")
        assert listening.getresponse().readline() == b": open\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read().splitlines()[0] == "4 utterances: 0 confirmed, 0 bad"
        assert process.stderr.read() == ""
        assert process.wait() == 0
