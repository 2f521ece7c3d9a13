"""An HTTP server of files on this machine, which can be slow, break off, lie, or know no ranges."""

from __future__ import annotations

import hashlib
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from asr.preparing.download import RemoteFile

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@dataclass
class FileServer:
    """What the server has, how it behaves, and what it was asked for; tests change it while it runs."""

    files: dict[str, bytes] = field(default_factory=dict)  # by path, "/a.tar.gz"
    redirects: dict[str, str] = field(default_factory=dict)
    has_ranges: bool = True
    says_length: bool = True
    etag: str = '"one"'
    last_modified: str = ""
    statuses: list[int] = field(default_factory=list)  # answers of the next requests, in place of the file
    breaks_after: list[int] = field(default_factory=list)  # bytes that the next answers send before they break off
    shifts_bytes: list[int] = field(default_factory=list)  # how far the next parts are from what was asked for
    stalls: bool = False  # an answer that breaks off keeps the connection, and sends nothing
    block_bytes: int = 1 << 16
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path and range
    released: threading.Event = field(default_factory=threading.Event)  # ends what stalls
    url: str = ""


@contextmanager
def serving() -> Iterator[FileServer]:
    """Yield a server that listens on a free port until the `with` statement ends."""
    site = FileServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_GET(self):
            self.close_connection = True
            site.requests.append((self.path, self.headers["Range"]))
            if site.statuses:
                self.answer(site.statuses.pop(0), {"Retry-After": "7"}, b"busy")
            elif self.path in site.redirects:
                self.answer(302, {"Location": site.redirects[self.path]}, b"")
            elif self.path in site.files:
                self.send_file(site.files[self.path])
            else:
                self.answer(404, {}, b"no such file")

        def send_file(self, content):
            headers = {"ETag": site.etag} if site.etag else {}
            if site.last_modified:
                headers["Last-Modified"] = site.last_modified
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            condition = self.headers["If-Range"]
            is_same = condition is None or condition in (site.etag, site.last_modified)
            if not (asked and site.has_ranges and is_same):
                self.answer(200, headers, content)
            elif int(asked[1]) >= len(content):
                self.answer(416, {**headers, "Content-Range": f"bytes */{len(content)}"}, b"")
            else:
                start = int(asked[1]) + (site.shifts_bytes.pop(0) if site.shifts_bytes else 0)
                place = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.answer(206, {**headers, "Content-Range": place}, content[start:])

        def answer(self, status, headers, body):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if site.says_length or status >= 300:
                self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            end = site.breaks_after.pop(0) if status < 300 and site.breaks_after else len(body)
            for start in range(0, min(end, len(body)), site.block_bytes):
                self.wfile.write(body[start : min(start + site.block_bytes, end)])
            if end < len(body) and site.stalls:
                site.released.wait()

    class Server(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            pass  # a client that was killed

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def remote(site, **facts):
    """Return the published file that the fixture `site` has."""
    return RemoteFile(f"{site.url}/corpus.tar.gz", **facts)
