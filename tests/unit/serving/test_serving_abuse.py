"""What one client does must not keep the server from others: tiny pieces, silence, bombs, prompts."""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import soundfile
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from asr.serving import protocol
from asr.serving.app import Service
from asr.serving.serve import listening, uvicorn_server
from asr.serving.upload import ServeLimits
from asr.serving.worker import Served
from tests.unit.serving.running_server import running, wait_until

URL = "/v1/audio/transcriptions"
LIMITS = ServeLimits(upload_mb=20.0, audio_s=50.0, requests=4)


@pytest.fixture(scope="module")
def server(exported):
    with running(Service((Served("m", str(exported)),), jobs=1, limits=LIMITS)) as server:
        yield server


def post(server, path, **fields):
    return httpx.post(server.url + URL, files={"file": (path.name, path.read_bytes())}, data=fields, timeout=60)


def connected(server):
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=60)


def head(server, *more):
    lines = [f"POST {URL} HTTP/1.1", f"Host: {urlsplit(server.url).netloc}", *more]
    return "\r\n".join([*lines, "Content-Type: multipart/form-data; boundary=b", "", ""]).encode()


def all_from(connection):
    found = b""
    try:
        while data := connection.recv(1 << 16):
            found += data
    except ConnectionError:
        pass
    return found


def test_a_body_in_tiny_pieces_is_refused_and_one_in_small_pieces_is_taken(server, recordings):
    with connected(server) as connection:
        connection.sendall(head(server, "Transfer-Encoding: chunked") + b"5\r\n--b\r\n\r\n" + b"1\r\na\r\n" * 5000)
        assert all_from(connection).startswith(b"HTTP/1.1 400 ")
    body = recordings[0].read_bytes()
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + body + b"\r\n--b--\r\n"
    pieces = (body[start : start + 160] for start in range(0, len(body), 160))
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert httpx.post(server.url + URL, content=pieces, headers=headers, timeout=60).status_code == 200


def test_connections_that_send_nothing_keep_nobody_out(server, recordings):
    with ExitStack() as stack:
        silent = [stack.enter_context(connected(server)) for _ in range(protocol.MOST_WAITING + 20)]
        assert post(server, recordings[0]).status_code == 200
        assert all_from(silent[0]) == b""


def test_uploads_that_are_very_slow_give_place(server, recordings):
    with ExitStack() as stack:
        slow = [stack.enter_context(connected(server)) for _ in range(LIMITS.requests)]
        for connection in slow:
            connection.sendall(head(server, "Content-Length: 100000", "Connection: close") + b"--b\r\n")
        wait_until(lambda: server.desk.in_progress == LIMITS.requests)
        wait_until(lambda: post(server, recordings[0]).status_code == 200)
        answered, _, _ = select.select(slow, [], [], 30)
        assert answered[0].recv(1000).startswith(b"HTTP/1.1 408 ")
    wait_until(lambda: server.desk.in_progress == 0)


def test_only_the_first_of_requests_that_do_not_wait_for_answers_is_answered(server):
    asked = f"GET /v1/models HTTP/1.1\r\nHost: {urlsplit(server.url).netloc}\r\n\r\n".encode()
    with connected(server) as connection:
        connection.sendall(asked * 100)
        assert all_from(connection).count(b"HTTP/1.1 200") == 1


def test_what_is_no_http_after_the_answer_ends_the_connection_only(server, capfd):
    with connected(server) as connection:
        connection.sendall(head(server, "Transfer-Encoding: chunked").replace(b"multipart", b"text"))
        connection.sendall(b"1\r\na\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 415 ")
        connection.sendall(b"no length\r\n")
        all_from(connection)
    assert httpx.get(f"{server.url}/health").status_code == 200
    assert "Traceback" not in capfd.readouterr().err


def test_errors_take_no_threads(server):
    for number in range(5):
        assert httpx.get(f"{server.url}/{number}").status_code == 404
    assert not [thread.name for thread in threading.enumerate() if "AnyIO" in thread.name]


def silence(path, rate, channels, seconds):
    """Write a FLAC file of silence whose header does not say how long it is."""
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_16", format="FLAC") as file:
        for _ in range(seconds):
            file.write(np.zeros((rate, channels), np.int16))
    content = bytearray(path.read_bytes())
    content[21:26] = bytes([content[21] & 0xF0]) + struct.pack(">I", 0)
    path.write_bytes(content)
    return path


def test_many_channels_at_a_high_rate_count_as_a_longer_recording(server, tmp_path):
    answer = post(server, silence(tmp_path / "a.flac", 192_000, 8, 14))  # 12.5 s are as much as 50 s at 48 kHz
    assert answer.status_code == 413
    assert "longer than 12.5 s, which is the most of 8 channels at 192000 Hz" in answer.json()["error"]["message"]
    assert post(server, silence(tmp_path / "b.flac", 48_000, 8, 14)).status_code == 200


def test_a_prompt_that_would_make_the_search_slow_is_refused_or_left_out(server, recordings):
    assert post(server, recordings[0], prompt="a b " * 6000).status_code == 400
    answer = post(server, recordings[0], prompt="ab, " + "a b " * 3000)
    assert answer.status_code == 200
    (warning,) = answer.json()["warnings"]
    assert "has 11999 characters; a hotword has at most 200" in warning


def test_an_answer_that_nobody_reads_is_given_up(monkeypatch):
    monkeypatch.setattr(protocol, "_LOOK_S", 0.1)
    large = Starlette(routes=[Route("/", lambda _: Response(bytes(30_000_000)))])
    with listening("127.0.0.1", 0) as taken, socket.socket() as client:
        server = uvicorn_server(large, LIMITS)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
        thread.start()
        try:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            client.connect(taken.getsockname())
            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            wait_until(lambda: bool(server.server_state.connections))
            wait_until(lambda: not server.server_state.connections)
        finally:
            server.should_exit = True
            thread.join(30)
        assert not thread.is_alive()
