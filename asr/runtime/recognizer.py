"""Audio → transcripts with word times and confidences, by an exported model.

The way of a recording: `open_audio` → `resampled` → `segments` → onnxruntime → `greedy_search` or `beam_search` →
`align` → `Decoded` → `Transcript`. Way and results are those of `asr.Recognizer` without a recurrent language model.
"""

from __future__ import annotations

import math
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from asr.audio.blocks import Heard, checked_rate_hz, checked_waveform, mono_blocks, open_audio, resampled
from asr.audio.channels import mixed
from asr.audio.resample import FourierResampler, SincResampler
from asr.audio.segment import STREAM_RULE, Extent, Segment, Segmentation, Segmenter, segments, speech_extent
from asr.audio.sources import Source, is_source, source_name
from asr.audio.speech_detector import RATE_HZ, SHAPES, Network, SpeechDetector
from asr.bundle.files import ONNX_DESCRIPTION, ONNX_NETWORK, ONNX_SPEECH_DETECTOR
from asr.decoding.align import align
from asr.decoding.beam import beam_search, merge_texts
from asr.decoding.folder_scorers import FolderScorers
from asr.decoding.greedy import greedy_search
from asr.decoding.hotwords import hotword_bonuses
from asr.decoding.streaming import AGAIN_S, HeardAgain, Listener, Listening, Partial, stream_results
from asr.errors import ConfigError, DependencyError, ModelError
from asr.lm.grammar import GrammarSource, load_grammar
from asr.paths import ReadablePath
from asr.reading import first_line
from asr.runtime.description import Description
from asr.runtime.graph import check_graph
from asr.sharing.names import model_folder
from asr.text.normalise import normalise
from asr.transcript.transcript import Alternative, Transcript, best_alternatives
from asr.transcript.words import Decoded, Hypothesis, Word

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Method = Literal["greedy", "beam"]
Search: TypeAlias = Callable[[NDArray[np.float32]], list[Hypothesis]]

INPUT, OUTPUT = "waveform", "log_posteriors"  # of the network


class _Wanted(NamedTuple):
    """What is wanted of a recording: how it is cut and searched, how many texts, who hears how far it is.

    `rejecting` says whether what is said may be none of a grammar's texts.
    """

    segmentation: Segmentation
    search: Search
    n_best: int
    on_progress: Callable[[float], object]
    rejecting: bool


_MOST_NETWORK_BYTES = (1 << 31) - 1  # the format allows no more
_MOST_THREADS = 256
# A network is stopped after so many seconds, and so many more for each second of audio. A usual one takes 0.02.
_LIMIT_S, _LIMIT_RATIO = 60.0, 20.0


def load(model: str | os.PathLike[str], *, threads: int = 1) -> OnnxRecognizer:
    """Load a folder that `asr export` wrote.

    Args:
        model: the folder; also one that `asr pack` made a file of.
        threads: number of threads that compute. More than one pays only for large networks: with a usual one, two
            threads on two cores take as long as one and do twice the work.

    Raises:
        ConfigError: `threads` is below 1 or above 256.
        ModelError: a file of the folder is missing or damaged, or the network keeps data outside its file.
        DependencyError: onnxruntime is missing.
    """
    if not 1 <= threads <= _MOST_THREADS:
        raise ConfigError(f"threads={threads}: it is a number from 1 to {_MOST_THREADS}")
    root = model_folder(model)
    for name in (ONNX_DESCRIPTION, ONNX_NETWORK, ONNX_SPEECH_DETECTOR):
        if (root / name).exists() and not (root / name).is_file():
            raise ModelError(f"{root / name}: a folder, a pipe or a device, not a file; export the model again")
    description = Description.load(root)
    session = _session(root / ONNX_NETWORK, len(description.tokens), threads)
    return OnnxRecognizer(session, description, _speech_network(root / ONNX_SPEECH_DETECTOR), root)


