"""Attacks of `benchmarks/abuse.py` with requests: each sends what no well-behaved client sends, for some seconds."""

from __future__ import annotations

import gzip
import re
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

TRANSCRIPTIONS = "/v1/audio/transcriptions"
BOUNDARY = "limit"
PATIENCE_S = 40.0  # for an answer


class Answers:
    """How often each answer came."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, answer: str, count: int = 1) -> None:
        """Count an answer."""
        self._counts[answer] += count

    def __str__(self) -> str:
        """Return them in order."""
        return ", ".join(f"{count} × {answer}" for answer, count in sorted(self._counts.items()))


@dataclass(frozen=True)
class Target:
    """Where the server is, and from which address it is asked; an empty one is the system's choice."""

    host: str
    port: int
    token: str | None
    source: str = ""

    def connect(self, receive_bytes: int = 0) -> socket.socket:
        """Return a connection; one with a small buffer for what is received if that is wanted."""
        connection = socket.socket()
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(PATIENCE_S)
        if self.source:
            connection.bind((self.source, 0))
        connection.connect((self.host, self.port))
        return connection

    def head(self, length: int | None, *more: str, path: str = TRANSCRIPTIONS) -> bytes:
        """Return the start of a request with a form."""
        lines = [f"POST {path} HTTP/1.1", f"Host: {self.host}:{self.port}", *more]
        if not any(line.lower().startswith("content-type") for line in more):
            lines.append(f"Content-Type: multipart/form-data; boundary={BOUNDARY}")
        if length is not None:
            lines.append(f"Content-Length: {length}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def send(self, answers: Answers, data: bytes | Iterable[bytes], end: bool = False) -> str:
        """Send bytes on a connection of their own; count the status of the answer and return its body."""
        with self.connect() as connection:
            with suppress(OSError):  # the answer may come before all is sent
                for piece in [data] if isinstance(data, bytes) else data:
                    connection.sendall(piece)
                if end:
                    connection.shutdown(socket.SHUT_WR)
            status, body = answer_on(connection)
        answers.add(status)
        return body

    def post(self, answers: Answers, body: bytes, *more: str) -> str:
        """Send a form."""
        return self.send(answers, self.head(len(body), *more) + body)


def answer_on(connection: socket.socket) -> tuple[str, str]:
    """Return the status of the first answer on a connection, and what follows."""
    data = b""
    try:
        while b"\r\n\r\n" not in data and (more := connection.recv(1 << 16)):
            data += more
        found = re.search(rb"content-length: (\d+)", data, re.IGNORECASE)
        start = data.find(b"\r\n\r\n") + 4
        while found and len(data) < start + int(found[1]) and (more := connection.recv(1 << 16)):
            data += more
    except TimeoutError:
        return "silent", ""
    except OSError:
        pass
    if not data.startswith(b"HTTP/1."):
        return "closed", ""
    return data[9:12].decode(), data[start:].decode("utf-8", "replace")


def part(name: str, value: bytes, file_name: str | None = None, *more: str) -> bytes:
    """Return a part of a form."""
    file = "" if file_name is None else f'; filename="{file_name}"'
    lines = [f"--{BOUNDARY}", f'Content-Disposition: form-data; name="{name}"{file}', *more, "", ""]
    return "\r\n".join(lines).encode() + value + b"\r\n"


def form(file: bytes, file_name: str = "a.wav", **fields: str) -> bytes:
    """Return a form with a file."""
    return b"".join(part(name, value.encode()) for name, value in fields.items()) + part("file", file, file_name) + END


END = f"--{BOUNDARY}--\r\n".encode()


def many(count: int, work: Callable[[int], object], at_once: int = 16) -> None:
    """Do something many times, some of them at once."""
    with ThreadPoolExecutor(at_once) as threads:
        list(threads.map(work, range(count)))


def long_heads(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """10,000 headers, a header of 1 MB, very long addresses, endless lines."""
    host = f"Host: {target.host}\r\n"
    for head in (
        "GET /health HTTP/1.1\r\n" + host + "".join(f"a{n}: b\r\n" for n in range(10_000)),
        "GET /health HTTP/1.1\r\n" + host + "a: b\r\n" * 10_000,
        "GET /health HTTP/1.1\r\n" + host + f"a: {'b' * (1 << 20)}\r\n",
        f"GET /{'a' * 60_000} HTTP/1.1\r\n{host}",
        f"GET /health?{'a' * (1 << 20)} HTTP/1.1\r\n{host}",
        f"GET /v1/models/{'%0a' * 15_000} HTTP/1.1\r\n{host}",
        "\r\n" * 100_000 + "GET /health HTTP/1.1\r\n" + host,
        "a" * (1 << 20),
    ):
        target.send(answers, head.encode() + b"\r\n")


def truncated_bodies(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Bodies that end early: the sender closes, half-closes, or resets the connection."""
    body = form(audio)
    head = target.head(len(body))

    def cut(number: int) -> None:
        with target.connect() as connection:
            connection.sendall((head + body)[: len(head) + number * len(body) // 60])
            if number % 3 == 0:
                connection.shutdown(socket.SHUT_WR)
                answers.add(answer_on(connection)[0])
            elif number % 3 == 1:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    many(60, cut)


def lying_lengths(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Lengths that are wrong, doubled or no numbers; damaged pieces; what proxies and servers read in two ways."""
    body = form(audio)
    chunked = "Transfer-Encoding: chunked"
    smuggled = f"GET /metrics HTTP/1.1\r\nHost: {target.host}\r\n\r\n".encode()
    for length in ("-1", "+5", "0x10", "1e3", "9" * 30, "5, 5", "5, 6", "", " ", "１２"):
        target.send(answers, target.head(None, f"Content-Length: {length}") + body)
    for data in (
        target.head(len(body), f"Content-Length: {len(body) + 1}") + body,
        target.head(5) + body,
        target.head(len(body), chunked) + body,
        target.head(6, chunked) + b"0\r\n\r\n" + smuggled,
        target.head(None, "Transfer-Encoding: chunked, gzip") + body,
        target.head(None, "Transfer-Encoding: xchunked") + body,
        target.head(None, "Transfer-Encoding : chunked") + body,
        target.head(None, "Transfer-Encoding:\x0bchunked") + body,
        target.head(None, chunked, chunked) + body,
        target.head(None, chunked) + b"FFFFFFFFFFFFFFFFFF\r\n" + body,
        target.head(None, chunked) + b"-5\r\n" + body,
        target.head(None, chunked) + b"5;" + b"a" * 100_000 + b"\r\nabcde\r\n0\r\n\r\n",
        target.head(None, chunked) + b"5\r\nabcdefgh\r\n0\r\n\r\n",
        target.head(None, chunked) + b"0\r\n" + b"a: b\r\n" * 20_000 + b"\r\n",
        target.head(None, "a: b\r\n c: d") + body,
        target.head(None, "a\x00b: c") + body,
        target.head(len(body)).replace(b"\r\n", b"\n") + body,
        target.head(len(body)) + body + smuggled * 50,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    ):
        target.send(answers, data, end=True)


def tiny_chunks(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """A body in pieces of one byte, and pieces without end."""
    start = target.head(None, "Transfer-Encoding: chunked") + b"6\r\n" + b"--limi" + b"\r\n"
    end = time.monotonic() + seconds

    def endless(_: int) -> None:
        def pieces() -> Iterator[bytes]:
            yield start
            while time.monotonic() < end:
                yield b"1\r\na\r\n" * 10_000

        target.send(answers, pieces(), end=True)

    many(2, endless)


def odd_forms(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Forms that are damaged, nested, doubled, very large in one way, or none."""
    nested = part("file", form(audio), "a.wav", "Content-Type: multipart/mixed; boundary=limit")
    for body in (
        b"".join(part(f"f{number}", b"x") for number in range(10_000)) + form(audio),
        b"".join(part("timestamp_granularities[]", b"word") for _ in range(99)) + form(audio),
        form(audio)[: -len(END)],
        form(audio)[: -len(END) - 2],
        b"--limit\n\n--limit--",
        b"\r\n" * 100_000 + form(audio),
        form(audio) + b"\r\n" * 1_000_000,
        form(audio) + form(audio),
        nested + END,
        part("file", audio) + END,
        part("file", audio, "a.wav") + part("file", audio, "b.wav") + END,
        part("model", b"served", "a.wav") + form(audio),
        part("model", b"served") * 2 + form(audio),
        part("prompt", b"x" * 1_000_000) + form(audio),
        part("x" * 100_000, b"") + form(audio),
        part("file", audio, "x" * 100_000) + END,
        part("file", audio, "a.wav", *(f"a{number}: b" for number in range(10_000))) + END,
        part("file", audio, "a.wav", "Content-Transfer-Encoding: base64") + END,
        part("file", gzip.compress(audio), "a.wav", "Content-Encoding: gzip") + END,
        part("file", b"", "a.wav") + END,
        part("", audio, "a.wav") + END,
        b"--limit\r\n\r\n" + audio + b"\r\n" + END,
        b"--limit\r\nContent-Disposition: form-data; name*=utf-8''file; filename*=utf-16''%ff\r\n\r\nx\r\n" + END,
        b"--limit\r\nContent-Disposition: " + b";" * 8000 + b"\r\n\r\nx\r\n" + END,
        b"--limit\r\nContent-Disposition: form-data; name=" + b'"\\' * 4000 + b"\r\n\r\nx\r\n" + END,
        b"",
    ):
        target.post(answers, body)
    for kind in (
        "",
        "text/plain",
        "multipart/form-data",
        f"multipart/form-data; boundary={'b' * 50_000}",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=limit; boundary=other",
        'multipart/form-data; boundary="' + "\\" * 10_000,
        "application/x-www-form-urlencoded",
        "application/json",
        "multipart/mixed; boundary=limit",
        "multipart/form-data; " + "a=b;" * 10_000,
    ):
        target.post(answers, form(audio), f"Content-Type: {kind}")


def hard_to_parse(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Bodies of 20 MB that take a parser its time: line ends, beginnings of boundaries, line ends before the first."""
    for filling in (b"\r" * 20_000_000, b"\r\n--limi" * 2_500_000, b"\r\n" * 10_000_000):
        target.post(answers, form(filling))
    target.post(answers, b"\r\n" * 10_000_000 + form(audio))
    target.post(answers, form(audio) + b"-" * 20_000_000)


NAMES = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "..\\..\\a.wav",
    "a\x00.wav",
    "a.wav\x00.txt",
    "-i.wav",
    "|id.wav",
    "file:///etc/passwd",
    "\u202egnp.wav",
    "a\x1b[31m.wav",
    "a\u2028b.wav",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16") + ".wav",
    "a\r.wav",
    "a\n.wav",
    "con.wav",
    "." * 500,
    "x" * 5000,
    "%2e%2e%2f.wav",
    "$(id).wav",
    '{"time": "x"}',
    "",
)


def names(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Names of files, models and fields that are paths, commands, control characters or lines of a log."""
    for name in NAMES:
        for file in (audio, b"no audio"):
            told = target.post(answers, form(file, name))
            if re.search("root:|upload-[0-9a-f]|[\x00-\x08\x0b\x1b\u2028\u202e]", told):
                answers.add(f"TOLD {told[:80]!r}")
        for format in ("json", "verbose_json", "text", "srt"):
            target.post(answers, form(audio, prompt=name, language=name, response_format=format))
        target.post(answers, form(audio, model=name))
        target.post(answers, form(audio, **{name or "x": name}))
        quoted = "".join(f"%{byte:02x}" for byte in name.encode())
        for path in (
            f"/v1/models/{quoted}",
            f"/{quoted}",
            f"/static/{quoted}",
            f"//{quoted}",
            f"/v1/models/..%2f{quoted}",
        ):
            target.send(answers, f"GET {path} HTTP/1.1\r\nHost: {target.host}\r\n\r\n".encode())


def hosts_and_methods(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Names of hosts that are not the server's, other sites, and methods."""
    good = f"Host: {target.host}"
    heads = [
        f"{method} {path} HTTP/1.1\r\n{good}"
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "G@T", "get", "A" * 5000)
        for path in ("/", "/health", TRANSCRIPTIONS, "*", "http://evil.example/health", "/a/../health")
    ]
    heads += [
        f"GET /v1/models HTTP/1.1\r\n{host}"
        for host in (
            "Host: evil.example",
            "Host:",
            "a: b",
            "Host: [",
            "Host: ]::1[",
            "Host: 127.0.0.1@evil.example",
            "Host: 127.0.0.1.evil.example",
            "Host: 127.0.0.1:80:80",
            f"{good}\r\nHost: evil.example",
            "Host: \xff\xfe",
            f"Host: {'a' * 10_000}",
            f"{good}\r\nOrigin: null",
            f"{good}\r\nOrigin: http://evil.example",
            f"{good}\r\nOrigin: http://127.0.0.1:1",
            f"{good}\r\nOrigin: [",
        )
    ]
    heads += [
        f"GET {path} HTTP/1.{minor}\r\n{good}" for path in ("/health", "//", "/[", "/?[=%") for minor in (0, 1, 9)
    ]
    for head in heads:
        target.send(answers, head.encode("latin-1") + b"\r\n\r\n")


def wrong_tokens(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Tokens that are guessed, too long, of other bytes, doubled, or in other places; hosts with the right one."""
    token = target.token or ""
    body = form(audio)
    for given in (
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {token[:-1]}",
        f"Bearer {token}x",
        f"Basic {token}",
        f"bearer  {token} x",
        "Bearer \xff\xfe\x80",
        "Bearer " + "x" * 50_000,
        f"Bearer {token.upper()}",
        "Bearer \u0130".encode().decode("latin-1"),
        token,
        f"Bearer\t{token}",
        "Bearer " + token.replace("a", "\u0430").encode().decode("latin-1"),
    ):
        target.post(answers, body, f"Authorization: {given}")
        for path in ("/v1/models", "/metrics", "/%2f", "/health/", "//health", "/health/../v1/models", "/HEALTH"):
            head = f"GET {path}?token={token} HTTP/1.1\r\nHost: {target.host}\r\nAuthorization: {given}\r\n\r\n"
            target.send(answers, head.encode("latin-1"))
    for host in ("[", "\xff", "evil.example", ""):
        for path in ("/nothing", "/v1/models", "//", TRANSCRIPTIONS):
            head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\r\n"
            target.send(answers, head.encode("latin-1"))


HTTP_ATTACKS: dict[str, Callable[[Target, Answers, float, bytes, int], None]] = {
    "long heads": long_heads,
    "hosts and methods": hosts_and_methods,
    "truncated bodies": truncated_bodies,
    "lying lengths": lying_lengths,
    "odd forms": odd_forms,
    "hard to parse": hard_to_parse,
    "tiny chunks": tiny_chunks,
    "names": names,
    "wrong tokens": wrong_tokens,
}
