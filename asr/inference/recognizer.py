"""The recogniser: audio in, transcripts with word times and confidences out.

The way of a recording: `audio_blocks` → `segments` → `batches` → `collate` → `AcousticModel` → greedy or beam search →
`align` → `Transcript`. `asr transcribe`, `asr decode` and `asr tune` all go through `Recognizer.log_posteriors` and
`search`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.audio.blocks import audio_blocks, checked_waveform, mix_down, waveform_blocks
from asr.audio.segment import Counted, Segmentation, segments, speech_extent
from asr.bundle.bundle import ModelBundle
from asr.decode.align import align
from asr.decode.beam import beam_search
from asr.decode.greedy import greedy_search
from asr.errors import AudioError, ConfigError, ModelError
from asr.features.batching import Batch, collate
from asr.features.sampling import batches
from asr.inference.language_models import LanguageModels
from asr.inference.stream import END_SILENCE_S, LONGEST_UTTERANCE_S, Partial, listener, stream_results
from asr.transcript.confidence import Calibration
from asr.transcript.hypothesis import Hypothesis
from asr.transcript.transcript import Transcript
from asr.transcript.words import Decoded, Word

if TYPE_CHECKING:
    from asr.config import DecodeSettings

Method = Literal["greedy", "beam"]
Precision = Literal["fp32", "bf16"]


def load(
    folder: str | os.PathLike[str],
    *,
    accelerator: Literal["auto", "cpu", "cuda"] = "auto",
    precision: Precision = "fp32",
    decode: Mapping[str, Any] | None = None,
) -> Recognizer:
    """Load a model folder as written by `asr train`.

    Args:
        folder: the model folder.
        accelerator: auto takes a GPU if there is one.
        precision: bf16 is quicker where the processor computes in bfloat16 (x86 with AVX512-BF16 or AMX, GPUs), and
            slower where it does not. Features are computed in float32 either way, and so is a stream.
        decode: settings of the search in place of the folder's, e.g. `{"beam_size": 50, "lm": "words"}`; see
            `DecodeSettings`.

    Raises:
        ConfigError: `decode` has an unknown key or a value out of range.
        ModelError: the folder is missing, incomplete or damaged, or `cuda` is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if accelerator == "cuda" and not available:
        raise ModelError("accelerator cuda: torch sees no CUDA device; use auto or cpu")
    device = "cuda" if available and accelerator != "cpu" else "cpu"
    return Recognizer(ModelBundle.load(folder, decode), device, Calibration.load(Path(folder)), precision)


