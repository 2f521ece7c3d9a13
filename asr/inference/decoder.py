"""A loaded model folder at work: waveforms → log-posteriors → hypotheses → words.

The recogniser, streams, `asr.decode`, `asr.align_manifest` and `asr.tune` all use it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.audio.segment import Segment, speech_extent
from asr.bundle.bundle import ModelBundle
from asr.bundle.speakers import Speaker, load_speaker
from asr.decoding.align import align
from asr.decoding.beam import BeamOptions, beam_search, merge_texts
from asr.decoding.greedy import greedy_search
from asr.errors import ConfigError, DeviceError, ModelError
from asr.features.batch import Batch
from asr.inference.language_models import LanguageModels
from asr.inference.precision import WantedPrecision, settled_precision
from asr.lm.grammar import Grammar
from asr.machine import Accelerator, choose_accelerator, large_blocks_returned, one_thread_after_forks
from asr.model.acoustic import on_cpu
from asr.model.adaptation import with_weights
from asr.model.computation import Precision, ThreadChoice, thread_counts, threads
from asr.model.logmel import moments_of
from asr.paths import ReadablePath
from asr.search_config import DecodeSettings
from asr.sharing.names import model_folder
from asr.transcript.posteriors import SparsePosteriors
from asr.transcript.words import Decoded, Hypothesis, Word

Method = Literal["greedy", "beam"]


@dataclass(frozen=True)
class Search:
    """How to search for hypotheses.

    Attributes:
        method: greedy or beam search; None takes beam if the model has a language model, or with hotwords or a grammar.
        hotwords: natural-log bonus of each expected word or phrase, see `asr/decoding/hotwords.py`.
        settings: of the beam search; None takes those of the model folder.
        keep_posteriors: whether each utterance comes with the probable tokens of its frames.
        grammar: what may be said, in place of language models; what is none of it is the empty text.
    """

    method: Method | None = None
    hotwords: Mapping[str, float] = field(default_factory=dict)
    settings: DecodeSettings | None = None
    keep_posteriors: bool = False
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown method, hotwords for greedy search, and what does not go with a grammar.

        Raises:
            ConfigError: it is one of them.
        """
        if self.method not in (None, *get_args(Method)):
            raise ConfigError(f"method={self.method!r}: {' or '.join(get_args(Method))}")
        if self.hotwords and self.method == "greedy":
            raise ConfigError(f"hotwords ({', '.join(self.hotwords)}) need the beam search, not greedy")
        if self.grammar is not None and (self.hotwords or self.method == "greedy"):
            other = "hotwords" if self.hotwords else "greedy search"
            raise ConfigError(f"grammar ({self.grammar.name}): it goes without {other}; leave one of them out")