class OnnxRecognizer:
    """A loaded export, ready to transcribe."""

    def __init__(
        self, session: InferenceSession, description: Description, speech_network: Network, folder: ReadablePath
    ) -> None:
        """Keep the networks and their description; `load` reads them from a folder."""
        self._session = session
        self._folder = folder
        self._speech_network = speech_network
        self._description = description
        as_transcripts = partial(normalise, settings=SimpleNamespace(**description.text))  # type: ignore[arg-type]
        self._scorers = FolderScorers(folder, description.table, as_transcripts)
        self.sample_rate_hz = description.sample_rate_hz
        self.frame_shift_s = description.frame_shift_s

    def transcribe(
        self,
        audio: Source | NDArray[np.floating],
        *,
        sample_rate_hz: int | None = None,
        method: Method | None = None,
        hotwords: Mapping[str, float] | Iterable[str] = (),
        segment: Segmentation = "vad",
        n_best: int = 0,
        on_progress: Callable[[float], object] | None = None,
        grammar: GrammarSource | None = None,
    ) -> Transcript:
        """Transcribe a file or a waveform of any length. Memory does not grow with it, unless `segment` is `none`.

        Args:
            audio: the path of an audio file, `-` for standard input, an open binary file or the bytes of one, or
                samples in [-1, 1]: `(sample,)` or `(channel, sample)`, mixed down.
            sample_rate_hz: of samples, from 1,000 to 1,000,000; files carry their own.
            method: `greedy` or `beam`; by default beam if the export has a language model, or with hotwords.
            hotwords: expected words and phrases: `["anna"]`, or with the natural-log bonus of each: `{"anna": 5.0}`.
            segment: how a recording is cut, see `asr.audio.segment.segments`.
            n_best: number of texts, at most, in `Transcript.n_best`; 0: none.
            on_progress: is called each time some audio is done, with its seconds; they sum up to the duration.
            grammar: what may be said: a file of phrases or JSGF, a list of phrases, or what `asr.load_grammar` returns.
                A segment that is none of it gives no words and is in `Transcript.rejected`. The search uses no language
                model then.

        Raises:
            AudioError: the audio cannot be used.
            ConfigError: an argument has a value that it cannot have.
            TokenError: a hotword or a grammar holds a character that is in none of the model's tokens.
            LanguageModelError, ModelError: the grammar cannot be used, or a file of the folder is missing or damaged.
        """
        if n_best < 0:
            raise ConfigError(f"n_best={n_best}: a number of texts, from 0 on")
        search = self._search(method, hotword_bonuses(hotwords), grammar)
        wanted = _Wanted(segment, search, n_best, on_progress or (lambda _: None), grammar is not None)
        if is_source(audio):
            with open_audio(audio) as stream:
                mono = mixed(stream.blocks, source_name(audio) or "the recording")
                return self._transcribe(mono, stream.sample_rate_hz, source_name(audio), wanted)
        waveform = checked_waveform(audio)
        return self._transcribe(mixed([waveform], "the waveform"), checked_rate_hz(sample_rate_hz), None, wanted)

    def stream(
        self,
        blocks: Iterable[NDArray[np.floating]],
        *,
        sample_rate_hz: int,
        method: Method | None = None,
        hotwords: Mapping[str, float] | Iterable[str] = (),
        end_silence_s: float = STREAM_RULE.pause_s,
        longest_s: float = STREAM_RULE.longest_s,
        grammar: GrammarSource | None = None,
    ) -> Iterator[Partial]:
        """Transcribe audio while it arrives: what has been said so far, and at the end of each utterance its words.

        The results are the same however the audio is cut into blocks. The utterance is heard again from its start after
        each half second, so two threads or an int8 export pay for long ones.

        Args:
            blocks: the next samples each, in [-1, 1]: `(sample,)` or `(channel, sample)`, any number of them.
            sample_rate_hz: of the blocks.
            method: search of the final results, as for `transcribe`; partial ones are always greedy.
            hotwords: see `transcribe`; they count in final results.
            end_silence_s: an utterance ends after a pause of this length.
            longest_s: no utterance is longer, at least 1 s.
            grammar: see `transcribe`; it counts in final results. One that is none of it is empty.

        Raises:
            AudioError: a block cannot be used, or the sample rate is none.
            ConfigError, TokenError, LanguageModelError, ModelError: as `transcribe`.
        """
        listening = self.listen(
            sample_rate_hz=sample_rate_hz,
            method=method,
            hotwords=hotwords,
            end_silence_s=end_silence_s,
            longest_s=longest_s,
            grammar=grammar,
        )
        return stream_results(listening, mono_blocks(map(np.asarray, blocks)))

    def listen(
        self,
        *,
        sample_rate_hz: int,
        method: Method | None = None,
        hotwords: Mapping[str, float] | Iterable[str] = (),
        end_silence_s: float = STREAM_RULE.pause_s,
        longest_s: float = STREAM_RULE.longest_s,
        again_s: float = AGAIN_S,
        grammar: GrammarSource | None = None,
    ) -> Listening:
        """Begin a stream whose blocks the caller gives one by one. `stream` takes them from an iterable.

        Args:
            again_s: the open utterance is heard again after this much new audio.
            sample_rate_hz, method, hotwords, end_silence_s, longest_s, grammar: as for `stream`.

        Raises:
            AudioError, ConfigError, TokenError, LanguageModelError, ModelError: as `stream`.
        """
        rate_hz, from_hz = self.sample_rate_hz, checked_rate_hz(sample_rate_hz)
        search = self._search(method, hotword_bonuses(hotwords), grammar)

        def words(log_posteriors: NDArray[np.float32], segment: Segment) -> list[Word]:
            decoded = self._decoded(log_posteriors, segment.waveform, search)
            return self._words(decoded, segment)

        hearing = HeardAgain(self.log_posteriors, rate_hz, again_s)
        listener = Listener(rate_hz, hearing, self._description.table, words)
        rule = replace(STREAM_RULE, pause_s=end_silence_s, longest_s=longest_s)
        detector = SpeechDetector(rate_hz, self._speech_network, SincResampler(rate_hz, RATE_HZ))
        return Listening(listener, from_hz, Segmenter(rate_hz, rule, detector), SincResampler(from_hz, rate_hz))

    def unwritable_hotwords(self, phrases: Iterable[str]) -> dict[str, str]:
        """Return the phrases that `transcribe` and `stream` would refuse as hotwords, each with the reason."""
        return self._scorers.unwritable(phrases)

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

    def _search(
        self, method: Method | None, hotwords: Mapping[str, float], grammar: GrammarSource | None = None
    ) -> Search:
        """Return log-posteriors → hypotheses, best first; no two spell the same text."""
        if method not in (None, *get_args(Method)):
            raise ConfigError(f"method={method!r}: {' or '.join(get_args(Method))}")
        if hotwords and method == "greedy":
            raise ConfigError(f"hotwords ({', '.join(hotwords)}) need the beam search, not greedy")
        known = self._description
        if grammar is not None:
            if hotwords or method == "greedy":
                raise ConfigError("a grammar goes without hotwords and greedy search; leave one of them out")
            within = self._scorers.grammar(load_grammar(grammar))
            return lambda frames: within.search(frames[None], np.array([len(frames)]), known.search.beam_size)[0]
        if method == "greedy" or (method is None and not hotwords and not self._scorers.has_ngram(known.ngram.lm)):
            return lambda log_posteriors: greedy_search(log_posteriors[None], np.array([len(log_posteriors)]))
        scorers = self._scorers.scorers(known.ngram, hotwords)

        def by_beam(log_posteriors: NDArray[np.float32]) -> list[Hypothesis]:
            lengths = np.array([len(log_posteriors)])
            (hypotheses,) = beam_search(log_posteriors[None], lengths, known.search, scorers)
            return merge_texts(hypotheses, known.table)

        return by_beam

    def _transcribe(
        self, blocks: Iterable[NDArray[np.float32]], from_hz: int, name: str | None, wanted: _Wanted
    ) -> Transcript:
        rate_hz, table = self.sample_rate_hz, self._description.table
        recording = Heard(resampled(blocks, from_hz, rate_hz, FourierResampler(from_hz, rate_hz)))
        words: list[Word] = []
        rejected: list[Extent] = []
        found: list[list[Alternative]] = []
        done = 0
        for segment in segments(recording, rate_hz, wanted.segmentation, self._detector(), name=name):
            decoded = self._decoded(self.log_posteriors(segment.waveform), segment.waveform, wanted.search)
            words += self._words(decoded, segment)
            if wanted.rejecting and not decoded.spans:
                rejected.append(Extent(segment.start / rate_hz, (segment.start + len(segment.waveform)) / rate_hz))
            best = decoded.hypotheses[: wanted.n_best]
            found.append([Alternative(table.decode(one.tokens), one.score) for one in best])
            covered = segment.skipped + len(segment.waveform)
            done += covered
            wanted.on_progress(covered / rate_hz)
        wanted.on_progress((recording.samples - done) / rate_hz)
        recording.warn_if_quiet(name or "the recording")
        n_best = best_alternatives(found, wanted.n_best) if wanted.n_best else ()
        nothing_fits = tuple(rejected) if wanted.rejecting else None
        return Transcript.of(words, recording.samples / rate_hz, name, None, n_best, nothing_fits)

    def _detector(self) -> SpeechDetector:
        rate_hz = self.sample_rate_hz
        return SpeechDetector(rate_hz, self._speech_network, FourierResampler(rate_hz, RATE_HZ))

    def _decoded(self, log_posteriors: NDArray[np.float32], waveform: NDArray[np.float32], search: Search) -> Decoded:
        hypotheses = search(log_posteriors)
        spans = align(log_posteriors, hypotheses[0].tokens)
        return Decoded(tuple(hypotheses), tuple(spans), speech_extent(waveform, self.sample_rate_hz))

    def _words(self, decoded: Decoded, segment: Segment) -> list[Word]:
        known = self._description
        return decoded.words(known.table, self.frame_shift_s, segment.start / self.sample_rate_hz, known.calibration)


