"""Attacks of `benchmarks/abuse.py` by connections: slow, silent, unread, reset, many; and broken WebSocket frames."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from abuse_http import Answers, Target, answer_on, form, many

STREAM = "/v1/stream"
FIRST = json.dumps({"sample_rate_hz": 16000}).encode()


def trickle(target: Target, answers: Answers, start: bytes, drops: Iterator[bytes], count: int, seconds: float) -> None:
    """Send on many connections a start, and then a drop to each from time to time; count what was answered."""
    connections = []
    for _ in range(count):
        with suppress(OSError):
            connection = target.connect()
            connection.sendall(start)
            connections.append(connection)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        drop = next(drops)
        for connection in connections:
            with suppress(OSError):
                connection.sendall(drop)
        time.sleep(0.5)
    for connection in connections:
        connection.settimeout(0.01)
        answers.add(answer_on(connection)[0])
        connection.close()


def slow_uploads(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Uploads of which a byte comes now and then, more of them than requests are allowed."""
    trickle(target, answers, target.head(10**6) + form(audio)[:500], iter(lambda: b"\0", b""), 150, 2 * seconds)


def slow_headers(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Requests whose headers do not end."""
    trickle(target, answers, b"GET /health HTTP/1.1\r\n", iter(lambda: b"a: b\r\n", b""), 300, seconds)


def silent_connections(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """A thousand connections on which nothing is sent."""
    trickle(target, answers, b"", iter(lambda: b"", None), 1000, seconds)


def expect_and_silence(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """`Expect: 100-continue`, and then nothing; and other expectations."""
    target.send(answers, target.head(len(form(audio)), "Expect: a miracle") + form(audio))
    trickle(target, answers, target.head(10**6, "Expect: 100-continue"), iter(lambda: b"", None), 50, seconds)


def answers_unread(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Many requests on each of many connections, whose answers are never read."""
    asked = f"GET /metrics HTTP/1.1\r\nHost: {target.host}\r\n\r\n".encode() * 2000
    connections = []
    for _ in range(100):
        connection = target.connect(receive_bytes=1024)
        connection.settimeout(0.05)
        with suppress(OSError):
            connection.sendall(asked)
        connections.append(connection)
    time.sleep(seconds)
    for connection in connections:
        connection.close()
        answers.add("unread")


def resets(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Whole requests whose sender is gone before the answer comes."""
    body = form(audio)

    def vanish(number: int) -> None:
        with target.connect() as connection:
            connection.sendall(target.head(len(body)) + body)
            time.sleep(number % 10 / 50)
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        answers.add("reset")

    many(200, vanish)


def burst(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """400 whole requests at once."""
    many(400, lambda _: target.post(answers, form(audio)), at_once=400)


def frame(kind: int, content: bytes, *, first: int = 0x80, masked: bool = True, length: int | None = None) -> bytes:
    """Return a WebSocket frame; `first` has its other bits, `length` is what it says of its length.

    Source: RFC 6455, section 5.2.
    """
    size = len(content) if length is None else length
    mask = 0x80 if masked else 0
    short = bytes([mask | size]) if size < 126 else bytes([mask | 127]) + struct.pack(">Q", size)
    return bytes([first | kind]) + short + (b"\0\0\0\0" if masked else b"") + content


def upgraded(target: Target) -> socket.socket:
    """Return a connection that is a WebSocket."""
    connection = target.connect()
    lines = [
        f"GET {STREAM} HTTP/1.1",
        f"Host: {target.host}:{target.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
    ]
    lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    connection.sendall("\r\n".join([*lines, "", ""]).encode())
    connection.recv(4096)
    return connection


def broken_frames(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Frames without a mask, with reserved bits, too long, without end, of the wrong kind; many pings; WebM noise."""
    start = frame(1, FIRST)
    webm = frame(1, json.dumps({"encoding": "webm"}).encode())
    for data in (
        frame(1, FIRST, masked=False),
        frame(1, FIRST, first=0xF0),
        frame(7, FIRST),
        frame(2, FIRST),
        frame(1, b"\xff\xfe"),
        frame(1, b"[" * 100_000),
        frame(1, b"{}" * 2_000_000),
        frame(1, b"", length=1 << 62),
        frame(1, b"", length=(1 << 63) + 5),
        frame(8, b"\x00"),
        frame(9, bytes(200)),
        frame(0, b"goes on with nothing"),
        start + frame(1, b"text where audio is due"),
        start + frame(2, b"\0"),
        start + frame(2, bytes(900_000)),
        start + frame(2, bytes(3_000_000)),
        start + frame(2, b"\0\0", first=0) + frame(0, b"\0\0", first=0) * 20_000,
        start + frame(9, b"ping") * 20_000,
        start + frame(1, json.dumps({"type": "end"}).encode()) * 3,
        webm + frame(2, os.urandom(500_000)),
        webm + frame(2, bytes(500_000)),
        webm,
        start,
    ):
        with upgraded(target) as connection:
            with suppress(OSError):
                connection.sendall(data)
            connection.settimeout(seconds / 4)
            heard = b""
            with suppress(OSError):
                while more := connection.recv(1 << 16):
                    heard += more
            answers.add("answered" if heard else "closed")


def streams_killed(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """A hundred streams at once, of samples and of WebM, whose senders are gone in the middle."""

    def stream(number: int) -> None:
        with upgraded(target) as connection, suppress(OSError):
            first = FIRST if number % 2 else json.dumps({"encoding": "webm"}).encode()
            connection.sendall(frame(1, first) + frame(2, audio[44:64_044]))
            time.sleep(seconds / 4)
            if number % 4 < 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        answers.add("killed")

    many(100, stream, at_once=100)


CONNECTION_ATTACKS: dict[str, Callable[[Target, Answers, float, bytes, int], None]] = {
    "slow headers": slow_headers,
    "silent connections": silent_connections,
    "expect and silence": expect_and_silence,
    "slow uploads": slow_uploads,
    "answers unread": answers_unread,
    "resets": resets,
    "burst": burst,
    "broken frames": broken_frames,
    "streams killed": streams_killed,
}
