"""A recording of any length → all that a model hears in it, kept small: some 60 MB for three hours.

The recording is read as a stream and cut by the rule that cuts files. Of each frame the most probable tokens are kept.
The samples are forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from asr.audio.blocks import Heard, audio_blocks
from asr.audio.segment import Extent, Segment, loudness, segments, speech_extent
from asr.audio.sources import Source, source_name
from asr.features.batch import collate_segments, segment_batches
from asr.inference.decoder import Decoder
from asr.text.tokens import BLANK, SPACE

MOST_TOKENS = 24  # of a frame that are kept; the others count as much as the least of these
LEVEL_STEP_S = 0.1
_LEAST_POWER = 1e-10
_CHUNK_FRAMES = 10_000


@dataclass(frozen=True)
class HeardSegment:
    """A part of a recording in which somebody speaks. Times are seconds from the recording's start.

    Attributes:
        start_s: its start.
        end_s: its end.
        speech: where in it there is sound, by loudness.
        first: its first frame, counted over all segments.
        frames: their number.
        loud: for each step of `asr.audio.segment.LOUDNESS_STEP_S`, whether there is sound.
        skipped: whether the speech detector left something out before it.
    """

    start_s: float
    end_s: float
    speech: Extent
    first: int
    frames: int
    loud: NDArray[np.bool_]
    skipped: bool


@dataclass(frozen=True)
class HeardRecording:
    """What a model hears in a recording.

    Attributes:
        name: of the recording, for messages.
        duration_s: its length.
        frame_shift_s: time between two frames of a segment.
        segments: in order of time.
        tokens: `(frame, kept)`, the most probable tokens, over all segments.
        logs: `(frame, kept)` float16, their natural logs.
        vocabulary: number of tokens.
        silent: tokens that are no sound: blank, and the space.
        text: what greedy search recognises.
        text_frames: `(character,)`, the frame of each character of it.
        levels_db: loudness of each `LEVEL_STEP_S`, in dB of full scale.
    """

    name: str
    duration_s: float
    frame_shift_s: float
    segments: tuple[HeardSegment, ...]
    tokens: NDArray[np.uint16]
    logs: NDArray[np.float16]
    vocabulary: int
    silent: tuple[int, ...]
    text: str
    text_frames: NDArray[np.int64]
    levels_db: NDArray[np.float32]

    def log_posteriors(self, first: int, end: int) -> NDArray[np.float32]:
        """Return `(frame, token)`, natural log, of the frames from `first` to `end`."""
        logs = self.logs[first:end].astype(np.float32)
        dense: NDArray[np.float32] = np.broadcast_to(
            logs.min(axis=1, keepdims=True), (len(logs), self.vocabulary)
        ).copy()
        np.put_along_axis(dense, self.tokens[first:end].astype(np.int64), logs, axis=1)
        return dense

    def unexplained(self) -> NDArray[np.float32]:
        """Return `(frame,)`: how many nats a frame loses if nothing was said there."""
        lost = np.zeros(len(self.logs), np.float32)
        for first in range(0, len(lost), _CHUNK_FRAMES):  # or what is computed on the way would need more than is kept
            part = slice(first, first + _CHUNK_FRAMES)
            logs = self.logs[part].astype(np.float32)
            silent = np.where(np.isin(self.tokens[part], self.silent), logs, -np.inf).max(axis=1)
            lost[part] = logs.max(axis=1) - np.maximum(silent, logs.min(axis=1))
        return lost

    def segment_of(self, frames: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the segment of each frame, both `(frame,)`."""
        firsts = np.array([segment.first for segment in self.segments])
        places: NDArray[np.int64] = np.searchsorted(firsts, frames, "right") - 1
        return places


def hear(
    decoder: Decoder,
    audio: Source,
    *,
    on_progress: Callable[[float], object] | None = None,
) -> HeardRecording:
    """Return what a model hears in a recording; memory grows by some 20 MB an hour, see also `of_one_speaker`.

    Args:
        decoder: the model.
        audio: the recording, see `asr.audio.blocks.open_audio`; its channels are mixed down.
        on_progress: is called each time some audio is done, with its seconds; they sum up to the duration.

    Raises:
        AudioError: the recording cannot be used.
    """
    rate_hz, report = decoder.sample_rate_hz, on_progress or (lambda _: None)
    name = source_name(audio) or "the recording"
    levels = _Levels(rate_hz)
    recording = Heard(levels.of(audio_blocks(audio, rate_hz)))
    found: list[_Piece] = []
    kept = _Kept(min(MOST_TOKENS, len(decoder.bundle.tokens)))
    done = 0
    spoken, moments = decoder.of_one_speaker(segments(recording, rate_hz, name=name))
    for group in segment_batches(spoken, rate_hz):
        log_posteriors, lengths = decoder.log_posteriors(collate_segments(group, moments))
        for piece, frames, length in zip(group, log_posteriors.cpu(), lengths.tolist(), strict=True):
            found.append(_piece(piece, kept.add(frames[:length]), length, rate_hz))
        covered = sum(piece.skipped + len(piece.waveform) for piece in group)
        done += covered
        report(covered / rate_hz)
    report((recording.samples - done) / rate_hz)
    recording.warn_if_quiet(name)
    found.sort(key=lambda piece: piece.start_s)
    return _joined(found, kept, decoder, name, recording.samples / rate_hz, levels)


