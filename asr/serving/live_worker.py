"""Streams of audio in a worker process: what it is told of them, and what it answers.

| to the worker | from the worker |
| --- | --- |
| `StreamStart` | `StreamReady`, or `StreamFailed` |
| `StreamAudio` | `StreamHeard`, or `StreamFailed` |
| | `StreamPartial`, unasked |
| `StreamStop` | nothing; the stream is over |

One thread hears all streams of the worker. Those who send them are heard in turn (`fair_queue.py`), so one who sends
many streams faster than they are spoken does not keep others waiting. What has arrived is heard first, so final results
never wait for partial ones. A partial result costs more the longer the open utterance is, because the network hears it
again from its start. So the pause between two of them grows with the time that the last one took: partial results of
one stream take a fifth of a core at most, and all come less often when the machine is busy.
"""

from __future__ import annotations

import queue
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from asr.decoding.streaming import Listening, Partial
from asr.errors import AsrError
from asr.lm.grammar import Grammar
from asr.reading import shown
from asr.serving.fair_queue import FairQueue
from asr.serving.log import log

# A pause of this length ends an utterance, unless the sender says otherwise: a little shorter than elsewhere, because
# somebody waits. The words come 0.1 s sooner. AN4's dev set has 7.1 % word errors with it, and 7.3 % with 0.5 s.
PAUSE_S = 0.4
_LONGEST_HOTWORD = 200  # characters; the time to prepare a phrase grows with the square of its length
PARTIAL_S = 0.2  # between two partial results of a stream, at least
_PAUSE_RATIO = 4  # and at least so many times as long as the last one took


@dataclass(frozen=True)
class StreamStart:
    """A stream begins.

    Attributes:
        model: the name of the model.
        sample_rate_hz: of the audio.
        hotwords: expected words and phrases with the bonus of each; those that the model cannot write are left out.
        end_silence_s: an utterance ends after a pause of this length.
        sender: who sends it; of each sender in turn something is heard.
    """

    model: str
    sample_rate_hz: int
    hotwords: Mapping[str, float]
    end_silence_s: float = PAUSE_S
    sender: str = ""


@dataclass(frozen=True)
class StreamAudio:
    """The next samples of a stream, signed 16-bit integers, little-endian; `last` if the stream ends with them."""

    pcm: bytes
    last: bool = False


@dataclass(frozen=True)
class StreamStop:
    """Nobody listens to a stream any more."""


@dataclass(frozen=True)
class StreamReady:
    """A stream has begun. The notes say which hotwords were left out, and why."""

    notes: tuple[str, ...]


@dataclass(frozen=True)
class StreamHeard:
    """Samples were heard, and these utterances have ended with them; `last` if the stream has."""

    finals: tuple[Partial, ...]
    last: bool


@dataclass(frozen=True)
class StreamPartial:
    """What is said by now in the utterance that has not ended."""

    text: str


@dataclass(frozen=True)
class StreamFailed:
    """A stream is over before its end, and why; whether it can never have what its start asks for."""

    reason: str
    is_refused: bool


class Listens(Protocol):
    """What the recognisers with and without torch have in common, as far as streams use it."""

    def listen(
        self,
        *,
        sample_rate_hz: int,
        hotwords: Mapping[str, float],
        end_silence_s: float,
        again_s: float,
        grammar: Grammar | None = None,
    ) -> Listening:
        """Begin a stream."""

    def unwritable_hotwords(self, phrases: Iterable[str]) -> Mapping[str, str]:
        """Return the phrases that are refused as hotwords, with the reasons."""


class _Open:
    """A stream that has begun."""

    def __init__(self, listening: Listening) -> None:
        self.listening = listening
        self.next_partial_s = 0.0  # of the clock


class _Turn(NamedTuple):
    number: int
    message: object


def unusable_hotwords(recognizer: Listens, phrases: Collection[str]) -> dict[str, str]:
    """Return the phrases that cannot be searched for, with the reasons: too long, or not to be written by the model."""
    too_long = {
        phrase: f"{shown(phrase)} has {len(phrase)} characters; a hotword has at most {_LONGEST_HOTWORD}"
        for phrase in phrases
        if len(phrase) > _LONGEST_HOTWORD
    }
    return {**too_long, **recognizer.unwritable_hotwords(phrases)}


