"""Utterances and a model → what the model hears in each, and in which order people look at them.

A transcript fits the worse, the less probable it is than what the model hears: `asr check --model` uses the same
figure. Of an utterance without a transcript, the model's own is the start. It is the less sure, the lower the
confidences of its words are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import cut_text
from asr.errors import AudioError
from asr.features.batching import evaluation_batches
from asr.inference.check_corpus import distances
from asr.inference.decoder import Decoder
from asr.machine import Progress, silent
from asr.model.speaker_moments import speaker_moments
from asr.scoring.error_counts import words_right
from asr.text.normalise import normalise

if TYPE_CHECKING:
    from lhotse.cut import Cut


@dataclass(frozen=True)
class Heard:
    """What a model hears in an utterance.

    Attributes:
        text: what it recognises.
        right: for each word of it, whether the transcript has it; empty without a transcript.
        doubt: the larger, the earlier people should look. With a transcript: by how much it is less probable than
            `text`, in natural logarithms a token. Without: 1 − the mean confidence of the words of `text`. Infinite
            where the model can say nothing.
        reason: why it can say nothing; empty if it can.
    """

    text: str = ""
    right: tuple[bool, ...] = ()
    doubt: float = math.inf
    reason: str = ""


def listen(decoder: Decoder, cuts: Sequence[Cut], progress: Progress = silent) -> list[Heard]:
    """Return what a model hears in each utterance.

    Args:
        decoder: the model.
        cuts: utterances with different ids.
        progress: shows how far it is.
    """
    settings = decoder.bundle.config.text
    texts = [normalise(cut_text(cut), settings) for cut in cuts]
    found = _unreadable(decoder, cuts)
    blank = {place for place, text in enumerate(texts) if not text}
    with progress("listen", len(cuts)) as advance:
        advance(len(found))
        for place, _, distance, heard in distances(decoder, cuts, {*blank, *found}):
            found[place] = Heard(heard, tuple(words_right(texts[place], heard)), distance)
            advance(1)
        for place in sorted(blank - found.keys()):
            found[place] = _recognised(decoder, cuts[place])
            advance(1)
    unfit = Heard(reason="the model cannot spell the text, or the audio is too short for it")
    return [found.get(place, unfit) for place in range(len(cuts))]


def _unreadable(decoder: Decoder, cuts: Sequence[Cut]) -> dict[int, Heard]:
    found = {}
    for place, cut in enumerate(cuts):
        try:
            load_cut(cut, decoder.sample_rate_hz)
        except AudioError as error:
            found[place] = Heard(reason=str(error))
    return found


def _recognised(decoder: Decoder, cut: Cut) -> Heard:
    config = decoder.bundle.config
    (batch,) = evaluation_batches([cut], config, speaker_moments([cut], config))
    (decoded,) = decoder.decode(batch)
    words = decoder.words(decoded)
    if not words:
        return Heard(reason="the model hears nothing")
    doubt = 1 - sum(word.confidence for word in words) / len(words)
    return Heard(decoder.texts(decoded)[0], (), doubt)


def worst_first(heard: Mapping[int, Heard], transcribed: Mapping[int, bool]) -> list[int]:
    """Return the places of utterances: those without a transcript, then the others, each by falling doubt.

    Args:
        heard: what was heard, by place.
        transcribed: whether the utterance has a transcript, by place.
    """
    return sorted(heard, key=lambda place: (transcribed[place], -heard[place].doubt, place))
