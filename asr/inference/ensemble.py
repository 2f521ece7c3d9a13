"""Several loaded models as one: each searches as it would alone, and their n-best lists are joined.

Each model uses its own tokens, its own language model and the settings of its own folder. Only texts are compared, so
the models may differ in all that. They must agree in the sample rate and in how transcripts are written.

The words come from the joined list (`asr/decoding/bayes_risk.py`). Their times and acoustic values are those of the
model that gives the chosen text the highest posterior. The calibration is the first model's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from asr.audio.segment import Extent, Segment, speech_extent
from asr.bundle.bundle import ModelBundle
from asr.config import Config
from asr.decoding.align import align
from asr.decoding.bayes_risk import join
from asr.errors import ConfigError, ModelError
from asr.features.batch import Batch
from asr.inference.decoder import Decoder, Method, Search, waveforms
from asr.inference.precision import WantedPrecision, settled_precision
from asr.machine import Accelerator
from asr.model.acoustic import on_cpu
from asr.model.computation import Precision
from asr.paths import ReadablePath
from asr.sharing.names import model_folder
from asr.text.tokens import TokenTable
from asr.text.units import words_of
from asr.transcript.confidence import Evidence, word_posteriors
from asr.transcript.posteriors import SparsePosteriors
from asr.transcript.words import Decoded, Hypothesis, Word, acoustic_value, by_word

PathLike: TypeAlias = "str | os.PathLike[str]"
Models: TypeAlias = "PathLike | Sequence[PathLike]"
"""A model folder, or several that work as one."""

_TOKEN_SETTINGS = {"tokens", "pieces"}  # of the section text; all others say how transcripts are written


def model_folders(models: Models) -> tuple[ReadablePath, ...]:
    """Return the folders of a model or of several.

    Raises:
        ModelError: none is given, or a packed model cannot be read.
    """
    folders = (models,) if isinstance(models, (str, os.PathLike)) else tuple(models)
    if not folders:
        raise ModelError("no model folder is given")
    return tuple(map(model_folder, folders))


def common_precision(folders: Sequence[ReadablePath], accelerator: Accelerator, wanted: WantedPrecision) -> Precision:
    """Return the number format in which all models compute: that of each if they agree, else fp32.

    Raises: as `settled_precision`.
    """
    settled = {settled_precision(folder, accelerator, wanted) for folder in folders}
    return settled.pop() if len(settled) == 1 else "fp32"


def load_decoder(
    models: Models,
    *,
    accelerator: Accelerator = "auto",
    precision: WantedPrecision = "auto",
    decode: Mapping[str, Any] | None = None,
    speaker: str | None = None,
) -> Decoder | Ensemble:
    """Load a model folder, or several that work as one; arguments and errors are those of `asr.load`."""
    folders = model_folders(models)
    settled = common_precision(folders, accelerator, precision)
    decoders = [
        Decoder.load(folder, accelerator=accelerator, precision=settled, decode=decode, speaker=speaker)
        for folder in folders
    ]
    return decoders[0] if len(decoders) == 1 else Ensemble(decoders)


@dataclass(frozen=True)
class JoinedDecoded(Decoded):
    """What several models found for one utterance.

    `hypotheses` are those of the joined list. A score is the natural log of a posterior; tokens and frames are of the
    model that proposed the hypothesis.

    Attributes:
        texts: those of the hypotheses.
        owner: the number of the model whose tokens and frames `spans` has.
    """

    texts: tuple[str, ...]
    owner: int

    def evidence(self, tokens: TokenTable) -> list[Evidence]:
        """Return the evidence for each word of the best hypothesis; `tokens` are the owner's."""
        scores = [hypothesis.score for hypothesis in self.hypotheses]
        posteriors = word_posteriors([words_of(text) for text in self.texts], scores)
        acoustic = [acoustic_value(word.spans) for word in by_word(self.spans, tokens)]
        return [Evidence(*pair) for pair in zip(posteriors, acoustic, strict=True)]