class Recognizer:
    """A loaded model folder, ready to transcribe."""

    def __init__(
        self,
        bundle: ModelBundle,
        device: str = "cpu",
        calibration: Calibration | None = None,
        precision: Precision = "fp32",
    ) -> None:
        """Move the bundle's model to `device`."""
        self.bundle = bundle
        self.precision: Precision = precision
        self.calibration = calibration or Calibration()
        self.device = torch.device(device)
        self.model = bundle.model.to(self.device)
        self._language_models = LanguageModels(bundle, self.device)

    @property
    def sample_rate_hz(self) -> int:
        """The rate the model works at; other audio is resampled."""
        return self.model.sample_rate_hz

    @property
    def default_method(self) -> Method:
        """`beam` if the model folder has a language model that its settings ask for, else `greedy`."""
        return "beam" if self._language_models.are_used(self.bundle.decoder) else "greedy"

    def transcribe(
        self,
        audio: str | os.PathLike[str] | NDArray[np.floating] | Tensor,
        *,
        sample_rate: int | None = None,
        method: Method | None = None,
        hotwords: Mapping[str, float] | None = None,
        segment: Segmentation = "vad",
        channel: int | None = None,
        on_progress: Callable[[float], object] | None = None,
    ) -> Transcript:
        """Transcribe a file or a waveform, of any length in the same memory unless `segment` is `none`.

        Args:
            audio: the path of an audio or video file, `-` for standard input, or samples in [-1, 1]: `(sample,)` or
                `(channel, sample)`.
            sample_rate: of a waveform, in Hz; files carry their own.
            method: greedy or beam search; by default beam if the model has a language model, or with hotwords.
            hotwords: words and phrases that are expected, each with the natural-log bonus that its occurrence gets,
                such as 5; names and other words that the model never heard among them.
            segment: how a recording is cut, see `asr.inference.segment.segments`: `vad` where nobody speaks, `fixed`
                where it is quiet if it is longer than 30 s, `none` not at all.
            channel: the channel to transcribe, counted from 0; None mixes all down.
            on_progress: is told, each time some audio is done, how many seconds of it that were; they sum up to the
                recording's duration.

        Raises:
            AudioError: the audio cannot be used.
            TokenError: a hotword holds a character that is in none of the model's tokens.
        """
        rate_hz = self.sample_rate_hz
        if isinstance(audio, (str, os.PathLike)):
            name: str | None = os.fspath(audio)
            blocks = audio_blocks(audio, rate_hz, channel=channel)
        else:
            if sample_rate is None or sample_rate <= 0:
                raise AudioError("a waveform needs sample_rate=, its samples per second")
            name, blocks = None, waveform_blocks(checked_waveform(_array(audio)), sample_rate, rate_hz, channel=channel)

        recording = Counted(blocks)
        report = on_progress or (lambda _: None)
        found: list[tuple[int, list[Word]]] = []
        done = 0
        for group in batches(segments(recording, rate_hz, segment), rate_hz):
            tensors = [torch.from_numpy(piece.waveform) for piece in group]
            batch = collate(tensors, [[]] * len(group), [""] * len(group))
            for piece, decoded in zip(group, self.decode(batch, method, hotwords), strict=True):
                found.append((piece.start, self.words(decoded, piece.start / rate_hz)))
            covered = sum(piece.skipped + len(piece.waveform) for piece in group)
            done += covered
            report(covered / rate_hz)
        report((recording.samples - done) / rate_hz)
        words = [word for _, words in sorted(found, key=lambda item: item[0]) for word in words]
        return Transcript.of(words, recording.samples / rate_hz, name, channel)

    def stream(
        self,
        blocks: Iterable[NDArray[np.floating] | Tensor],
        *,
        sample_rate: int,
        method: Method | None = None,
        hotwords: Mapping[str, float] | None = None,
        end_silence_s: float = END_SILENCE_S,
        longest_s: float = LONGEST_UTTERANCE_S,
    ) -> Iterator[Partial]:
        """Transcribe audio while it arrives: what has been said so far, and at the end of each utterance its words.

        Args:
            blocks: the next samples each, in [-1, 1]: `(sample,)` or `(channel, sample)`, any number of them.
            sample_rate: of the blocks, in Hz.
            method: search of the final results, as for `transcribe`; partial ones are always greedy.
            hotwords: see `transcribe`; they count in final results.
            end_silence_s: an utterance ends when nothing was said for so long.
            longest_s: or when it would get longer than this, at a pause.

        Raises:
            AudioError: a block cannot be used.
        """
        if sample_rate <= 0:
            raise AudioError(f"sample_rate={sample_rate}: the samples per second are more than 0")
        mono = (mix_down(checked_waveform(block)) for block in map(_array, blocks) if block.size)
        return stream_results(
            self,
            mono,
            sample_rate,
            listener(self.model),
            method=method,
            hotwords=hotwords,
            end_silence_s=end_silence_s,
            longest_s=longest_s,
        )

    def decode(
        self, batch: Batch, method: Method | None = None, hotwords: Mapping[str, float] | None = None
    ) -> list[Decoded]:
        """Return each utterance's hypotheses, best first, with the alignment of the best."""
        return self.understand(*self.log_posteriors(batch), waveforms(batch), method, hotwords)

    def understand(
        self,
        log_posteriors: Tensor,
        lengths: Tensor,
        heard: Sequence[NDArray[np.float32]],
        method: Method | None = None,
        hotwords: Mapping[str, float] | None = None,
    ) -> list[Decoded]:
        """Return what `decode` does, of log-posteriors.

        Args:
            log_posteriors: `(batch, frame, token)`, natural log.
            lengths: `(batch,)`, valid frames.
            heard: each utterance's waveform `(sample,)`, in which its speech's extent is looked for.
            method: as for `transcribe`.
            hotwords: see `transcribe`.
        """
        method = method or ("beam" if hotwords else self.default_method)
        searched = self.search(log_posteriors, lengths, method, hotwords=hotwords)
        utterances = zip(searched, log_posteriors.cpu(), lengths.tolist(), heard, strict=True)
        return [
            Decoded(
                tuple(hypotheses),
                tuple(align(frames[:length], hypotheses[0].tokens)),
                speech_extent(waveform, self.sample_rate_hz),
            )
            for hypotheses, frames, length, waveform in utterances
        ]

    def words(self, decoded: Decoded, offset_s: float = 0.0) -> list[Word]:
        """Return the best hypothesis as words; `offset_s` is where the utterance starts in its recording."""
        return decoded.words(self.bundle.tokens, self.model.frame_shift_s, offset_s, self.calibration)

    @torch.inference_mode()
    def log_posteriors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return `(batch, frame, token)` float32 natural-log posteriors and `(batch,)` frames."""
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            log_posteriors, lengths = self.model(batch.waveforms, batch.lengths)
        return log_posteriors, lengths

    def search(
        self,
        log_posteriors: Tensor,
        lengths: Tensor,
        method: Method,
        settings: DecodeSettings | None = None,
        hotwords: Mapping[str, float] | None = None,
    ) -> list[list[Hypothesis]]:
        """Return each utterance's hypotheses, best first.

        Args:
            log_posteriors: `(batch, frame, token)`, natural log.
            lengths: `(batch,)`, valid frames.
            method: greedy search asks no language model.
            settings: of the beam search; by default the model folder's.
            hotwords: natural-log bonus of each word or phrase, see `transcribe`.

        Raises:
            ModelError, LanguageModelError: a language model that the settings name is missing or damaged.
            TokenError: a hotword holds a character that is in no token.
            ConfigError: there is no such method, a bonus is not above 0, or greedy search is given hotwords.
        """
        if method not in get_args(Method):
            raise ConfigError(f"method={method!r}: {' or '.join(get_args(Method))}")
        if hotwords and not isinstance(hotwords, Mapping):
            raise ConfigError("hotwords: each needs its bonus, e.g. {'anna': 5.0}")
        if method == "greedy":
            if hotwords:
                raise ConfigError(f"hotwords ({', '.join(hotwords)}) need the beam search, not the greedy one")
            return [[hypothesis] for hypothesis in greedy_search(log_posteriors, lengths)]
        settings = settings or self.bundle.decoder
        nbest = beam_search(
            log_posteriors,
            lengths,
            beam_size=settings.beam_size,
            scorers=self._language_models.scorers(settings, hotwords or {}),
            insertion_bonus=settings.insertion_bonus,
            blank_skip=settings.blank_skip,
            token_floor=settings.token_floor,
        )
        return self._language_models.rescored(nbest, settings)


def _array(samples: NDArray[np.floating] | Tensor) -> NDArray[np.floating]:
    return samples.detach().cpu().numpy() if isinstance(samples, Tensor) else np.asarray(samples)


def waveforms(batch: Batch) -> list[NDArray[np.float32]]:
    """Return each utterance's samples without the padding."""
    return [samples[:length] for samples, length in zip(batch.waveforms.numpy(), batch.lengths.tolist(), strict=True)]