class Streams:
    """All streams of a worker."""

    def __init__(self, models: Mapping[str, Listens], answer: Callable[[int, object], object]) -> None:
        """Hear nothing yet.

        Args:
            models: by name.
            answer: sends an answer to a stream, given its number.
        """
        self._models, self._answer = models, answer
        self._inbox: queue.SimpleQueue[_Turn] = queue.SimpleQueue()
        self._line: FairQueue[_Turn] = FairQueue()  # what has come and is not heard
        self._senders: dict[int, str] = {}  # of streams that are not over
        self._open: dict[int, _Open] = {}
        self._due: dict[int, None] = {}  # streams that are to have a partial result; who has waited longest is first

    def put(self, number: int, message: object) -> None:
        """Take a message for a stream; any thread may call this."""
        self._inbox.put(_Turn(number, message))

    def run(self) -> None:
        """Hear what comes, without end, and say what is said by now when nothing else is to be done."""
        while True:
            self.step(wait=not self._due)

    def step(self, *, wait: bool) -> None:
        """Do the next thing: hear what has come, or return a partial result.

        Args:
            wait: whether to wait for something to come; otherwise a partial result must be due.
        """
        self._line_up(wait=wait and not self._line)
        number, message = self._line.take() if self._line else _Turn(next(iter(self._due)), None)
        try:
            self._do(number, message)
        except AsrError as error:
            self._fail(number, StreamFailed(str(error), is_refused=isinstance(message, StreamStart)))
        except Exception as error:  # a defect that one stream in ten thousand shows must not stop the others
            log(defect=traceback.format_exc())
            reason = f"the stream cannot be transcribed ({type(error).__name__})"
            self._fail(number, StreamFailed(reason, is_refused=False))

    def _line_up(self, *, wait: bool) -> None:
        """Put what has come in line; of each sender in turn something is heard, of each stream in the order it came."""
        with suppress(queue.Empty):
            while True:
                turn = self._inbox.get(block=wait)
                wait = False
                if isinstance(turn.message, StreamStart):
                    self._senders[turn.number] = turn.message.sender
                sender = self._senders.get(turn.number, "")
                if isinstance(turn.message, StreamStop):
                    self._senders.pop(turn.number, None)
                self._line.put(sender, turn)

    def _do(self, number: int, message: object) -> None:
        match message:
            case None:
                self._say(number)
            case StreamStart():
                self._begin(number, message)
            case StreamAudio() if number in self._open:
                self._hear(number, message)
            case _:
                self._forget(number)

    def _begin(self, number: int, start: StreamStart) -> None:
        recognizer = self._models[start.model]
        left_out = unusable_hotwords(recognizer, start.hotwords)
        hotwords = {phrase: bonus for phrase, bonus in start.hotwords.items() if phrase not in left_out}
        self._open[number] = _Open(
            recognizer.listen(
                sample_rate_hz=start.sample_rate_hz,
                hotwords=hotwords,
                end_silence_s=start.end_silence_s,
                again_s=PARTIAL_S,
            )
        )
        self._answer(number, StreamReady(tuple(left_out.values())))

    def _hear(self, number: int, audio: StreamAudio) -> None:
        stream = self._open[number]
        samples = np.frombuffer(audio.pcm, "<i2").astype(np.float32) / np.float32(2**15)
        finals = stream.listening.hear(samples, last=audio.last)
        if audio.last:
            self._forget(number)
        elif time.monotonic() >= stream.next_partial_s:
            self._due.setdefault(number)
        self._answer(number, StreamHeard(tuple(finals), audio.last))

    def _say(self, number: int) -> None:
        del self._due[number]
        stream, start_s = self._open[number], time.monotonic()
        partial = stream.listening.so_far()
        end_s = time.monotonic()
        stream.next_partial_s = max(start_s + PARTIAL_S / 2, end_s + _PAUSE_RATIO * (end_s - start_s))
        if partial:
            self._answer(number, StreamPartial(partial.text))

    def _fail(self, number: int, failure: StreamFailed) -> None:
        self._forget(number)
        self._answer(number, failure)

    def _forget(self, number: int) -> None:
        self._open.pop(number, None)
        self._due.pop(number, None)
