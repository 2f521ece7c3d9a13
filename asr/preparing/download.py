"""A published file → this machine, over HTTP: resumed after an interruption, and checked before it gets its name.

A file that is not whole yet is `NAME.part`, with `NAME.part.version` beside it: the address it comes from, and the mark
(ETag or date) by which the server knows this version of the file. The next call asks the server for the rest of that
version (RFC 9110, sections 13.1.5 and 14). A server that cannot continue, or whose file has changed, sends the whole
file, and the download starts again.

No library does all of this: pooch checks but does not resume, lhotse's `resumable_download` resumes but neither checks
nor keeps versions apart, and fsspec does neither.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import math
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from asr.errors import DownloadError, unreached, without_number
from asr.files import write_text
from asr.machine import Progress, silent

WAITS_S = (1, 2, 4, 8, 16)  # before another attempt, after a fault that may pass
LONGEST_WAIT_S = 120  # that a server can ask for
TIMEOUT_S = 60  # for a server that sends nothing
_BLOCK_BYTES = 1 << 16
_MB = 1_000_000
_MAY_PASS = (408, 425, 429, 500, 502, 503, 504)  # HTTP statuses


@dataclass(frozen=True)
class RemoteFile:
    """A published file, as a recipe states it. What is not published stays None; it is never guessed.

    Attributes:
        url: where it is, http or https.
        size_bytes: its published size.
        checksum: its published checksum, "sha256:…" or "md5:…" in hexadecimal digits, as pooch writes them.
        name: what it is called here and on mirrors; by default the last part of the address.
        is_archive: whether it is a tar archive that is unpacked, and not kept as it is.
    """

    url: str
    size_bytes: int | None = None
    checksum: str | None = None
    name: str = ""
    is_archive: bool = True

    def __post_init__(self) -> None:
        """Complete the name.

        Raises:
            ValueError: the name is not a plain file name, or the checksum is neither sha256 nor md5.
        """
        name = self.name or unquote(PurePosixPath(urlsplit(self.url).path).name)
        if not re.fullmatch(r"\w[\w.+-]*", name):
            raise ValueError(f"{self.url}: {name!r} is not a plain file name")
        if self.checksum is not None and not re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", self.checksum):
            raise ValueError(f"{self.url}: checksum {self.checksum!r}; expected sha256:… or md5:…")
        object.__setattr__(self, "name", name)

    def address(self, mirror: str | None = None) -> str:
        """Return where the file is: its own address, or that of the same name on a mirror."""
        return self.url if mirror is None else f"{mirror.rstrip('/')}/{self.name}"

    def fault(self, path: Path) -> str | None:
        """Return in what a copy differs from the published file, or None."""
        size_bytes = path.stat().st_size
        if self.size_bytes is not None and size_bytes != self.size_bytes:
            return f"it has {size_bytes:,} bytes, the published file has {self.size_bytes:,}"
        if self.checksum is not None:
            kind, _, published = self.checksum.partition(":")
            found = file_digest(path, kind)
            if found != published:
                return f"its {kind} is {found}, that of the published file is {published}"
        return None


def file_digest(path: Path, kind: str = "sha256") -> str:
    """Return the checksum of a file in hexadecimal digits."""
    digest = hashlib.new(kind, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(file: RemoteFile, folder: Path, *, mirror: str | None = None, progress: Progress = silent) -> Path:
    """Return `folder`/NAME, a copy of a published file, which is downloaded unless it is there.

    An interrupted download goes on where it ended. Faults that may pass are waited for. Proxies are those of the
    environment (`https_proxy`, `no_proxy`). Only one process may download into a folder; the caller sees to it.

    Args:
        file: what to download.
        folder: where it goes; made if it does not exist.
        mirror: the address of a folder that has a file of the same name; without it, the file's own address.
        progress: shows how many megabytes are there.

    Raises:
        DownloadError: there is no network, the server has no such file or refuses it, or what it sends is not the
            published file; the disk is full or cannot be written; the copy that was there is not the published file.
    """
    target, part = folder / file.name, folder / f"{file.name}.part"
    url = file.address(mirror)
    _check_address(url)
    if target.exists():
        if fault := file.fault(target):
            raise DownloadError(f"{target}: {fault}; remove it, and the same command downloads the file")
        return target
    with _on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    while True:
        began_earlier = part.exists()
        _retry(lambda: _Transfer(file, url, part, progress).run(), part)
        fault = file.fault(part)
        if fault is None:
            break
        _forget(part)
        if not began_earlier:  # else parts of two versions may have come together; a new download shows it
            raise DownloadError(
                f"{url}: {fault}; it was removed. The transfer was disturbed, or the server has another file: "
                f"try again, name another --mirror, or put the published {file.name} into {folder} yourself"
            )
    with _on_disk(folder):
        os.replace(part, target)
        _forget(part)
    return target


def check_space(files: Sequence[RemoteFile], folder: Path) -> None:
    """Refuse to begin what the disk cannot hold, as far as sizes are published.

    An archive is removed once it is unpacked, and its content is at least as large as the archive.

    Raises:
        DownloadError: there is too little room; the message says how much is needed.
    """
    sizes = [file.size_bytes or 0 for file in files]
    archives = [file.size_bytes or 0 for file in files if file.is_archive]
    _need(sum(sizes) + max(archives, default=0), folder, f"{len(files)} files")


def _need(needed_bytes: int, folder: Path, what: str) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if needed_bytes > free_bytes:
        raise DownloadError(
            f"{folder}: the disk has {free_bytes / _MB:,.0f} MB free; to download and unpack {what} needs at least "
            f"{needed_bytes / _MB:,.0f} MB. Make room, or name another folder with --corpus-dir"
        )


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # of a port that is no number, for example
        is_address = False
    if not is_address or not re.fullmatch(r"[!-~]+", url):
        raise DownloadError(f"{url}: not an address that begins with http:// or https://, in ASCII without spaces")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _mark_file(part).unlink(missing_ok=True)


def _mark_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


class _PassingError(Exception):
    """A fault that may pass, in the words for the user, and how long the server asks to wait."""

    def __init__(self, message: str, wait_s: float = 0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def _retry(transfer: Callable[[], None], part: Path) -> None:
    """Try until a transfer ends; after each wait that brought no byte, wait longer, and in the end give up."""
    failures = 0
    while True:
        before_bytes = _size_bytes(part)
        try:
            return transfer()
        except _PassingError as error:
            failures = 1 if _size_bytes(part) > before_bytes else failures + 1
            if failures > len(WAITS_S):
                have = f"; the {_size_bytes(part) / _MB:,.1f} MB that came are kept" if _size_bytes(part) else ""
                raise DownloadError(f"{error}{have}, and the same command goes on from there") from None
            time.sleep(max(WAITS_S[failures - 1], min(error.wait_s, LONGEST_WAIT_S)))


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Transfer:
    """One request for a file, or for the rest of it."""

    def __init__(self, file: RemoteFile, url: str, part: Path, progress: Progress) -> None:
        self.file = file
        self.url = url
        self.part = part
        self.progress = progress

    def run(self) -> None:
        """Download what is missing of the file into `part`."""
        start = _size_bytes(self.part)
        headers = self._range_headers(start)
        if start and start == self.file.size_bytes:
            return
        start = start if headers else 0
        try:
            response = _open(self.url, headers)
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not headers:
                raise _refusal(self.url, error) from None
            if error.headers.get("Content-Range", "") != f"bytes */{start}":
                _forget(self.part)  # it is longer than the server's file
                self.run()
            return
        with response:
            first, total = self._first_and_total(response, start)
            self._check_total(total)
            total = self.file.size_bytes if total is None else total
            if total is not None:
                _need(total - first + (total if self.file.is_archive else 0), self.part.parent, self.file.name)
            self._receive(response, first, total)

    def _range_headers(self, start: int) -> dict[str, str]:
        """Return what asks for the rest of the version that the part is of; nothing if that cannot be told."""
        if not start:
            return {}
        url = version = ""
        with suppress(OSError, UnicodeDecodeError):
            url, _, version = _mark_file(self.part).read_text(encoding="utf-8").partition("\n")
        if url == self.url and version and version.isascii() and version.isprintable():
            return {"Range": f"bytes={start}-", "If-Range": version}
        return {"Range": f"bytes={start}-"} if self.file.checksum else {}  # the checksum tells versions apart

    def _first_and_total(self, response: http.client.HTTPResponse, start: int) -> tuple[int, int | None]:
        """Return the number of the first byte that comes, and the size of the whole file if the server says it."""
        if response.status == http.HTTPStatus.PARTIAL_CONTENT:
            match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != start:
                _forget(self.part)
                raise _PassingError(f"{self.url}: the server sent another part of the file than it was asked for")
            return start, int(match[2]) + 1 if match[3] == "*" else int(match[3])
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdigit() else None

    def _check_total(self, total: int | None) -> None:
        published = self.file.size_bytes
        if total is not None and published is not None and total != published:
            raise DownloadError(
                f"{self.url}: {total:,} bytes, the published file has {published:,}. It is another file: name another "
                f"--mirror, or put the published {self.file.name} into {self.part.parent} yourself"
            )

    def _receive(self, response: http.client.HTTPResponse, first: int, total: int | None) -> None:
        title = f"{self.file.name}, MB"
        if first:
            title += f" after the first {first // _MB}"
        elif _size_bytes(self.part):
            title += ", again from the beginning"
        with _on_disk(self.part):
            write_text(_mark_file(self.part), f"{self.url}\n{_version(response.headers)}")
            file = self.part.open("r+b" if first else "wb", buffering=0)
        received, shown_mb = first, 0
        expected_mb = math.ceil((total - first) / _MB) if total is not None else 0
        with file, self.progress(title, expected_mb) as advance:
            file.seek(first)
            while block := self._read(response):
                with _on_disk(self.part, goes_on=True):
                    _write_all(file, block)
                received += len(block)
                reached_mb = (received - first) // _MB
                if reached_mb > shown_mb:
                    advance(reached_mb - shown_mb)
                    shown_mb = reached_mb
            with _on_disk(self.part, goes_on=True):
                os.fsync(file.fileno())
        if total is not None and received < total:
            raise _PassingError(f"{self.url}: the connection ended after {received:,} of {total:,} bytes")

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read1(_BLOCK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _PassingError(f"{self.url}: the connection broke ({without_number(error)})") from None


def _version(headers: http.client.HTTPMessage) -> str:
    """Return the mark by which the server knows these very bytes; a weak ETag is none."""
    etag: str = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _write_all(file: IO[bytes], block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[file.write(view) :]


@contextmanager
def _on_disk(path: Path, *, goes_on: bool = False) -> Iterator[None]:
    """Let errors of the disk name the path and the way out."""
    try:
        yield
    except OSError as error:
        kept = "; what came is kept, and the same command goes on from there" if goes_on else ""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(f"{path}: the disk is full; make room{kept}") from None
        raise DownloadError(f"{path}: cannot be written ({error.strerror}); name another --corpus-dir{kept}") from None


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and never from https to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request for the new address; None, which ends the request, if it has another scheme."""
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or urlsplit(req.full_url).scheme == "https"):
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    opener = urllib.request.OpenerDirector()  # without the handlers of file:, ftp: and data:
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
        _SameScheme,
    ):
        opener.add_handler(handler())
    request = urllib.request.Request(url, headers={"User-Agent": "asr", "Accept-Encoding": "identity", **headers})
    try:
        response: http.client.HTTPResponse = opener.open(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _unreached(url, error) from None
    return response


def _unreached(url: str, error: Exception) -> Exception:
    """Return the error of a server that did not answer."""
    host = urlsplit(url).hostname or ""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    said = unreached(host, error) or f"the server {host} does not answer ({reason or type(reason).__name__})"
    if isinstance(reason, socket.gaierror):
        return DownloadError(f"{url}: {said}, or name another --mirror")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(f"{url}: {said}")
    return _PassingError(f"{url}: {said}")


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    """Return the error of a server that answered with a status that is no success."""
    status = f"{error.code} {error.reason}".strip()
    if error.code in _MAY_PASS:
        wait, message = error.headers.get("Retry-After", ""), f"{url}: the server cannot send it now ({status})"
        return _PassingError(message, float(wait) if wait.isdecimal() else 0)
    if 300 <= error.code < 400:
        place = error.headers.get("Location", "")
        less = url.startswith("https:") and place.startswith("http:")
        reason = f", because http is not safe; if you trust it, --mirror {place.rpartition('/')[0]}" if less else ""
        return DownloadError(f"{url}: the server redirects to {place}, which is not followed{reason}; name a --mirror")
    known = {401: "refuses it", 403: "refuses it", 404: "has no such file", 410: "has no such file"}
    what = known.get(error.code, "does not send it")
    return DownloadError(f"{url}: the server {what} ({status}); name another --mirror, or get it by hand")
