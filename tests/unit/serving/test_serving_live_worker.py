"""Streams in a worker: what is heard first, and what a defect of one stream does to the others."""

from __future__ import annotations

import json

from asr.decoding.streaming import Partial
from asr.serving.live_worker import (
    StreamAudio,
    StreamHeard,
    StreamPartial,
    StreamReady,
    Streams,
    StreamStart,
    StreamStop,
)


class Scripted:
    """A recogniser whose stream says what it is asked, in order."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def unwritable_hotwords(self, phrases):
        return {phrase: f"{phrase} cannot be written" for phrase in phrases if phrase == "ü"}

    def listen(self, **wanted):
        self.wanted = wanted
        return self

    def hear(self, samples, *, last=False):
        if len(samples) == 13:
            raise ZeroDivisionError
        self.asked.append(f"hear {len(samples)}")
        return [Partial("final", (), True)] if last else []

    def so_far(self):
        self.asked.append("so far")
        return Partial("partial", (), False)


def test_what_has_arrived_is_heard_before_anybody_gets_a_partial_result() -> None:
    said = []
    recognizer = Scripted()
    streams = Streams({"m": recognizer}, lambda number, content: said.append((number, content)))
    for number in (1, 2):
        streams.put(number, StreamStart("m", 16000, {"ü": 1.0, "a": 2.0}))
        streams.put(number, StreamAudio(bytes(20)))
    for _ in range(4):
        streams.step(wait=False)
    streams.put(1, StreamAudio(b"", last=True))
    for _ in range(2):
        streams.step(wait=False)
    assert recognizer.asked == ["hear 10", "hear 10", "hear 0", "so far"]
    assert recognizer.wanted["hotwords"] == {"a": 2.0}
    ready = StreamReady(("ü cannot be written",))
    heard = StreamHeard((), False)
    final = StreamHeard((Partial("final", (), True),), True)
    assert said == [(1, ready), (1, heard), (2, ready), (2, heard), (1, final), (2, StreamPartial("partial"))]


def test_a_defect_ends_its_stream_only_and_what_follows_of_it_is_not_heard(capsys) -> None:
    said = []
    recognizer = Scripted()
    streams = Streams({"m": recognizer}, lambda number, content: said.append((number, content)))
    for number in (1, 2):
        streams.put(number, StreamStart("m", 16000, {}))
    for number, size in ((1, 26), (1, 20), (2, 20)):
        streams.put(number, StreamAudio(bytes(size)))
    streams.put(1, StreamStop())
    streams.put(2, StreamStop())
    for _ in range(7):
        streams.step(wait=False)
    assert recognizer.asked == ["hear 10"]
    assert [(number, type(content).__name__) for number, content in said[2:]] == [
        (1, "StreamFailed"),
        (2, "StreamHeard"),
    ]
    (line,) = capsys.readouterr().err.splitlines()  # of the log, in which each line is an object
    assert "ZeroDivisionError" in json.loads(line)["defect"]


def test_who_sends_many_streams_keeps_another_one_waiting_for_one_turn_only() -> None:
    recognizer = Scripted()
    streams = Streams({"m": recognizer}, lambda number, content: None)
    sizes = {1: 10, 2: 20, 3: 30, 4: 40}  # samples, by which a stream is known
    for number in sizes:
        streams.put(number, StreamStart("m", 16000, {}, sender="few" if number == 4 else "many"))
    for _ in sizes:
        streams.step(wait=False)
    for number in (1, 2, 3, 1, 2, 3, 4, 4):
        streams.put(number, StreamAudio(bytes(2 * sizes[number])))
    for _ in range(8):
        streams.step(wait=False)
    assert [int(asked.split()[1]) for asked in recognizer.asked] == [10, 40, 20, 40, 30, 10, 20, 30]