class Ensemble:
    """Several models that work as one; what it has in common with `Decoder` means the same.

    Attributes:
        decoders: the models, at least one.
    """

    def __init__(self, decoders: Sequence[Decoder]) -> None:
        """Join loaded models.

        Raises:
            ModelError: they differ in sample rate, or in how transcripts are written.
        """
        self.decoders = tuple(decoders)
        first, *others = (decoder.bundle for decoder in self.decoders)
        of_speakers = any(decoder.model.cmvn.mode == "speaker" for decoder in self.decoders)
        for other in others:
            for setting in _settings_in_common(first.config, of_speakers=of_speakers):
                if _value(other, setting) != _value(first, setting):
                    raise ModelError(
                        f"{other.folder}: {setting} is {_value(other, setting)!r}, that of {first.folder} "
                        f"{_value(first, setting)!r}; models that work as one need the same"
                    )

    @property
    def bundle(self) -> ModelBundle:
        """The first model's; all write transcripts in the same way."""
        return self.decoders[0].bundle

    @property
    def device(self) -> object:
        """Where the networks run."""
        return self.decoders[0].device

    @property
    def precision(self) -> Precision:
        """In which the networks compute."""
        return self.decoders[0].precision

    @property
    def sample_rate_hz(self) -> int:
        """The sample rate that the models work at."""
        return self.decoders[0].sample_rate_hz

    def method_of(self, search: Search) -> Method:
        """Return `beam` if at least one of the models searches so."""
        methods = [decoder.method_of(search) for decoder in self.decoders]
        return "beam" if "beam" in methods else "greedy"

    def of_one_speaker(self, segments: Iterable[Segment]) -> tuple[Iterable[Segment], Tensor | None]:
        """Return the segments of a recording, and the moments of its speaker, see `Decoder.of_one_speaker`."""
        return self.decoders[0].of_one_speaker(segments)

    def decode(self, batch: Batch, search: Search) -> list[Decoded]:
        """Return what the models found for each utterance.

        Raises: as `Decoder.search`.
            ConfigError: there is a grammar, whose threshold is one model's.
        """
        if search.grammar is not None:
            raise ConfigError(f"a grammar takes one model, not {len(self.decoders)}; load one of them")
        computed = [decoder.log_posteriors(batch) for decoder in self.decoders]
        searched = [decoder.search(*frames, search) for decoder, frames in zip(self.decoders, computed, strict=True)]
        frames = [on_cpu(*of_model) for of_model in computed]
        return [
            self._joined(
                [lists[row] for lists in searched],
                [log_posteriors[row, : lengths[row]] for log_posteriors, lengths in frames],
                speech_extent(heard, self.sample_rate_hz),
                keep_posteriors=search.keep_posteriors,
            )
            for row, heard in enumerate(waveforms(batch))
        ]

    def _joined(
        self,
        lists: Sequence[Sequence[Hypothesis]],
        frames: Sequence[NDArray[np.float32]],
        speech: Extent,
        *,
        keep_posteriors: bool = False,
    ) -> JoinedDecoded:
        """Return what the models found for one utterance.

        Args:
            lists: the hypotheses of each model.
            frames: `(frame, token)` log-posteriors of each.
            speech: where there is speech.
            keep_posteriors: whether to keep those of the model whose tokens are taken.
        """
        texts = [
            [decoder.bundle.tokens.decode(hypothesis.tokens) for hypothesis in hypotheses]
            for decoder, hypotheses in zip(self.decoders, lists, strict=True)
        ]
        scores = [[hypothesis.score for hypothesis in hypotheses] for hypotheses in lists]
        candidates = join(list(zip(texts, scores, strict=True)))
        hypotheses = tuple(
            replace(lists[candidate.model][candidate.place], score=log(max(candidate.posterior, _LEAST)))
            for candidate in candidates
        )
        owner = candidates[0].model
        spans = tuple(align(frames[owner], hypotheses[0].tokens))
        posteriors = SparsePosteriors.of(frames[owner], owner) if keep_posteriors else None
        joined = tuple(candidate.text for candidate in candidates)
        return JoinedDecoded(hypotheses, spans, speech, joined, owner, posteriors=posteriors)

    def texts(self, decoded: Decoded) -> list[str]:
        """Return the text of each hypothesis, in their order."""
        assert isinstance(decoded, JoinedDecoded), "it comes from `decode`"
        return list(decoded.texts)

    def words(self, decoded: Decoded, offset_s: float = 0.0) -> list[Word]:
        """Return the words of the best hypothesis; the utterance starts at `offset_s` in its recording."""
        assert isinstance(decoded, JoinedDecoded), "it comes from `decode`"
        owner = self.decoders[decoded.owner]
        return decoded.words(owner.bundle.tokens, owner.model.frame_shift_s, offset_s, self.bundle.calibration)


_LEAST = 1e-300  # a posterior, whose logarithm is finite


def _settings_in_common(config: Config, *, of_speakers: bool) -> list[str]:
    """Return the settings in which models must agree.

    The moments of a speaker's features are computed once for all models, so with them all features must be the same.
    """
    texts = [f"text.{name}" for name in type(config.text).model_fields if name not in _TOKEN_SETTINGS]
    features = type(config.features).model_fields if of_speakers else ["sample_rate_hz"]
    return [*texts, *(f"features.{name}" for name in features)]


def _value(bundle: ModelBundle, setting: str) -> object:
    section, name = setting.split(".")
    return getattr(getattr(bundle.config, section), name)
