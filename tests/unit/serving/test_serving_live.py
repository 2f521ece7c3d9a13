"""Streams through WebSockets: the results of Python, many at once, limits, and senders that break off."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr.audio.blocks import load_audio
from asr.decoding.streaming import Partial
from asr.errors import AudioError
from asr.runtime import load as load_export
from asr.serving.connection import Connection, LiveLimits, StreamError
from asr.serving.webm import webm_decoder
from tests.unit.serving.running_server import running, wait_until

websockets = pytest.importorskip("websockets", reason="the extra serve is not installed")
from websockets.sync.client import ClientConnection, connect  # noqa: E402

END = json.dumps({"type": "end"})
TOKEN = "a-token/of+more=16~characters"


def address(server, path="/v1/stream"):
    return server.url.replace("http", "ws") + path


def opened(server, path="/v1/stream", **options) -> ClientConnection:
    return connect(address(server, path), proxy=None, **options)


def answers(connection: ClientConnection) -> list[dict]:
    """Return what the server says until it closes the connection."""
    heard = []
    with suppress(websockets.exceptions.ConnectionClosedError):
        heard.extend(json.loads(message) for message in connection)
    return heard


def streamed(server, pcm: bytes, block: int, first: dict) -> list[dict]:
    """Send a recording in blocks and return all that is answered."""
    with opened(server) as connection:
        heard: list[dict] = []
        listening = threading.Thread(target=lambda: heard.extend(answers(connection)))
        listening.start()
        connection.send(json.dumps(first))
        for place in range(0, len(pcm), block):
            connection.send(pcm[place : place + block])
        connection.send(END)
        listening.join(120)
    return heard


def expected_finals(recognizer, samples: np.ndarray, rate_hz: int, **wanted) -> list[Partial]:
    wanted = {"end_silence_s": 0.4, **wanted}
    return [one for one in recognizer.stream([samples], sample_rate_hz=rate_hz, **wanted) if one.is_final]


def assert_finals(heard: list[dict], expected: list[Partial]) -> None:
    finals = [one for one in heard if one["type"] == "final"]
    assert [one["text"] for one in finals] == [one.text for one in expected]
    for final, same in zip(finals, expected, strict=True):
        for name, digits in (("start_s", 3), ("end_s", 3), ("confidence", 4)):
            assert [word[name] for word in final["words"]] == [
                round(getattr(word, name), digits) for word in same.words
            ]
        assert [word["text"] for word in final["words"]] == [word.text for word in same.words]


def pcm_of(path: Path) -> tuple[bytes, np.ndarray]:
    pcm, _ = soundfile.read(path, dtype="int16")
    return pcm.tobytes(), pcm.astype(np.float32) / np.float32(2**15)


@pytest.fixture(scope="module")
def speech(recordings) -> Path:
    return recordings[1]


@pytest.mark.parametrize(("name", "block"), [("exported", 3200), ("trained", 3200), ("exported", 777), ("", 50_000)])
def test_the_results_are_those_of_the_recogniser_s_stream_however_the_audio_is_cut(server, loaded, speech, name, block):
    pcm, samples = pcm_of(speech)
    heard = streamed(server, pcm, block, {"model": name, "sample_rate_hz": 16000})
    expected = expected_finals(loaded(name or "exported"), samples, 16000)
    assert expected
    assert heard[0] == {"type": "ready", "model": name or "exported", "notes": []}
    assert_finals(heard, expected)
    assert heard[-1] == {"type": "end", "duration_s": round(len(samples) / 16000, 3)}


@pytest.fixture(scope="module")
def loaded(model, exported):
    models = {"exported": load_export(exported), "trained": asr.load(model, accelerator="cpu", precision="fp32")}
    return models.__getitem__


def test_rate_pause_and_hotwords_are_those_of_the_first_message(server, loaded, speech):
    pcm, samples = pcm_of(speech)
    first = {"sample_rate_hz": 44100, "hotwords": {"abba": 9.0, "ü": 1.0}, "end_silence_s": 0.2}
    heard = streamed(server, pcm, 8820, first)
    wanted = {"hotwords": {"abba": 9.0}, "end_silence_s": 0.2}
    assert_finals(heard, expected_finals(loaded("exported"), samples, 44100, **wanted))
    (note,) = heard[0]["notes"]
    assert "ü" in note


def test_streams_at_once_have_the_results_of_each_alone(server, loaded, recordings):
    found: dict[int, list[dict]] = {}

    def run(number: int) -> None:
        pcm, _ = pcm_of(recordings[number % 3])
        found[number] = streamed(server, pcm, 3200, {"sample_rate_hz": 16000})

    threads = [threading.Thread(target=run, args=(number,)) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, heard in found.items():
        _, samples = pcm_of(recordings[number % 3])
        assert_finals(heard, expected_finals(loaded("exported"), samples, 16000))
    assert len(found) == 9
    wait_until(lambda: server.desk.live.streams == 0)


def test_a_stream_is_counted_and_logged_without_its_words(server, speech, capfd):
    counted = 'asr_requests_total{path="/v1/stream",status="1000"} '

    def figure() -> float:
        return float(server.desk.metrics.text()[0].decode().partition(counted)[2].partition("\n")[0] or 0)

    before = figure()
    pcm, samples = pcm_of(speech)
    heard = streamed(server, pcm, 3200, {"sample_rate_hz": 16000})
    wait_until(lambda: figure() == before + 1)
    (line,) = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "/v1/stream" in line]
    assert line["model"] == "exported"
    assert line["audio_s"] == round(len(samples) / 16000, 3)
    assert not any(one["text"] in json.dumps(line) for one in heard if one["type"] == "final")


needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")


@pytest.fixture(scope="module")
def webm(speech, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("webm") / "speech.webm"
    command = ["ffmpeg", "-loglevel", "error", "-i", str(speech), "-c:a", "libopus", "-b:a", "64k", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@needs_ffmpeg
def test_opus_in_webm_is_heard_as_its_samples_are(server, loaded, webm):
    heard = streamed(server, webm.read_bytes(), 1000, {"encoding": "webm"})
    decoded = asyncio.run(decode(webm.read_bytes()))
    samples = np.frombuffer(decoded, "<i2").astype(np.float32) / np.float32(2**15)
    reference = load_audio(webm, 48000)  # as a file, which begins with the silence before the first packet
    delay = len(reference) - len(samples)
    assert 0 <= delay < 480
    np.testing.assert_allclose(samples, reference[delay:], atol=2e-4)
    assert_finals(heard, expected_finals(loaded("exported"), samples, 48000))
    wait_until(lambda: not children())


async def decode(content: bytes) -> bytes:
    async with webm_decoder() as decoder:

        async def write() -> None:
            for place in range(0, len(content), 1000):
                await decoder.write(content[place : place + 1000])
            await decoder.end()

        writing = asyncio.ensure_future(write())
        pcm = b""
        while more := await decoder.read():
            pcm += more
        await writing
    return pcm


def children() -> list[str]:
    """Return the processes of ffmpeg that this process has started."""
    lines = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "comm="], capture_output=True, text=True).stdout
    return [line for line in lines.split() if "ffmpeg" in line]


@needs_ffmpeg
def test_what_is_no_webm_is_an_error_with_a_sentence_and_leaves_no_process(server):
    heard = streamed(server, b"no webm at all " * 100, 500, {"encoding": "webm"})
    assert heard[-1]["type"] == "error"
    assert "not Opus in WebM" in heard[-1]["message"]
    with pytest.raises(AudioError, match="not Opus in WebM"):
        asyncio.run(decode(b"\x1a\x45\xdf\xa3" + b"\xff" * 4000))
    wait_until(lambda: not children())


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "the first message"),
        ('{"sample_rate_hz": 16000, "model": "other"}', "there is no model 'other'"),
        ("{}", "pcm16 needs one from"),
        ('{"sample_rate_hz": 1}', "pcm16 needs one from"),
        ('{"sample_rate_hz": "16000"}', "sample_rate_hz"),
        ('{"sample_rate_hz": 16000, "encoding": "mp3"}', "encoding"),
        ('{"sample_rate_hz": 16000, "hotwords": [1]}', "hotwords"),
        ('{"sample_rate_hz": 16000, "end_silence_s": -1}', "pause"),
        (json.dumps({"sample_rate_hz": 16000, "hotwords": [str(n) for n in range(1001)]}), "the most are 1000"),
        (b"\0\0", "the first message is a text"),
    ],
)
def test_a_first_message_that_cannot_be_used_is_refused_with_a_sentence(server, first, reason):
    with opened(server) as connection:
        connection.send(first)
        (answer,) = answers(connection)
        assert connection.close_code == 1008
        assert reason in answer["message"]
        assert connection.close_reason.startswith(answer["message"][:50])
    wait_until(lambda: server.desk.live.streams == 0)


@contextmanager
def limited(server, **limits) -> Iterator[None]:
    live = server.desk.live
    before, live.limits = live.limits, replace(live.limits, **limits)
    try:
        yield
    finally:
        live.limits = before


def begun(server, **options) -> ClientConnection:
    connection = opened(server, **options)
    connection.send('{"sample_rate_hz": 16000}')
    return connection


def test_one_stream_too_many_is_told_to_come_later_and_does_later(server):
    with limited(server, streams=1), begun(server) as first:
        assert json.loads(first.recv())["type"] == "ready"
        with begun(server) as second:
            assert "1 streams are open" in answers(second)[0]["message"]
            assert second.close_code == 1013
        first.send(END)
        assert answers(first)[-1]["type"] == "end"
        wait_until(lambda: server.desk.live.streams == 0)
        with begun(server) as third:
            third.send(END)
            assert answers(third)[-1]["type"] == "end"


@pytest.mark.parametrize(
    ("limits", "sent", "code", "reason"),
    [
        ({"idle_s": 0.2}, [], 1008, "no message came for 0.2 s"),
        ({"message_bytes": 1000}, [bytes(1002)], 1009, "larger than 1000 bytes"),
        ({"audio_s": 1.0}, [bytes(3200)] * 11, 1009, "longer than 1 s"),
        ({}, ["hello"], 1007, "not JSON"),
        ({}, ['{"type": "other"}'], 1008, "audio is binary"),
        ({"audio_s": 100.0}, [END, END, END], 1008, ""),
    ],
)
def test_a_stream_beyond_its_limits_ends_with_the_reason(server, limits, sent, code, reason):
    with limited(server, **limits), begun(server) as connection:
        for content in sent:
            connection.send(content)
        last = answers(connection)[-1]
        if reason:
            assert (last["type"], connection.close_code) == ("error", code)
            assert reason in last["message"]
    wait_until(lambda: server.desk.live.streams == 0)


def test_who_sends_no_first_message_is_sent_away(server):
    with limited(server, start_s=0.2), opened(server) as connection:
        assert "no message came" in answers(connection)[0]["message"]


def test_a_sender_that_breaks_off_or_sends_broken_frames_leaves_nothing_behind(server, speech):
    pcm, _ = pcm_of(speech)
    for last_bytes in (b"", b"\xff" * 100, b"\x82\xff" + b"\xff" * 8, b"\x82\x05ab", b"\xc1\x80\0\0\0\0"):
        connection = begun(server)
        assert json.loads(connection.recv())["type"] == "ready"
        connection.send(pcm[:100_000])
        # With this option a close is a reset: as if the machine had been switched off. It is set first, because the
        # client closes by itself once the server has refused a frame.
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.socket.sendall(last_bytes)
        connection.socket.close()
        wait_until(lambda: server.desk.live.streams == 0)
    assert not any(worker.listeners for worker in server.desk.pool.workers)
    assert streamed(server, pcm, 3200, {"sample_rate_hz": 16000})[-1]["type"] == "end"


@needs_ffmpeg
def test_the_decoder_of_a_sender_that_breaks_off_ends(server, webm):
    connection = opened(server)
    connection.send('{"encoding": "webm"}')
    connection.send(webm.read_bytes()[:3000])
    wait_until(lambda: bool(children()))
    connection.socket.close()
    wait_until(lambda: not children() and server.desk.live.streams == 0)


def test_a_sender_that_never_reads_is_given_up() -> None:
    class NeverRead:
        async def send_text(self, text: str) -> None:
            await asyncio.Event().wait()

    connection = Connection(NeverRead(), LiveLimits(send_s=0.05))
    with pytest.raises(StreamError, match="were not read"):
        asyncio.run(connection.send({"type": "partial"}))


def test_a_worker_that_dies_ends_its_streams_with_a_sentence_and_the_next_one_is_heard(exported, speech):
    from asr.serving.app import Service
    from asr.serving.worker import Served

    pcm, _ = pcm_of(speech)
    with running(Service((Served("exported", str(exported)),), jobs=1)) as server:
        with begun(server) as connection:
            assert json.loads(connection.recv())["type"] == "ready"
            server.desk.pool.workers[0].process.kill()
            last = answers(connection)[-1]
            assert (last["type"], connection.close_code) == ("error", 1011), last
        wait_until(lambda: server.desk.pool.is_ready)
        assert streamed(server, pcm, 3200, {"sample_rate_hz": 16000})[-1]["type"] == "end"


def test_with_a_token_a_stream_needs_it_in_a_header_or_as_a_protocol_and_without_one_no_other_site_may_ask(exported):
    from asr.serving.app import Service
    from asr.serving.worker import Served

    def status(server, **options) -> int:
        try:
            with opened(server, **options) as connection:
                connection.send("{}")
                answers(connection)
        except websockets.exceptions.InvalidStatus as error:
            return error.response.status_code
        return 101

    service = Service((Served("exported", str(exported)),), jobs=1)
    with running(replace(service, token=TOKEN)) as server:
        assert status(server) == 403
        assert status(server, additional_headers={"Authorization": f"Bearer {TOKEN}x"}) == 403
        assert status(server, additional_headers={"Authorization": f"Bearer {TOKEN}"}) == 101
        encoded = TOKEN.replace("/", "%2F").replace("=", "%3D").replace("+", "%2B")
        assert status(server, subprotocols=["asr", f"bearer.{encoded}"]) == 101
        assert status(server, subprotocols=["asr", f"bearer.{encoded}x"]) == 403
    with running(service) as server:
        assert status(server, origin="http://evil.example") == 403
        assert status(server, origin=server.url) == 101