class _Kept:
    """What is kept of the frames of all segments, in the order in which they are heard.

    It is in a few buffers that grow. Many small arrays among the large ones that come and go would keep the memory of
    these from being used again: 300 MB in three hours.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._tokens, self._logs, self._path = bytearray(), bytearray(), bytearray()

    def add(self, log_posteriors: Tensor) -> int:
        """Keep the most probable tokens of `(frame, token)`; return the number of the first frame."""
        first = len(self._path) // 2
        logs, tokens = log_posteriors.topk(self._width, dim=1)
        self._tokens += tokens.numpy().astype(np.uint16).tobytes()
        self._logs += logs.clamp_min(-1e4).numpy().astype(np.float16).tobytes()
        self._path += log_posteriors.argmax(dim=1).numpy().astype(np.uint16).tobytes()
        return first

    def in_order(self, pieces: list[_Piece]) -> tuple[NDArray[np.uint16], NDArray[np.float16]]:
        """Return the tokens and logs of the pieces, one after the other, both `(frame, kept token)`."""
        tokens = np.frombuffer(self._tokens, np.uint16).reshape(-1, self._width)
        logs = np.frombuffer(self._logs, np.float16).reshape(-1, self._width)
        order = np.concatenate([np.zeros(0, np.int64), *(np.arange(one.kept, one.kept + one.frames) for one in pieces)])
        return tokens[order], logs[order]

    def path(self, piece: _Piece) -> NDArray[np.uint16]:
        """Return `(frame,)`, the most probable token of each frame of a piece."""
        return np.frombuffer(self._path, np.uint16)[piece.kept : piece.kept + piece.frames]


@dataclass(frozen=True)
class _Piece:
    """What was heard in one segment; `kept` is the number of its first frame in `_Kept`."""

    start_s: float
    end_s: float
    speech: Extent
    loud: NDArray[np.bool_]
    skipped: bool
    kept: int
    frames: int


def _piece(segment: Segment, kept: int, frames: int, rate_hz: int) -> _Piece:
    start_s = segment.start / rate_hz
    speech = speech_extent(segment.waveform, rate_hz)
    steps, loud = loudness(segment.waveform, rate_hz)
    is_loud = np.zeros(steps, bool)
    is_loud[loud] = True
    return _Piece(
        start_s,
        start_s + len(segment.waveform) / rate_hz,
        Extent(start_s + speech.start_s, start_s + speech.end_s),
        is_loud,
        segment.skipped > 0,
        kept,
        frames,
    )


def _joined(
    pieces: list[_Piece], kept: _Kept, decoder: Decoder, name: str, duration_s: float, levels: _Levels
) -> HeardRecording:
    texts = decoder.bundle.tokens.texts
    firsts = np.cumsum([0, *(piece.frames for piece in pieces)]).tolist()
    characters: list[str] = []
    frames: list[int] = []
    for piece, first in zip(pieces, firsts, strict=False):
        path = kept.path(piece).astype(np.int64)
        starts = np.flatnonzero((path != BLANK) & (np.diff(path, prepend=-1) != 0))
        for place, text in [(first, SPACE), *((first + int(at), texts[path[at]]) for at in starts)]:
            for character in text:
                if character != SPACE or (characters and characters[-1] != SPACE):
                    characters.append(character)
                    frames.append(place)
    tokens, logs = kept.in_order(pieces)
    return HeardRecording(
        name,
        duration_s,
        decoder.model.frame_shift_s,
        tuple(
            HeardSegment(piece.start_s, piece.end_s, piece.speech, first, piece.frames, piece.loud, piece.skipped)
            for piece, first in zip(pieces, firsts, strict=False)
        ),
        tokens,
        logs,
        len(texts),
        tuple(place for place, text in enumerate(texts) if place == BLANK or text == SPACE),
        "".join(characters),
        np.array(frames, np.int64),
        levels.levels_db,
    )


class _Levels:
    """Notes how loud a recording is while its blocks pass."""

    def __init__(self, rate_hz: int) -> None:
        self._step = round(LEVEL_STEP_S * rate_hz)
        self._rest = np.zeros(0, np.float32)
        self._found = bytearray()

    def of(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Pass the blocks on."""
        for block in blocks:
            waveform = np.concatenate([self._rest, block])
            steps = len(waveform) // self._step
            power = waveform[: steps * self._step].reshape(steps, self._step).var(axis=1, dtype=np.float64)
            self._found += (10 * np.log10(power + _LEAST_POWER)).astype(np.float32).tobytes()
            self._rest = waveform[steps * self._step :]
            yield block

    @property
    def levels_db(self) -> NDArray[np.float32]:
        """`(step,)`, in dB of full scale."""
        return np.frombuffer(self._found, np.float32)
