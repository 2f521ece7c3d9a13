"""What the server refuses, how it survives, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from dataclasses import replace
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import soundfile

from asr.serving.app import Service
from asr.serving.upload import ServeLimits
from asr.serving.worker import Served
from tests.unit.serving.running_server import running, wait_until

URL = "/v1/audio/transcriptions"
LIMITS = ServeLimits(upload_mb=2.0, upload_s=3.0, audio_s=50.0, answer_s=60.0, requests=6)
TOKEN = "a-token-of-this-test"


@pytest.fixture(scope="module")
def server(exported):
    with running(Service((Served("m", str(exported)),), jobs=1, limits=LIMITS)) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(exported):
    with running(Service((Served("m", str(exported)),), token=TOKEN, log_text=True)) as server:
        yield server


def post(server, path, **more):
    return httpx.post(server.url + URL, files={"file": (path.name, path.read_bytes())}, timeout=60, **more)


def refused(answer):
    return answer.status_code, answer.json()["error"]["message"]


def raw(server, data, *, then_close=False):
    """Send bytes and return what comes back until the server closes."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=60) as connection:
        connection.sendall(data)
        if then_close:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while block := connection.recv(1 << 16):
            answer += block
    return answer


def head_of(server, length, *more):
    host = urlsplit(server.url).netloc
    lines = [f"POST {URL} HTTP/1.1", f"Host: {host}", "Content-Type: multipart/form-data; boundary=b", *more]
    return "\r\n".join([*lines, f"Content-Length: {length}", "Connection: close", "", ""]).encode()


def works(server, recordings):
    return post(server, recordings[0]).status_code == 200


def test_a_large_upload_is_refused_by_its_header_and_by_what_comes(server, tmp_path):
    path = tmp_path / "large.wav"
    path.write_bytes(bytes(4_000_000))
    assert refused(post(server, path)) == (413, "the upload is larger than 2 MB, which is the most")

    def parts():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        for _ in range(100):
            yield bytes(1 << 16)

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    assert httpx.post(server.url + URL, content=parts(), headers=headers, timeout=60).status_code == 413


def test_a_long_recording_is_refused_also_where_its_header_does_not_say_its_length(server, tmp_path):
    silence = np.zeros(60 * 16000, np.int16)
    soundfile.write(tmp_path / "long.flac", silence, 16000)
    content = bytearray((tmp_path / "long.flac").read_bytes())
    place = content.index(b"fLaC") + 8 + 13  # the 36 bits of the number of samples, 13.5 bytes into STREAMINFO
    content[place] &= 0xF0
    content[place + 1 : place + 5] = bytes(4)
    (tmp_path / "unknown.flac").write_bytes(content)
    for name in ("long.flac", "unknown.flac"):
        status, message = refused(post(server, tmp_path / name))
        assert (status, message.startswith(f"{name}: longer than 50 s")) == (413, True)


def test_a_slow_upload_is_given_up(server):
    answer = raw(server, head_of(server, 5000) + b"--b\r\n")
    assert b" 408 " in answer.split(b"\r\n")[0]


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (["Content-Encoding: gzip"], b"\x1f\x8b", 415),
        ([], b"--b\r\nContent-Disposition: form-data; name=file\r\nContent-Encoding: gzip\r\n\r\nx\r\n--b--\r\n", 415),
        ([], b"no form at all", 400),
        ([], b"--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--b--\r\n", 400),
        ([], b"--b\r\nContent-Disposition: form-data\r\n\r\nm\r\n--b--\r\n", 400),
        ([], b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\ntruncated", 400),
        ([], b"".join(b"--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n" for _ in range(200)), 400),
        ([], b"--b\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\n" + bytes(1 << 17), 400),
        ([], b"--b\r\n" + b"X: y\r\n" * 5000, 400),
        (["X: " + "y" * 100_000], b"", 400),
        ([f"X-{number}: y" for number in range(10_000)], b"", 400),
    ],
)  # fmt: skip
def test_a_request_of_another_form_is_refused_at_once(server, headers, body, status):
    answer = raw(server, head_of(server, len(body), *headers) + body)
    assert int(answer.split()[1]) == status
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_clients_that_go_away_leave_nothing_and_keep_nobody_waiting(server, recordings):
    long = recordings[3].read_bytes()
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + long + b"\r\n--b--\r\n"
    parts = urlsplit(server.url)
    for share in (0.5, 1.0, 1.0, 1.0):
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            connection.sendall(head_of(server, len(form)) + form[: round(share * len(form))])
    wait_until(lambda: server.desk.in_progress == 0)
    assert works(server, recordings)
    assert list(server.desk.folder.iterdir()) == []


def test_too_many_requests_at_once_are_told_when_to_come_again(server, recordings):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(post(server, recordings[3]))) for _ in range(3 * LIMITS.requests)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    late = [answer for answer in answers if answer.status_code == 429]
    assert late
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in late)
    assert late[0].json()["error"]["code"] == "rate_limit_exceeded"


def test_a_request_that_takes_too_long_is_given_up_and_the_next_one_works(exported, recordings):
    limits = replace(LIMITS, answer_s=0.001)
    with running(Service((Served("m", str(exported)),), limits=limits)) as server:
        assert refused(post(server, recordings[3]))[0] == 504
        wait_until(lambda: server.desk.pool.waiting == 0)
        assert server.desk.pool.is_ready


def test_the_request_of_a_dead_worker_fails_and_the_worker_is_replaced(exported, recordings):
    with running(Service((Served("m", str(exported)),))) as server:
        (worker,) = server.desk.pool.workers
        os.kill(worker.process.pid, signal.SIGSTOP)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(post(server, recordings[3])))
        thread.start()
        wait_until(lambda: bool(worker.listeners))
        second = threading.Thread(target=lambda: answers.append(post(server, recordings[0])))
        second.start()
        wait_until(lambda: server.desk.pool.waiting == 1)
        os.kill(worker.process.pid, signal.SIGKILL)
        thread.join()
        second.join()
        assert [answer.status_code for answer in answers] == [500, 200]
        assert "killed" in refused(answers[0])[1]
        assert "asr_worker_deaths_total 1.0" in httpx.get(f"{server.url}/metrics").text


def test_with_a_token_nobody_is_answered_without_it(guarded, recordings, capfd):
    wrong = [
        {},
        {"Authorization": "Bearer a-token"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer é"},
    ]
    for headers in wrong:
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = post(guarded, recordings[0], headers=encoded)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert httpx.get(f"{guarded.url}/metrics", headers=encoded).status_code == 401
    assert httpx.get(f"{guarded.url}/health").status_code == 200
    right = {"Authorization": f"Bearer {TOKEN}", "Host": "speech.example", "Origin": "https://speech.example"}
    answer = post(guarded, recordings[1], headers=right)
    assert answer.status_code == 200
    log = capfd.readouterr().err
    assert f'"text": "{answer.json()["text"]}"' in log
    assert TOKEN not in log


def test_the_log_has_no_transcripts_unless_asked(server, recordings, capfd):
    text = post(server, recordings[1]).json()["text"]
    wait_until(lambda: server.desk.in_progress == 0)
    time.sleep(0.1)
    log = capfd.readouterr().err
    assert '"status": 200' in log
    assert '"audio_s": 6.0' in log
    assert text
    assert text not in log
