"""Aligning a given text with its audio: when each word was spoken, and how well it fits what is heard."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asr.audio.blocks import Source, load_audio, source_name
from asr.audio.segment import speech_extent
from asr.corpus.manifest import transcripts
from asr.decoding.align import align
from asr.errors import ShapeError, TokenError
from asr.features.batching import collate, evaluation_batches
from asr.inference.decoder import Decoder, waveforms
from asr.text.normalise import normalise
from asr.text.tokens import BLANK, min_frames
from asr.transcript.hypothesis import TokenSpan
from asr.transcript.words import acoustic_value, by_word, word_extents

if TYPE_CHECKING:
    from lhotse.cut import Cut

BAD_FIT = 0.1
"""A word below this fits badly: of the AN4 dev set's words 3 % do, of words put in another's place 96 %."""


@dataclass(frozen=True)
class AlignedWord:
    """One word of a given text.

    Attributes:
        text: the word, normalised.
        start_s: seconds from the start of the recording to the word's start.
        end_s: likewise to its end.
        fit: geometric mean of its tokens' highest posteriors, 0 (not there) to 1 (clearly there).
    """

    text: str
    start_s: float
    end_s: float
    fit: float

    @property
    def fits_badly(self) -> bool:
        """Whether the word is likely not what was said."""
        return self.fit < BAD_FIT


@dataclass(frozen=True)
class AlignedText:
    """A text along its audio.

    Attributes:
        id: the utterance, or the file.
        text: normalised.
        words: in order; none if the text is empty or too long for the audio.
        fit: geometric mean over frames of the posterior of the text's path over that of the best path, 0 to 1: lower
            where words of the text are not heard and where words are heard that the text lacks. 0 if the text has more
            tokens than the audio has frames for.
    """

    id: str
    text: str
    words: tuple[AlignedWord, ...]
    fit: float
    reason: str = ""
    """Why there are no words, if there are none."""

    @property
    def worst_fit(self) -> float:
        """The least of the words' fits; the whole's where there are no words."""
        return min((word.fit for word in self.words), default=self.fit)


def align_audio(decoder: Decoder, audio: Source, text: str) -> AlignedText:
    """Align a text with a recording, which goes through the network as a whole: minutes, not hours.

    Raises:
        AudioError: the recording cannot be read.
        TokenError: the text holds characters that the model does not know.
        ShapeError: the text has more tokens than the audio has frames for.
    """
    name = source_name(audio) or "the recording"
    waveform = torch.from_numpy(load_audio(audio, decoder.sample_rate_hz))
    text = normalise(text, decoder.bundle.config.text)
    tokens = decoder.bundle.tokens.encode(text)
    log_posteriors, lengths = decoder.log_posteriors(collate([waveform], [[]], [""]))
    if int(lengths[0]) < min_frames(tokens):
        raise ShapeError(
            f"{name}: {len(waveform) / decoder.sample_rate_hz:g} s are too short for a text of "
            f"{len(tokens)} tokens; does the text belong to this file?"
        )
    return _aligned(decoder, name, text, tokens, log_posteriors[0, : lengths[0]].cpu(), waveform)


def align_cuts(decoder: Decoder, cuts: Iterable[Cut]) -> Iterator[AlignedText]:
    """Yield each utterance of a manifest, in its order, along its transcript.

    One that the model cannot spell, or for which the recording is too short, has no words and does not fit at all.

    Raises:
        AudioError: a recording cannot be read.
    """
    config = decoder.bundle.config
    texts = transcripts(cuts, config.text)
    for batch in evaluation_batches(cuts, config):
        log_posteriors, lengths = decoder.log_posteriors(batch)
        utterances = zip(batch.ids, log_posteriors.cpu(), lengths.tolist(), waveforms(batch), strict=True)
        for name, frames, length, waveform in utterances:
            try:
                tokens = decoder.bundle.tokens.encode(texts[name])
            except TokenError as error:
                yield AlignedText(name, texts[name], (), 0.0, str(error))
            else:
                yield _aligned(decoder, name, texts[name], tokens, frames[:length], torch.from_numpy(waveform))


def _aligned(
    decoder: Decoder, name: str, text: str, tokens: list[int], log_posteriors: Tensor, waveform: Tensor
) -> AlignedText:
    table, rate_hz = decoder.bundle.tokens, decoder.sample_rate_hz
    if len(log_posteriors) < min_frames(tokens):
        return AlignedText(name, text, (), 0.0, f"the recording is too short for {len(tokens)} tokens")
    if not tokens:
        return AlignedText(name, text, (), _fit(log_posteriors, ()), "the transcript is empty")
    spans = align(log_posteriors, tokens)
    by_words = by_word(spans, table)
    extents = word_extents(by_words, decoder.model.frame_shift_s, speech_extent(waveform.numpy(), rate_hz))
    words = tuple(
        AlignedWord(
            table.decode([span.token for span in word]), extent.start_s, extent.end_s, math.exp(acoustic_value(word))
        )
        for word, extent in zip(by_words, extents, strict=True)
    )
    return AlignedText(name, text, words, _fit(log_posteriors, spans))


def _fit(log_posteriors: Tensor, spans: Iterable[TokenSpan]) -> float:
    """Return the geometric mean of the path's posteriors over those of the best path."""
    if len(log_posteriors) == 0:
        return 0.0
    path = torch.full((len(log_posteriors), 1), BLANK)
    for span in spans:
        path[span.start : span.end] = span.token
    below_best = log_posteriors.gather(1, path)[:, 0] - log_posteriors.amax(1)
    return float(below_best.double().mean().exp())