def _speech_network(path: ReadablePath) -> Network:
    """Return the speech detector; no array is larger than it says, and none larger than its shape here."""
    try:
        with path.open("rb") as stored, ZipFile(stored) as archive:
            return Network({name: _stored_array(archive, name, shape) for name, shape in SHAPES.items()})
    except OSError as error:
        reason = error.strerror or str(error)
    except _DAMAGED_ZIP as error:
        reason = first_line(repr(error))
    raise ModelError(f"{path}: the speech detector cannot be read ({reason}); export the model again")


def _stored_array(archive: ZipFile, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an array of an .npz file; ValueError if it is another one than is wanted."""
    with archive.open(f"{name}.npy") as file:
        np.lib.format.read_magic(file)
        if np.lib.format.read_array_header_1_0(file) != (shape, False, np.dtype(np.float32)):
            raise ValueError(f"{name} is not float32 of {shape}")
        array = np.frombuffer(file.read(4 * math.prod(shape)), np.float32).reshape(shape)
        if file.read(1) or not np.isfinite(array).all():
            raise ValueError(f"{name} is longer than its shape, or not finite")
        return array


# What the modules zipfile, zlib and numpy raise for damaged files.
_DAMAGED_ZIP = (ValueError, LookupError, TypeError, EOFError, BadZipFile, RuntimeError, struct.error, zlib.error)


def _session(path: ReadablePath, token_count: int, threads: int) -> InferenceSession:
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


def _network(path: ReadablePath) -> bytes:
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