class Decoder:
    """A model on a device: its network and its search.

    Attributes:
        bundle: the model folder.
        device: where the network runs.
        precision: in which the network computes.
        model: the network.
        speaker: whom it is fitted to; None: to nobody.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        device: str = "cpu",
        precision: Precision = "fp32",
        speaker: Speaker | None = None,
    ) -> None:
        """Move the bundle's network to `device`; of a speaker, a copy of it with his weights."""
        one_thread_after_forks()
        self.bundle = bundle
        self.device = torch.device(device)
        self.precision: Precision = precision
        self.speaker = speaker
        model = bundle.model if speaker is None else with_weights(bundle.model, speaker.weights)
        self.model = model.to(self.device)
        self._language_models = LanguageModels(bundle, self.device)
        self._process = os.getpid()
        self._threads = ThreadChoice(thread_counts() if device == "cpu" else (torch.get_num_threads(),))

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        accelerator: Accelerator = "auto",
        precision: WantedPrecision = "auto",
        decode: Mapping[str, Any] | None = None,
        speaker: str | None = None,
    ) -> Decoder:
        """Load a model folder; arguments and errors are those of `asr.load`."""
        read = model_folder(folder)
        settled = settled_precision(read, accelerator, precision)
        bundle = ModelBundle.load(read, decode)
        known = None if speaker is None else load_speaker(read, speaker, bundle.model)
        return cls(bundle, choose_accelerator(accelerator), settled, known)

    def __reduce__(self) -> tuple[Callable[..., Decoder], tuple[object, ...]]:
        """Return how another process loads the same: `pickle` stores the folder and the settings, not the weights.

        Raises:
            ModelError: the model was not loaded from a folder.
        """
        if self.bundle.folder is None:
            raise ModelError(
                "a model that was not loaded from a folder cannot be pickled, because a pickle names the folder; save"
                " the model and load it with asr.load"
            )
        folder, settings = self.bundle.folder.absolute(), self.bundle.config.decode.model_dump()
        speaker = None if self.speaker is None else self.speaker.name
        return _loaded, (folder, self.device.type, self.precision, settings, speaker)

    @property
    def sample_rate_hz(self) -> int:
        """The sample rate that the model works at."""
        return self.model.sample_rate_hz

    def method_of(self, search: Search) -> Method:
        """Return the search's method; without one, `beam` with hotwords, grammar or language model, else `greedy`."""
        if search.method is not None:
            return search.method
        settings = search.settings or self.bundle.config.decode
        is_beam = search.hotwords or search.grammar is not None
        return "beam" if is_beam or self._language_models.are_used(settings) else "greedy"

    def unwritable(self, phrases: Iterable[str]) -> dict[str, str]:
        """Return the phrases that a search would refuse as hotwords, each with the reason."""
        return self._language_models.unwritable(phrases)

    @torch.inference_mode()
    def log_posteriors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return `(batch, frame, token)` float32 natural-log posteriors and `(batch,)` frames.

        Raises:
            ModelError: as `require_numbers`.
            DeviceError: this process was forked from the one that loaded the model onto a GPU.
        """
        if os.getpid() != self._process:
            self._come_through_a_fork()
        batch = batch.to(self.device)
        waveforms, lengths, moments = batch.waveforms, batch.lengths, batch.moments
        if self.speaker is not None and self.speaker.moments is not None:
            moments = self.speaker.moments.to(self.device).expand(len(lengths), -1, -1)

        def network(share: float) -> tuple[Tensor, Tensor]:
            most = max(self.model.frame_samples, round(share * waveforms.shape[1]))
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                log_posteriors, frames = self.model(waveforms[:, :most], lengths.clamp_max(most), moments=moments)
            return log_posteriors, frames

        with large_blocks_returned():
            log_posteriors, frames = self._threads.do(network)
        self.require_numbers(log_posteriors)
        return log_posteriors, frames

    def of_one_speaker(self, segments: Iterable[Segment]) -> tuple[Iterable[Segment], Tensor | None]:
        """Return the segments of a recording, and the moments `(2, mel)` of its speaker if the model takes them.

        A model with `features.cmvn=speaker` takes the recording for all that its speaker says. Its segments are then in
        memory together, 230 MB for an hour of speech at 16 kHz. A speaker who was chosen has his own moments.
        """
        if self.model.cmvn.mode != "speaker" or self.speaker is not None:
            return segments, None
        held = list(segments)
        waveforms = (torch.from_numpy(segment.waveform) for segment in held)
        return held, moments_of(self.model.logmel, waveforms).cpu() if held else None

    def _come_through_a_fork(self) -> None:
        if self.device.type == "cuda":
            raise DeviceError(
                "a forked process cannot use its parent's GPU; start processes with "
                "multiprocessing.get_context('spawn'), or load the model in each"
            )
        self._threads, self._process = ThreadChoice((1,)), os.getpid()  # see `one_thread_after_forks`

    def require_numbers(self, log_posteriors: Tensor) -> None:
        """Refuse log-posteriors of any shape in which there is NaN: it would look like silence.

        Raises:
            ModelError: there is one.
        """
        if log_posteriors.sum().isnan():
            raise ModelError(
                f"{self.bundle.folder or 'the model'}: the network computes no numbers, because some of its weights "
                "are too large; train or export the model again"
            )

    def search(self, log_posteriors: Tensor, lengths: Tensor, search: Search = Search()) -> list[list[Hypothesis]]:
        """Return each utterance's hypotheses, best first; no two of them spell the same text.

        Args:
            log_posteriors: `(batch, frame, token)`, natural log.
            lengths: `(batch,)`, valid frames.
            search: how to search. Greedy search uses no language model.

        Raises:
            ModelError, LanguageModelError: a language model that the settings name is missing or damaged.
            TokenError: a hotword holds a character that is in no token.
            ConfigError: a bonus is not above 0.
        """
        settings = search.settings or self.bundle.config.decode
        if search.grammar is not None:
            grammar = self._language_models.grammar(search.grammar)
            with threads(self._threads.count):
                return grammar.search(*on_cpu(log_posteriors, lengths), settings.beam_size)
        if self.method_of(search) == "greedy":
            return [[hypothesis] for hypothesis in greedy_search(*on_cpu(log_posteriors, lengths))]
        scorers = self._language_models.scorers(settings, search.hotwords)
        options = BeamOptions(settings.beam_size, settings.insertion_bonus, settings.blank_skip, settings.token_floor)
        with threads(self._threads.count):
            searched = beam_search(*on_cpu(log_posteriors, lengths), options, scorers)
            nbest = [merge_texts(hypotheses, self.bundle.tokens) for hypotheses in searched]
            return self._language_models.rescored(nbest, settings)

    def decode(self, batch: Batch, search: Search = Search()) -> list[Decoded]:
        """Return each utterance's hypotheses, best first, with the alignment of the best.

        Raises: as `search`.
        """
        return self.understand(*self.log_posteriors(batch), waveforms(batch), search)

    def understand(
        self,
        log_posteriors: Tensor,
        lengths: Tensor,
        heard: Sequence[NDArray[np.float32]],
        search: Search = Search(),
    ) -> list[Decoded]:
        """Return what `decode` returns, from log-posteriors.

        Args:
            log_posteriors: `(batch, frame, token)`, natural log.
            lengths: `(batch,)`, valid frames.
            heard: each utterance's waveform `(sample,)`, to find where its speech begins and ends.
            search: how to search.
        """
        log_posteriors, lengths = log_posteriors.cpu(), lengths.cpu()  # once, for the search and the alignment
        searched = self.search(log_posteriors, lengths, search)
        utterances = zip(searched, *on_cpu(log_posteriors, lengths), heard, strict=True)
        return [
            Decoded(
                tuple(hypotheses),
                tuple(align(frames[:length], hypotheses[0].tokens)),
                speech_extent(waveform, self.sample_rate_hz),
                posteriors=SparsePosteriors.of(frames[:length]) if search.keep_posteriors else None,
            )
            for hypotheses, frames, length, waveform in utterances
        ]

    def texts(self, decoded: Decoded) -> list[str]:
        """Return the text of each hypothesis, in their order."""
        return [self.bundle.tokens.decode(hypothesis.tokens) for hypothesis in decoded.hypotheses]

    def words(self, decoded: Decoded, offset_s: float = 0.0) -> list[Word]:
        """Return the words of the best hypothesis; the utterance starts at `offset_s` in its recording."""
        return decoded.words(self.bundle.tokens, self.model.frame_shift_s, offset_s, self.bundle.calibration)


def _loaded(
    folder: ReadablePath, accelerator: Accelerator, precision: Precision, decode: Mapping[str, Any], speaker: str | None
) -> Decoder:
    return Decoder.load(folder, accelerator=accelerator, precision=precision, decode=decode, speaker=speaker)


def waveforms(batch: Batch) -> list[NDArray[np.float32]]:
    """Return the samples of each utterance, `(sample,)`, without the padding."""
    return [samples[:length] for samples, length in zip(batch.waveforms.numpy(), batch.lengths.tolist(), strict=True)]
