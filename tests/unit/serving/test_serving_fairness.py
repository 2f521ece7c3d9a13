"""Who sends much waits for himself: turns of senders that wait, and places that give way to who has fewer."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.serving.app import Service
from asr.serving.fair_queue import FairQueue, sender_of
from asr.serving.pool import Pool, Worker
from asr.serving.upload import ServeLimits
from asr.serving.worker import OF_ALL, FileJob, FileResult, Ready, Served
from tests.unit.serving.running_server import running, wait_until

URL = "/v1/audio/transcriptions"
MANY, FEW = "192.0.2.1", "198.51.100.7"  # addresses of examples
SENDERS = ("a", "b", "c", "d")


class ScriptedPipe:
    """The pipe of a worker that does one job after the other and stores their order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self.order, self.worker = loop, [], None

    def send(self, message):
        number, job = message
        self.order.append(job.shown)
        result = FileResult(job.shown, "", 0.0, ())
        self._loop.call_soon(self.worker.listeners[number], result)


async def done_in_order(arrivals: list[tuple[str, int]], gone: frozenset[int] = frozenset()) -> list[str]:
    """Let files of senders wait, then let a worker come; return the order in which it got them.

    Args:
        arrivals: sender and number of each file.
        gone: files whose senders are gone before the worker comes.
    """
    pool = Pool((), "cpu", jobs=0)
    await pool.start()
    tasks = {}
    for sender, number in arrivals:
        job = FileJob("m", Path(), f"{sender}{number}", (), 1.0, lambda transcript, notes: "")
        tasks[number] = asyncio.create_task(pool.transcribe(job, sender))
        await asyncio.sleep(0)
    for number in gone:
        tasks[number].cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pool.waiting == len(arrivals) - len(gone)
    pipe = ScriptedPipe(asyncio.get_running_loop())
    pipe.worker = Worker(SimpleNamespace(), pipe)
    pool._workers.append(pipe.worker)
    pool._heard(pipe.worker, OF_ALL, Ready())
    results = await asyncio.gather(*(task for number, task in tasks.items() if number not in gone))
    kept = [f"{sender}{number}" for sender, number in arrivals if number not in gone]
    assert [result.content for result in results] == kept
    return pipe.order


@given(st.lists(st.sampled_from(SENDERS), max_size=40), st.data())
def test_between_two_files_of_a_sender_each_other_one_who_waits_has_his_turn(senders, data):
    arrivals = [(sender, number) for number, sender in enumerate(senders)]
    gone = data.draw(st.frozensets(st.sampled_from(range(len(senders))))) if senders else frozenset()
    order = asyncio.run(done_in_order(arrivals, gone))
    waiting: dict[str, list[str]] = defaultdict(list)
    for sender, number in arrivals:
        if number not in gone:
            waiting[sender].append(f"{sender}{number}")
    since: dict[str, set[str]] = {}  # sender → who has had a turn after his last one
    for done in order:
        sender = done[0]
        assert waiting[sender].pop(0) == done, "each sender's files come in their order"
        others = {other for other in SENDERS if waiting[other] and other != sender}
        if sender in since:
            assert others <= since[sender]
        since[sender] = set()
        for other in since:
            since[other].add(sender)
    assert not any(waiting.values())


def test_one_file_among_hundred_of_another_sender_is_the_second():
    arrivals = [("a", number) for number in range(100)] + [("b", 100)]
    assert asyncio.run(done_in_order(arrivals)).index("b100") == 1


def test_a_worker_on_a_gpu_has_several_files_at_a_time_and_all_fail_if_it_dies():
    async def scene() -> list[object]:
        pool = Pool((), "cpu", jobs=0, at_once=3)
        await pool.start()
        pipe = SimpleNamespace(told=[], send=lambda message: pipe.told.append(message), close=lambda: None)
        process = SimpleNamespace(join=lambda: None, exitcode=1)
        worker = Worker(process, pipe)
        pool._workers.append(worker)
        pool._start_worker = lambda: None
        jobs = [FileJob("m", Path(), str(number), (), 1.0, lambda transcript, notes: "") for number in range(5)]
        tasks = [asyncio.create_task(pool.transcribe(job)) for job in jobs]
        await asyncio.sleep(0)
        pool._heard(worker, OF_ALL, Ready())
        assert [job.shown for _, job in pipe.told] == ["0", "1", "2"]
        pool._heard(worker, pipe.told[1][0], FileResult("1", "", 0.0, ()))
        assert [job.shown for _, job in pipe.told] == ["0", "1", "2", "3"]
        pool._died(worker)
        found = await asyncio.gather(*tasks[:4], return_exceptions=True)
        assert pool.waiting == 1
        tasks[4].cancel()
        return found

    found = asyncio.run(scene())
    assert found.pop(1) == FileResult("1", "", 0.0, ())
    assert [error.kind for error in found] == ["died"] * 3


