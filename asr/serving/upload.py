"""The body of a request, a form with a file → its fields, and the file in a folder; nothing is kept in memory whole.

The size of the body, of each field and of the headers of each part, the number of parts and the time are bounded. A
file's name is text: it is never a path here.

Source: RFC 7578, "Returning values from forms: multipart/form-data".
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from asr.audio.sound_file import RECORDING_SUFFIXES
from asr.errors import ConfigError, DependencyError
from asr.files import printable
from asr.serving.openai_form import RefusalError

if TYPE_CHECKING:
    from starlette.requests import Request

_MOST_PARTS = 100
_MOST_FIELD_BYTES = 1 << 16
_MOST_HEADER_BYTES = 1 << 13  # of one part
_FORM_BYTES = 1 << 20  # what a form may have besides its file
_IDLE_S = 20.0  # an upload from which nothing comes for so long is over
_DRAIN_S = 5.0
_LOOK_S = 1.0  # an upload that is given up ends within this time
_VERY_SLOW_BYTES_PER_S, _VERY_SLOW_S = 8000, 0.5  # speech as it is spoken has 16,000 or more
_OTHER_SUFFIXES = frozenset({".raw", ".pcm"})  # which the errors of the decoder explain


@dataclass(frozen=True)
class ServeLimits:
    """What one request may take, and how many there may be.

    Attributes:
        upload_mb: size of an upload, in millions of bytes.
        upload_s: time in which it must have come.
        audio_s: length of a recording.
        answer_s: time from the end of the upload to the answer, the wait for a worker included.
        requests: number of requests at once: those that are sent, those that wait, those at work.
        streams: number of WebSockets with audio at once.
    """

    upload_mb: float = 100.0
    upload_s: float = 300.0
    audio_s: float = 3600.0
    answer_s: float = 600.0
    requests: int = 100
    streams: int = 20

    def __post_init__(self) -> None:
        """Refuse limits that nothing can keep.

        Raises:
            ConfigError: one is not above 0.
        """
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"{name}={value}: a number above 0")

    @property
    def body_bytes(self) -> int:
        """The most bytes of a request's body."""
        return round(self.upload_mb * 1e6) + _FORM_BYTES


@dataclass(eq=False)
class Upload:
    """A form that has been received.

    Attributes:
        path: the file.
        file_name: as the sender gave it.
        fields: names and values of the other fields, in their order.
        has_file: whether there was a file.
        is_received: whether the body has come to its end.
        received_bytes: how much of the body has come.
        since_s: when it began, on the clock of `time.monotonic`.
        sender: who sends it.
        given_up: why it is refused, because another request takes its place; None if it keeps it.
    """

    path: Path
    sender: str = ""
    file_name: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    has_file: bool = False
    is_received: bool = False
    received_bytes: int = 0
    since_s: float = field(default_factory=time.monotonic)
    given_up: RefusalError | None = None

    def bytes_per_s(self) -> float:
        """Return how fast the body has come so far."""
        return self.received_bytes / max(1e-3, time.monotonic() - self.since_s)

    def is_very_slow(self) -> bool:
        """Return whether the body comes so slowly that another request may take its place."""
        begun = not self.is_received and self.given_up is None and time.monotonic() - self.since_s > _VERY_SLOW_S
        return begun and self.bytes_per_s() < _VERY_SLOW_BYTES_PER_S


@contextmanager
def upload_in(folder: Path, uploads: set[Upload], sender: str) -> Iterator[Upload]:
    """Yield an upload whose file will be in a folder; it is one of `uploads` until the file is removed at the end."""
    upload = Upload(folder / f"upload-{secrets.token_hex(8)}", sender)
    uploads.add(upload)
    try:
        yield upload
    finally:
        uploads.discard(upload)
        upload.path.unlink(missing_ok=True)


def gives_up_a_slow_one(uploads: Iterable[Upload]) -> bool:
    """Give up the slowest upload, if it is very slow, for a request that has no place; return whether there is one.

    Otherwise few senders of a byte now and then would keep out all others.
    """
    slow = min(filter(Upload.is_very_slow, uploads), key=Upload.bytes_per_s, default=None)
    if slow is not None:
        slow.given_up = RefusalError(408, "the upload was very slow, and others waited; try again")
    return slow is not None


def last_coming(uploads: Iterable[Upload], sender: str) -> Upload | None:
    """Return the last upload of a sender that has not come whole; None if there is none."""
    coming = [one for one in uploads if one.sender == sender and not one.is_received and one.given_up is None]
    return max(coming, key=lambda one: one.since_s, default=None)


def require_form(request: Request, limits: ServeLimits) -> None:
    """Refuse a request whose headers say already that it cannot be used.

    Raises:
        RefusalError: it is compressed, no form, or too large.
    """
    headers = request.headers
    if headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise RefusalError(415, "the body is compressed; send it without Content-Encoding")
    if headers.get("content-type", "").split(";")[0].strip().lower() != "multipart/form-data":
        raise RefusalError(415, "the body is not multipart/form-data; send the recording as the field file of a form")
    length = headers.get("content-length", "0")
    if not length.isdecimal() or len(length) > 18 or int(length) > limits.body_bytes:
        raise _too_large(limits)


