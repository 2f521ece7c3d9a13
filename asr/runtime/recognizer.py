"""Audio → transcripts with word times and confidences, by an exported model.

The way of a recording: `open_audio` → `resampled` → `segments` → onnxruntime → `best_path` → `Decoded` → `Transcript`.
Way and results are those of `asr.Recognizer` with greedy search.

The exported folder's description is all that the runtime has to know besides the network. It is
`{"format": 1, "sample_rate_hz": …, "frame_shift_s": …, "tokens": […]}`. `asr/bundle/files.py` lists the other files.
"""

from __future__ import annotations

import json
import math
import os
import struct
import threading
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from asr.audio.blocks import Heard, checked_rate_hz, checked_waveform, open_audio, resampled
from asr.audio.channels import mixed
from asr.audio.resample import FourierResampler
from asr.audio.segment import Segmentation, segments, speech_extent
from asr.audio.sources import Source, is_source, source_name
from asr.audio.speech_detector import RATE_HZ, SHAPES, Network, SpeechDetector
from asr.bundle.files import ONNX_DESCRIPTION, ONNX_NETWORK, ONNX_SPEECH_DETECTOR
from asr.errors import ConfigError, DependencyError, ModelError
from asr.files import write_text
from asr.reading import first_line, read_json, shown
from asr.runtime.graph import check_graph
from asr.text.tokens import BLANK, BLANK_SYMBOL, TokenTable
from asr.transcript.transcript import Transcript
from asr.transcript.words import Decoded, Hypothesis, TokenSpan, Word

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INPUT, OUTPUT = "waveform", "log_posteriors"  # of the network

_FORMAT = 1