def test_the_last_thing_of_a_sender_gives_way_and_his_turn_with_it():
    queue = FairQueue[int]()
    for sender, item in (("a", 1), ("a", 2), ("b", 3)):
        queue.put(sender, item)
    assert [queue.take_last("a"), queue.take_last("c"), queue.take_last("a"), queue.take_last("a")] == [
        2,
        None,
        1,
        None,
    ]
    assert (len(queue), queue.take()) == (1, 3)
    with pytest.raises(IndexError):
        queue.take()


@pytest.mark.parametrize(
    ("client", "sender"),
    [
        (None, ""),
        (("192.0.2.1", 5000), "192.0.2.1"),
        (("::ffff:192.0.2.1", 5000), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 5000), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::7", 5000), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5000), "fe80::/64"),
        (("a name", 0), "a name"),
    ],
)
def test_a_sender_is_an_ipv4_address_or_a_network_of_ipv6(client, sender):
    assert sender_of(client) == sender


class Post(threading.Thread):
    """A request on a thread of its own, as from a sender that a proxy at 127.0.0.1 names."""

    def __init__(self, server, path: Path, sender: str) -> None:
        super().__init__()
        self._server, self._path, self._sender = server, path, sender
        self.answer: httpx.Response | None = None
        self.start()

    def run(self) -> None:
        files, headers = {"file": ("a.wav", self._path.read_bytes())}, {"X-Forwarded-For": self._sender}
        self.answer = httpx.post(self._server.url + URL, files=files, headers=headers, timeout=60)

    def status(self) -> int:
        """Return the status of the answer, once it has come."""
        self.join()
        return self.answer.status_code


@pytest.fixture
def stopped(exported):
    """A server whose only worker does nothing until it is told to go on."""
    with running(Service((Served("m", str(exported)),), limits=ServeLimits(requests=4))) as server:
        (worker,) = server.desk.pool.workers
        os.kill(worker.process.pid, signal.SIGSTOP)
        yield server, lambda: os.kill(worker.process.pid, signal.SIGCONT)
        os.kill(worker.process.pid, signal.SIGCONT)


def test_who_has_all_places_gives_them_up_until_another_has_as_many(stopped, recordings):
    server, go_on = stopped
    many = []
    for number in range(4):
        many.append(Post(server, recordings[2], MANY))
        wait_until(lambda number=number: server.desk.pool.waiting == number)
    few = [Post(server, recordings[2], FEW)]
    assert many.pop().status() == 429
    few.append(Post(server, recordings[2], FEW))
    given_way = many.pop()
    assert given_way.status() == 429
    assert "another sender has fewer" in given_way.answer.json()["error"]["message"]
    assert int(given_way.answer.headers["Retry-After"]) >= 1
    wait_until(lambda: server.desk.pool.waiting == 3)
    late = Post(server, recordings[2], FEW)  # both have two
    assert late.status() == 429
    assert "4 requests are in progress" in late.answer.json()["error"]["message"]
    go_on()
    assert [one.status() for one in (*many, *few)] == [200] * 4
    assert server.desk.in_progress == 0


def test_an_upload_that_has_not_come_whole_gives_way_too(stopped, recordings):
    server, go_on = stopped
    parts = urlsplit(server.url)
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + bytes(1_000_000)
    lines = [f"POST {URL} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: multipart/form-data; boundary=b"]
    head = "\r\n".join([*lines, f"X-Forwarded-For: {MANY}", "Content-Length: 2000000", "", ""]).encode()
    connections = [socket.create_connection((parts.hostname, parts.port), timeout=60) for _ in range(4)]
    try:
        for connection in connections:
            connection.sendall(head + start)
        wait_until(lambda: server.desk.in_progress == 4)
        few = Post(server, recordings[2], FEW)
        assert connections[3].recv(1000).startswith(b"HTTP/1.1 429 ")
        go_on()
        assert few.status() == 200
    finally:
        for connection in connections:
            connection.close()


def test_a_request_whose_sender_is_gone_waits_no_more(stopped, recordings):
    server, go_on = stopped
    parts = urlsplit(server.url)
    first = Post(server, recordings[2], FEW)
    wait_until(lambda: bool(server.desk.pool.workers[0].listeners))
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    body += recordings[2].read_bytes() + b"\r\n--b--\r\n"
    lines = [f"POST {URL} HTTP/1.1", f"Host: {parts.netloc}", "Content-Type: multipart/form-data; boundary=b"]
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.sendall("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)
        wait_until(lambda: server.desk.pool.waiting == 1)
    wait_until(lambda: server.desk.pool.waiting == 0)
    go_on()
    assert first.status() == 200
