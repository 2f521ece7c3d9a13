"""Audio → transcripts with word times and confidences, by a loaded model folder.

The way of a recording: `audio_blocks` → `segments` → `segment_batches` → `collate_segments` → `Decoder.decode` →
`Decoder.words` → `Transcript`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.audio.blocks import Heard, audio_blocks, checked_rate_hz, checked_waveform, mono_blocks, waveform_blocks
from asr.audio.segment import STREAM_RULE, Extent, Segment, Segmentation, segments
from asr.audio.sources import Source, is_source, source_name
from asr.decoding.hotwords import hotword_bonuses
from asr.decoding.streaming import AGAIN_S, Listening, Partial, stream_results
from asr.errors import AudioError, ConfigError
from asr.features.batch import collate_segments, segment_batches
from asr.inference.decoder import Decoder, Method, Search
from asr.inference.ensemble import Ensemble, Models, load_decoder
from asr.inference.precision import WantedPrecision
from asr.inference.stream import listen
from asr.inference.text_alignment import AlignedText, align_audio
from asr.lm.grammar import GrammarSource, load_grammar
from asr.machine import Accelerator
from asr.transcript.transcript import Alternative, Transcript, best_alternatives
from asr.transcript.words import Decoded, Word


def load(
    model: Models,
    *,
    accelerator: Accelerator = "auto",
    precision: WantedPrecision = "auto",
    decode: Mapping[str, Any] | None = None,
    speaker: str | None = None,
) -> Recognizer:
    """Load a model folder as written by `asr train`, or several of them that work as one.

    Each of several models searches by itself, with its own language model. Their n-best lists are joined, and of these
    texts the one with the fewest expected word errors is taken. That takes as long as all models one after the other.

    Args:
        model: the model folder, or a list of them, e.g. of the same training with several seeds.
        accelerator: auto takes a GPU if there is one.
        precision: `auto` is bf16 if the model was trained in it and it proves quicker on this machine, which is tried
            once and kept in the user's cache (`asr.inference.precision`); otherwise fp32. Features are computed in
            float32 either way, and so is the stream of a model that carries its state (`AcousticModel.streams`).
        decode: settings of the search in place of the folder's, e.g. `{"beam_size": 50, "lm": "words"}`; see
            `DecodeSettings`.
        speaker: whom the model is to be fitted to, one that `asr.adapt` has written into the folder.

    Raises:
        ConfigError: `decode` has an unknown key or a value out of range; there is no such `precision` or `speaker`.
        DeviceError: `cuda` is asked for and there is none.
        ModelError: the folder is missing, incomplete or damaged; several models differ in sample rate, or in how
            transcripts are written.
    """
    decoder = load_decoder(model, accelerator=accelerator, precision=precision, decode=decode, speaker=speaker)
    return Recognizer(decoder)


class _HeardSegment(NamedTuple):
    """The words of a segment, the beginning of its n-best list, and where it is in the recording."""

    start: int  # its first sample
    words: list[Word]
    alternatives: list[Alternative]
    extent: Extent


class Recognizer:
    """A loaded model folder, or several that work as one, ready to transcribe."""

    def __init__(self, decoder: Decoder | Ensemble) -> None:
        """Work with the network and search of `decoder`; `asr.load` makes both of a model folder."""
        self.decoder = decoder

    def __repr__(self) -> str:
        """Say which model it is, where it runs and how it searches."""
        bundle, decoder = self.decoder.bundle, self.decoder
        others = f" and {len(decoder.decoders) - 1} more" if isinstance(decoder, Ensemble) else ""
        return (
            f"<asr.Recognizer of {bundle.folder or 'a model in memory'}{others}: {bundle.config.model.network}, "
            f"{len(bundle.tokens)} tokens, {self.sample_rate_hz} Hz, {decoder.method_of(Search())} search, "
            f"{decoder.precision} on {decoder.device}>"
        )

    @property
    def sample_rate_hz(self) -> int:
        """The rate that the model works at; other audio is resampled."""
        return self.decoder.sample_rate_hz

    def transcribe(
        self,
        audio: Source | NDArray[np.floating] | Tensor,
        *,
        sample_rate_hz: int | None = None,
        method: Method | None = None,
        hotwords: Mapping[str, float] | Iterable[str] = (),
        segment: Segmentation = "vad",
        channel: int | None = None,
        n_best: int = 0,
        grammar: GrammarSource | None = None,
        on_progress: Callable[[float], object] | None = None,
    ) -> Transcript:
        """Transcribe a recording of any length; memory does not grow with it unless `segment` is `none`.

        It also grows with `features.cmvn=speaker`, which needs all that is said before anything is recognised.

        Args:
            audio: the path of an audio or video file, `-` for standard input, an open binary file or the bytes of one,
                or samples in [-1, 1]: `(sample,)` or `(channel, sample)`.
            sample_rate_hz: of samples, from 1,000 to 1,000,000; files carry their own.
            method: greedy or beam search; by default beam if the model has a language model, or with hotwords.
            hotwords: expected words and phrases, such as names that the model never heard. `["anna"]`, or with the
                natural-log bonus of each occurrence: `{"anna": 5.0}`.
            segment: how a recording is cut, see `asr.audio.segment.segments`: `vad` at pauses, `fixed` at the quietest
                place every 15 to 30 s, `none` not at all. `fixed` and `none` keep silence, in which models often hear
                words; an `AudioWarning` says how much it is.
            channel: the channel to transcribe, counted from 0; None mixes all down.
            n_best: number of texts, at most, in `Transcript.n_best`. The beam search finds up to `beam_size` for each
                segment, greedy search finds one. 0: none.
            grammar: what may be said: a file of phrases or JSGF, a list of phrases, or what `asr.load_grammar` returns.
                A segment that is none of it gives no words and is in `Transcript.rejected`. The search uses no language
                model then.
            on_progress: is called each time some audio is done, with its seconds; they sum up to the duration.

        Raises:
            AudioError: the audio cannot be used.
            ConfigError: an argument has a value that it cannot have.
            LanguageModelError: the grammar cannot be used.
            TokenError: a hotword or a grammar holds a character that is in none of the model's tokens.
        """
        if n_best < 0:
            raise ConfigError(f"n_best={n_best}: a number of texts, from 0 on")
        search = Search(method, hotword_bonuses(hotwords), grammar=None if grammar is None else load_grammar(grammar))
        rate_hz = self.sample_rate_hz
        name: str | None = None
        if is_source(audio):
            name, blocks = source_name(audio), audio_blocks(audio, rate_hz, channel=channel)
        else:
            waveform = checked_waveform(_array(audio))
            blocks = waveform_blocks(waveform, checked_rate_hz(sample_rate_hz), rate_hz, channel=channel)
        recording = Heard(blocks)
        found = segments(recording, rate_hz, segment, name=name)
        heard = self._heard(recording, found, search, n_best, on_progress or (lambda _: None))
        recording.warn_if_quiet(name or "the recording")
        return Transcript.of(
            [word for segment in heard for word in segment.words],
            recording.samples / rate_hz,
            name,
            channel,
            best_alternatives([segment.alternatives for segment in heard], n_best) if n_best else (),
            None if grammar is None else tuple(segment.extent for segment in heard if not segment.words),
        )

    def _heard(
        self,
        recording: Heard,
        segments: Iterable[Segment],
        search: Search,
        n_best: int,
        on_progress: Callable[[float], object],
    ) -> list[_HeardSegment]:
        """Return what was heard in each segment, in their order."""
        rate_hz = self.sample_rate_hz
        found: list[_HeardSegment] = []
        done = 0
        segments, moments = self.decoder.of_one_speaker(segments)
        for group in segment_batches(segments, rate_hz):
            batch = collate_segments(group, moments)
            for piece, decoded in zip(group, self.decoder.decode(batch, search), strict=True):
                words = self.decoder.words(decoded, piece.start / rate_hz)
                extent = Extent(piece.start / rate_hz, (piece.start + len(piece.waveform)) / rate_hz)
                found.append(_HeardSegment(piece.start, words, self._alternatives(decoded, n_best), extent))
            covered = sum(piece.skipped + len(piece.waveform) for piece in group)
            done += covered
            on_progress(covered / rate_hz)
        on_progress((recording.samples - done) / rate_hz)
        return sorted(found, key=lambda segment: segment.start)

    def _alternatives(self, decoded: Decoded, count: int) -> list[Alternative]:
        hypotheses = decoded.hypotheses[:count]
        return [
            Alternative(text, hypothesis.score)
            for text, hypothesis in zip(self.decoder.texts(decoded), hypotheses, strict=False)
        ]

    def batch(
        self, files: Iterable[str | os.PathLike[str]], *, hotwords: Mapping[str, float] | Iterable[str] = ()
    ) -> Iterator[tuple[Path, Transcript | AudioError]]:
        """Yield each file with its transcript, or with the reason why it has none.

        One file after the other, in this process. `asr.transcribe_files` shares many files out among processes and
        resumes an interrupted run.

        Args:
            files: paths of audio or video files.
            hotwords: see `transcribe`.

        Raises:
            TokenError: as `transcribe`.
        """
        bonuses = hotword_bonuses(hotwords)
        for file in files:
            try:
                yield Path(file), self.transcribe(file, hotwords=bonuses)
            except AudioError as error:
                yield Path(file), error

    def stream(
        self,
        blocks: Iterable[NDArray[np.floating] | Tensor],
        *,
        sample_rate_hz: int,
        method: Method | None = None,
        hotwords: Mapping[str, float] | Iterable[str] = (),
        end_silence_s: float = STREAM_RULE.pause_s,
        longest_s: float = STREAM_RULE.longest_s,
        grammar: GrammarSource | None = None,
    ) -> Iterator[Partial]:
        """Transcribe audio while it arrives: what has been said so far, and at the end of each utterance its words.

        The results are the same however the audio is cut into blocks.

        Args:
            blocks: the next samples each, in [-1, 1]: `(sample,)` or `(channel, sample)`, any number of them.
            sample_rate_hz: of the blocks.
            method: search of the final results, as for `transcribe`; partial ones are always greedy.
            hotwords: see `transcribe`; they count in final results.
            end_silence_s: an utterance ends after a pause of this length.
            longest_s: no utterance is longer, at least 1 s. One that would be is cut at the quietest place of its
                second half.
            grammar: see `transcribe`; it counts in final results. One that is none of it is empty.

        Raises:
            AudioError: a block cannot be used, or the sample rate is none.
            ConfigError: as `transcribe`; several models work as one.
            LanguageModelError, TokenError: as `transcribe`.
        """
        listening = self.listen(
            sample_rate_hz=sample_rate_hz,
            method=method,
            hotwords=hotwords,
            end_silence_s=end_silence_s,
            longest_s=longest_s,
            grammar=grammar,
        )
        return stream_results(listening, mono_blocks(map(_array, blocks)))

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
            again_s: a model that hears the open utterance again does so after this much new audio.
            sample_rate_hz, method, hotwords, end_silence_s, longest_s, grammar: as for `stream`.

        Raises:
            AudioError, ConfigError, LanguageModelError, TokenError: as `stream`.
        """
        decoder = self._one("a stream")
        from_hz = checked_rate_hz(sample_rate_hz)
        search = Search(method, hotword_bonuses(hotwords), grammar=None if grammar is None else load_grammar(grammar))
        rule = replace(STREAM_RULE, pause_s=end_silence_s, longest_s=longest_s)
        return listen(decoder, from_hz, search, rule, again_s)

    def unwritable_hotwords(self, phrases: Iterable[str]) -> dict[str, str]:
        """Return the phrases that `transcribe` and `stream` would refuse as hotwords, each with the reason.

        Raises:
            ConfigError: several models work as one.
        """
        return self._one("a list of hotwords").unwritable(phrases)

    def align(self, audio: Source, text: str) -> AlignedText:
        """Return when each word of a given text was spoken, and how well it fits what is heard.

        Args:
            audio: as for `transcribe`, but no samples. A file may have any length.
            text: what is said in it.

        Raises:
            AudioError: the audio cannot be used.
            ConfigError: several models work as one.
            TokenError: the text holds characters that the model does not know.
            ShapeError: the text has more tokens than the audio has frames for.
        """
        return align_audio(self._one("an alignment"), audio, text)

    def _one(self, what: str) -> Decoder:
        if isinstance(self.decoder, Ensemble):
            raise ConfigError(f"{what} takes one model, not {len(self.decoder.decoders)}; load one of them")
        return self.decoder


def _array(samples: NDArray[np.floating] | Tensor) -> NDArray[np.floating]:
    if not isinstance(samples, Tensor):
        return samples
    samples = samples.detach().cpu()
    return (samples.float() if samples.dtype == torch.bfloat16 else samples).numpy()  # numpy has no bfloat16