@dataclass(frozen=True)
class Description:
    """What the runtime knows of a network.

    Attributes:
        sample_rate_hz: of the audio that the network takes.
        frame_shift_s: time between its output frames.
        tokens: the text of each token; token 0 is the blank.
    """

    sample_rate_hz: int
    frame_shift_s: float
    tokens: tuple[str, ...]

    def save(self, folder: Path) -> None:
        """Write `model.json`."""
        content = {"format": _FORMAT} | asdict(self)
        write_text(folder / ONNX_DESCRIPTION, json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Description:
        """Read `model.json`.

        Raises:
            ModelError: `asr export` did not write the folder, or the file is damaged.
        """
        path = folder / ONNX_DESCRIPTION
        way_out = "the runtime needs a folder that `asr export` wrote; export it again"
        content = read_json(path, ModelError, "the model's description", way_out=way_out)
        if not isinstance(content, dict):
            raise ModelError(f"{path}: not the description of an exported model; export it again")
        if (format := content.get("format")) != _FORMAT:
            raise ModelError(
                f"{path}: format {shown(format)} is not {_FORMAT}, which this version reads; export it again"
            )
        rate_hz, shift_s, tokens = (content.get(name) for name in ("sample_rate_hz", "frame_shift_s", "tokens"))
        loaded = cls(rate_hz, shift_s, tuple(tokens) if isinstance(tokens, list) else ())  # type: ignore[arg-type]
        fault = loaded._fault()
        if fault:
            raise ModelError(f"{path}: {fault}; export the model again")
        return loaded

    def _fault(self) -> str | None:
        if type(self.sample_rate_hz) is not int or not 4000 <= self.sample_rate_hz <= 48000:
            return f"sample_rate_hz is {shown(self.sample_rate_hz)}, not an integer from 4000 to 48000"
        if type(self.frame_shift_s) not in (int, float) or not 0 < self.frame_shift_s <= 1:
            return f"frame_shift_s is {shown(self.frame_shift_s)}, not above 0 and at most 1"
        if not all(isinstance(token, str) for token in self.tokens) or self.tokens[: BLANK + 1] != (BLANK_SYMBOL,):
            return f"tokens are not a list of texts that begins with {BLANK_SYMBOL!r}"
        if len(set(self.tokens)) < len(self.tokens):
            return "tokens hold a text twice"
        if any("\ud800" <= character <= "\udfff" for token in self.tokens for character in token):
            return "tokens hold half of a surrogate pair, which is no character"
        return None


_MOST_NETWORK_BYTES = (1 << 31) - 1  # the format allows no more
_MOST_THREADS = 256
# A network is stopped after so many seconds, and so many more for each second of audio. A usual one takes 0.02.
_LIMIT_S, _LIMIT_RATIO = 60.0, 20.0


def load(folder: str | os.PathLike[str], *, threads: int = 1) -> OnnxRecognizer:
    """Load a folder that `asr export` wrote.

    Args:
        folder: the exported model.
        threads: number of threads that compute. More than one pays only for large networks: with a usual one, two
            threads on two cores take as long as one and do twice the work.

    Raises:
        ConfigError: `threads` is below 1 or above 256.
        ModelError: a file of the folder is missing or damaged, or the network keeps data outside its file.
        DependencyError: onnxruntime is missing.
    """
    if not 1 <= threads <= _MOST_THREADS:
        raise ConfigError(f"threads={threads}: it is a number from 1 to {_MOST_THREADS}")
    root = Path(folder)
    for name in (ONNX_DESCRIPTION, ONNX_NETWORK, ONNX_SPEECH_DETECTOR):
        if (root / name).exists() and not (root / name).is_file():
            raise ModelError(f"{root / name}: a folder, a pipe or a device, not a file; export the model again")
    description = Description.load(root)
    session = _session(root / ONNX_NETWORK, len(description.tokens), threads)
    return OnnxRecognizer(session, description, _speech_network(root / ONNX_SPEECH_DETECTOR), root)


class OnnxRecognizer:
    """A loaded export, ready to transcribe."""

    def __init__(
        self, session: InferenceSession, description: Description, speech_network: Network, folder: Path
    ) -> None:
        """Keep the networks and their description; `load` reads them from a folder."""
        self._session = session
        self._folder = folder
        self._speech_network = speech_network
        self._tokens = _Texts(description.tokens)
        self.sample_rate_hz = description.sample_rate_hz
        self.frame_shift_s = description.frame_shift_s

    def transcribe(
        self,
        audio: Source | NDArray[np.floating],
        *,
        sample_rate_hz: int | None = None,
        segment: Segmentation = "vad",
    ) -> Transcript:
        """Transcribe a file or a waveform of any length. Memory does not grow with it, unless `segment` is `none`.

        Args:
            audio: the path of an audio file, `-` for standard input, an open binary file or the bytes of one, or
                samples in [-1, 1]: `(sample,)` or `(channel, sample)`, mixed down.
            sample_rate_hz: of samples, from 1,000 to 1,000,000; files carry their own.
            segment: how a recording is cut, see `asr.audio.segment.segments`.

        Raises:
            AudioError: the audio cannot be used.
            ConfigError: `segment` is none of `vad`, `fixed` and `none`.
        """
        if is_source(audio):
            with open_audio(audio) as stream:
                mono = mixed(stream.blocks, source_name(audio) or "the recording")
                return self._transcribe(mono, stream.sample_rate_hz, source_name(audio), segment)
        from_hz = checked_rate_hz(sample_rate_hz)
        return self._transcribe(mixed([checked_waveform(np.asarray(audio))], "the waveform"), from_hz, None, segment)

    def log_posteriors(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `(frame, token)` natural-log posteriors of `(sample,)` at the model's rate; token 0 is the blank.

        Raises:
            ModelError: the network fails, computes NaN, or takes absurdly long.
        """
        from onnxruntime import RunOptions

        duration_s = len(waveform) / self.sample_rate_hz
        options = RunOptions()
        options.log_severity_level = 4  # the exception says what is wrong
        timer = threading.Timer(_LIMIT_S + _LIMIT_RATIO * duration_s, setattr, (options, "terminate", True))
        timer.daemon = True
        timer.start()
        try:
            result: NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: waveform}, options)[0]
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise ModelError(f"{self._folder}: the network fails ({first_line(str(error))}); export it again") from None
        finally:
            timer.cancel()
        if len(result) > duration_s / self.frame_shift_s + 2:
            raise ModelError(f"{self._folder}: the network has more frames than its description says; export it again")
        if np.isnan(result).any():
            raise ModelError(f"{self._folder}: the network computes no numbers; train or export the model again")
        return result

    def _transcribe(
        self, blocks: Iterable[NDArray[np.float32]], from_hz: int, name: str | None, segmentation: Segmentation
    ) -> Transcript:
        rate_hz = self.sample_rate_hz
        recording = Heard(resampled(blocks, from_hz, rate_hz, FourierResampler(from_hz, rate_hz)))
        detector = SpeechDetector(rate_hz, self._speech_network, FourierResampler(rate_hz, RATE_HZ))
        words: list[Word] = []
        for segment in segments(recording, rate_hz, segmentation, detector, name=name):
            hypothesis, spans = best_path(self.log_posteriors(segment.waveform))
            decoded = Decoded((hypothesis,), spans, speech_extent(segment.waveform, rate_hz))
            words += decoded.words(self._tokens, self.frame_shift_s, segment.start / rate_hz)
        recording.warn_if_quiet(name or "the recording")
        return Transcript.of(words, recording.samples / rate_hz, name)


@dataclass(frozen=True)
class _Texts(TokenTable):
    """The texts of tokens of any kind. Those of pieces have several characters and an order of their own."""

    def __post_init__(self) -> None:
        pass


def best_path(log_posteriors: NDArray[np.float32]) -> tuple[Hypothesis, tuple[TokenSpan, ...]]:
    """Return the tokens of the most probable path, repeats collapsed and blanks dropped, and the frames of each.

    Of the paths that spell these tokens it is also the most probable, so the frames are those of an alignment.

    Args:
        log_posteriors: `(frame, token)`, natural log.

    Source: Graves et al. 2006, "Connectionist temporal classification", section 3.2, best path decoding.
    """
    path, best = log_posteriors.argmax(1), log_posteriors.max(1)
    starts = np.flatnonzero(np.diff(path, prepend=-1))
    runs = zip(path[starts].tolist(), starts.tolist(), [*starts[1:].tolist(), len(path)], strict=True)
    spans = tuple(
        TokenSpan(token, start, end, min(math.exp(best[start:end].max()), 1.0))
        for token, start, end in runs
        if token != BLANK
    )
    score = float(best.sum(dtype=np.float64))
    tokens, frames = tuple(span.token for span in spans), tuple(span.start for span in spans)
    return Hypothesis(tokens, score, score, 0.0, frames), spans


def _speech_network(path: Path) -> Network:
    """Return the speech detector; no array is larger than it says, and none larger than its shape here."""
    try:
        weights = {}
        with ZipFile(path) as archive:
            for name, shape in SHAPES.items():
                with archive.open(f"{name}.npy") as file:
                    np.lib.format.read_magic(file)
                    if np.lib.format.read_array_header_1_0(file) != (shape, False, np.dtype(np.float32)):
                        raise ValueError(f"{name} is not float32 of {shape}")
                    weights[name] = np.frombuffer(file.read(4 * math.prod(shape)), np.float32).reshape(shape)
                    if file.read(1) or not np.isfinite(weights[name]).all():
                        raise ValueError(f"{name} is longer than its shape, or not finite")
        return Network(weights)
    except OSError as error:
        reason = error.strerror or str(error)
    except _DAMAGED_ZIP as error:
        reason = first_line(repr(error))
    raise ModelError(f"{path}: the speech detector cannot be read ({reason}); export the model again")


# What the modules zipfile, zlib and numpy raise for damaged files.
_DAMAGED_ZIP = (ValueError, LookupError, TypeError, EOFError, BadZipFile, RuntimeError, struct.error, zlib.error)


def _session(path: Path, token_count: int, threads: int) -> InferenceSession:
    # From 1.29 on, onnxruntime reports its use to its makers otherwise. It keeps a number of this machine for that.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise DependencyError("the runtime needs the package onnxruntime: pip install onnxruntime") from None

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # the exception says what is wrong
    network = _network(path)
    try:
        session = onnxruntime.InferenceSession(network, options, ["CPUExecutionProvider"], enable_fallback=0)
        inputs = [(value.name, value.type, len(value.shape)) for value in session.get_inputs()]
        outputs = [(value.name, value.type, len(value.shape), value.shape[-1]) for value in session.get_outputs()]
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelError(
            f"{path}: damaged, or not what `asr export` wrote ({first_line(str(error))}); export the model again"
        ) from None
    if inputs != [(INPUT, "tensor(float)", 1)] or outputs != [(OUTPUT, "tensor(float)", 2, token_count)]:
        raise ModelError(f"{path}: does not belong to the description beside it; export the model again")
    return session


def _network(path: Path) -> bytes:
    """Return the file of a network that computes what an export computes.

    Raises:
        ModelError: it is another one.
    """
    try:
        with path.open("rb") as file:
            network = file.read(_MOST_NETWORK_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        if len(network) > _MOST_NETWORK_BYTES:
            raise ValueError("larger than 2 GiB")
        check_graph(network)
    except UnicodeDecodeError:
        raise ModelError(f"{path}: damaged: a name that is not UTF-8; export the model again") from None
    except ValueError as error:
        raise ModelError(f"{path}: {error}; export the model again") from None
    return network