async def receive(request: Request, upload: Upload, limits: ServeLimits) -> None:
    """Receive a form.

    Raises:
        RefusalError: it is too large, too slow, damaged, or has no file.
        ClientDisconnect: the sender has gone.
    """
    require_form(request, limits)
    with upload.path.open("wb") as file:
        parser = _form_parser(request, upload, file)
        async for chunk in _chunks(request, upload, limits):
            parser.write(chunk)
        parser.finish()
    if not upload.has_file:
        raise RefusalError(400, "the form has no file; send the recording as the field file", "file")
    suffix = PurePosixPath(upload.file_name).suffix.lower()
    if suffix in RECORDING_SUFFIXES | _OTHER_SUFFIXES:  # decoders look at it
        upload.path = upload.path.rename(upload.path.with_suffix(suffix))


async def _chunks(request: Request, upload: Upload, limits: ServeLimits) -> AsyncIterator[bytes]:
    """Yield the body of a request as it comes.

    Raises:
        RefusalError: it is too large or too slow.
        ClientDisconnect: the sender has gone.
    """
    from starlette.requests import ClientDisconnect

    last_s = time.monotonic()
    end_s = last_s + limits.upload_s
    while not upload.is_received:
        left_s = min(last_s + _IDLE_S, end_s) - time.monotonic()
        if upload.given_up is not None:
            raise upload.given_up
        if left_s <= 0:
            raise RefusalError(
                408, f"the upload took more than {limits.upload_s:g} s, or nothing came for {_IDLE_S:g} s"
            )
        try:
            message = await asyncio.wait_for(request.receive(), min(left_s, _LOOK_S))
        except asyncio.TimeoutError:
            continue
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        last_s = time.monotonic()
        upload.is_received = not message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        upload.received_bytes += len(chunk)
        if upload.received_bytes > limits.body_bytes:
            raise _too_large(limits)
        yield chunk


async def drain(request: Request) -> None:
    """Read what a refused sender still sends, for some seconds, so that he reads the answer; he cannot do both."""
    if "100-continue" in request.headers.get("expect", ""):  # he sends nothing before he is told to
        return
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_read_on(request), _DRAIN_S)


async def _read_on(request: Request) -> None:
    while (message := await request.receive())["type"] == "http.request" and message.get("more_body"):
        pass


def _too_large(limits: ServeLimits) -> RefusalError:
    return RefusalError(413, f"the upload is larger than {limits.upload_mb:g} MB, which is the most", "file")


def _form_parser(request: Request, upload: Upload, file: BinaryIO) -> _FormParser:
    try:
        from python_multipart.multipart import parse_options_header
    except ImportError:
        raise DependencyError("uploads need the package python-multipart: pip install 'asr[serve]'") from None
    boundary = parse_options_header(request.headers.get("content-type", ""))[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= 200:
        raise RefusalError(400, "the Content-Type of the form has no boundary, or a very long one")
    return _FormParser(boundary, upload, file)


class _FormParser:
    """Bytes of a form, as they come → an `Upload`."""

    def __init__(self, boundary: bytes, upload: Upload, file: BinaryIO) -> None:
        from python_multipart.multipart import MultipartParser

        self._upload, self._file = upload, file
        self._parts, self._header_bytes = 0, 0
        self._name, self._value, self._headers = bytearray(), bytearray(), dict[bytes, bytes]()
        self._field, self._data = "", bytearray()
        self._in_file, self._is_complete = False, False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._add(self._name, data[start:end]),
                "on_header_value": lambda data, start, end: self._add(self._value, data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": lambda data, start, end: self._take(data[start:end]),
                "on_part_end": self._end,
                "on_end": self._complete,
            },
        )

    def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            RefusalError: the form is damaged, or a part is too large.
        """
        from python_multipart.exceptions import FormParserError

        try:
            self._parser.write(chunk)
        except FormParserError:
            raise RefusalError(400, "the form is damaged") from None
        except OSError as error:
            raise RefusalError(503, f"the upload cannot be stored ({error.strerror}); try again later") from None

    def finish(self) -> None:
        """See that the form is complete.

        Raises:
            RefusalError: it is not.
        """
        if not self._is_complete:
            raise RefusalError(400, "the form is truncated")

    def _begin(self) -> None:
        self._parts, self._header_bytes = self._parts + 1, 0
        self._headers = {}
        if self._parts > _MOST_PARTS:
            raise RefusalError(400, f"the form has more than {_MOST_PARTS} fields")

    def _add(self, target: bytearray, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > _MOST_HEADER_BYTES:
            raise RefusalError(400, "a field of the form has very long headers")
        target.extend(data)

    def _end_header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _end_headers(self) -> None:
        from python_multipart.multipart import parse_options_header

        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise RefusalError(400, "a field of the form has no name")
        transfer = self._headers.get(b"content-transfer-encoding", b"binary").lower()
        if self._headers.get(b"content-encoding") or transfer in (b"base64", b"quoted-printable"):
            raise RefusalError(415, "a field of the form is encoded; send its bytes as they are")
        self._field, self._data = _text(options[b"name"]), bytearray()
        self._in_file = self._field == "file"
        if self._in_file and self._upload.has_file:
            raise RefusalError(400, "the form has two files; send one recording in a request", "file")
        if self._in_file:
            self._upload.has_file = True
            self._upload.file_name = _text(options.get(b"filename", b""))
        elif b"filename" in options:
            raise RefusalError(400, f"the field {printable(self._field)} is a file; the recording is the field file")

    def _take(self, data: bytes) -> None:
        if self._in_file:
            self._file.write(data)
            return
        if len(self._data) + len(data) > _MOST_FIELD_BYTES:
            raise RefusalError(400, f"the field {printable(self._field)} is longer than {_MOST_FIELD_BYTES} bytes")
        self._data.extend(data)

    def _end(self) -> None:
        if not self._in_file:
            self._upload.fields.append((self._field, _text(bytes(self._data))))

    def _complete(self) -> None:
        self._is_complete = True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
