"""The recogniser: audio in, transcripts with word times and confidences out.

The way of an utterance: `read_audio` → `segments` → `collate` → `AcousticModel` → greedy or beam search → `align` →
`Transcript`. `asr transcribe`, `asr decode` and `asr tune` all go through `Recognizer.log_posteriors` and `search`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.data.audio import mix_down, read_audio, resample
from asr.decode.align import align
from asr.decode.beam import WeightedScorer, beam_search
from asr.decode.confidence import Calibration
from asr.decode.greedy import greedy_search
from asr.decode.hypothesis import Hypothesis
from asr.decode.scorers import TokenNgramScorer
from asr.errors import AudioError, ModelError
from asr.features.batching import Batch, collate
from asr.features.sampling import group_by_padded_size
from asr.inference.segment import segments
from asr.inference.transcript import Transcript, Word
from asr.inference.words import Decoded, speech_extent
from asr.lm.arpa import read_arpa
from asr.model.bundle import ModelBundle

if TYPE_CHECKING:
    from asr.config import DecodeSettings

Method = Literal["greedy", "beam"]

# Pieces of long recordings, and the padded seconds that go through the network at once.
LONGEST_SEGMENT_S = 30.0
BATCH_S = 120.0


def load(folder: str | os.PathLike[str], *, accelerator: Literal["auto", "cpu", "cuda"] = "auto") -> Recognizer:
    """Load a model folder as written by `asr train`.

    Args:
        folder: the model folder.
        accelerator: auto takes a GPU if there is one.

    Raises:
        ModelError: the folder is missing, incomplete or damaged, or `cuda` is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if accelerator == "cuda" and not available:
        raise ModelError("accelerator cuda: torch sees no CUDA device; use auto or cpu")
    device = "cuda" if available and accelerator != "cpu" else "cpu"
    return Recognizer(ModelBundle.load(folder), device, Calibration.load(Path(folder)))


class Recognizer:
    """A loaded model folder, ready to transcribe."""

    def __init__(self, bundle: ModelBundle, device: str = "cpu", calibration: Calibration | None = None) -> None:
        """Move the bundle's model to `device`."""
        self.bundle = bundle
        self.calibration = calibration or Calibration()
        self.device = torch.device(device)
        self.model = bundle.model.to(self.device)

    @property
    def sample_rate_hz(self) -> int:
        """The rate the model works at; other audio is resampled."""
        return self.model.sample_rate_hz

    @property
    def default_method(self) -> Method:
        """`beam` if the model folder has a language model, else `greedy`."""
        return "greedy" if self.bundle.lm_path is None else "beam"

    def transcribe(
        self,
        audio: str | os.PathLike[str] | NDArray[np.floating] | Tensor,
        *,
        sample_rate: int | None = None,
        method: Method | None = None,
    ) -> Transcript:
        """Transcribe a file or a waveform.

        Args:
            audio: a path, or samples in [-1, 1]: `(sample,)` or `(channel, sample)`, mixed down.
            sample_rate: of a waveform, in Hz; files carry their own.
            method: greedy or beam search; by default beam if the model has a language model.

        Raises:
            AudioError: the audio cannot be used.
        """
        if isinstance(audio, (str, os.PathLike)):
            channels, rate_hz = read_audio(Path(audio))
            name: str | None = os.fspath(audio)
        else:
            if sample_rate is None:
                raise AudioError("a waveform needs sample_rate=, its samples per second")
            channels, rate_hz, name = _checked_waveform(audio), sample_rate, None
        waveform = resample(mix_down(channels), rate_hz, self.sample_rate_hz)
        pieces = list(segments(waveform, self.sample_rate_hz, longest_s=LONGEST_SEGMENT_S))
        words: list[Word] = []
        for group in group_by_padded_size(pieces, lambda piece: (piece[1] - piece[0]) / self.sample_rate_hz, BATCH_S):
            tensors = [torch.from_numpy(waveform[start:end]) for start, end in group]
            batch = collate(tensors, [[]] * len(group), [""] * len(group))
            for (start, _), decoded in zip(group, self.decode(batch, method), strict=True):
                words += self.words(decoded, start / self.sample_rate_hz)
        return _transcript(words, len(waveform) / self.sample_rate_hz, name)

    def transcribe_files(
        self, paths: Iterable[Path], *, method: Method | None = None
    ) -> Iterator[tuple[Path, Transcript | AudioError]]:
        """Yield each file with its transcript, or with the reason why it has none."""
        for path in paths:
            try:
                yield path, self.transcribe(path, method=method)
            except AudioError as error:
                yield path, error

    def decode(self, batch: Batch, method: Method | None = None) -> list[Decoded]:
        """Return each utterance's hypotheses, best first, with the alignment of the best."""
        log_posteriors, lengths = self.log_posteriors(batch)
        searched = self.search(log_posteriors, lengths, method or self.default_method)
        utterances = zip(searched, log_posteriors.cpu(), lengths.tolist(), waveforms(batch), strict=True)
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
        log_posteriors, lengths = self.model(batch.waveforms, batch.lengths)
        return log_posteriors, lengths

    def search(
        self, log_posteriors: Tensor, lengths: Tensor, method: Method, settings: DecodeSettings | None = None
    ) -> list[list[Hypothesis]]:
        """Return each utterance's hypotheses, best first; `settings` default to the model folder's."""
        if method == "greedy":
            return [[hypothesis] for hypothesis in greedy_search(log_posteriors, lengths)]
        settings = settings or self.bundle.decoder
        scorers = [] if self._lm_scorer is None else [WeightedScorer(self._lm_scorer, settings.lm_weight)]
        return beam_search(
            log_posteriors,
            lengths,
            beam_size=settings.beam_size,
            scorers=scorers,
            insertion_bonus=settings.insertion_bonus,
        )

    @cached_property
    def _lm_scorer(self) -> TokenNgramScorer | None:
        path = self.bundle.lm_path
        return None if path is None else TokenNgramScorer(read_arpa(path), self.bundle.tokens)


def _transcript(words: list[Word], duration_s: float, path: str | None) -> Transcript:
    confidence = sum(word.confidence for word in words) / len(words) if words else 0.0
    return Transcript(" ".join(word.text for word in words), tuple(words), duration_s, confidence, path)


def waveforms(batch: Batch) -> list[NDArray[np.float32]]:
    """Return each utterance's samples without the padding."""
    return [samples[:length] for samples, length in zip(batch.waveforms.numpy(), batch.lengths.tolist(), strict=True)]


def _checked_waveform(audio: NDArray[np.floating] | Tensor) -> NDArray[np.float32]:
    """Return `(channel, sample)` float32."""
    array = audio.detach().cpu().numpy() if isinstance(audio, Tensor) else np.asarray(audio)
    if array.ndim not in (1, 2) or array.size == 0:
        raise AudioError(f"a waveform is (sample,) or (channel, sample) and not empty; got shape {array.shape}")
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"a waveform holds floats in [-1, 1]; got {array.dtype}: divide integers by their full scale")
    if not np.isfinite(array).all():
        raise AudioError("the waveform holds samples that are not finite numbers")
    return np.atleast_2d(array).astype(np.float32)
