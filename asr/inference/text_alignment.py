"""Audio and its text → when each word was spoken, and how well it fits what is heard."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from asr.audio.blocks import audio_blocks
from asr.audio.segment import speech_extent
from asr.audio.sources import Source, is_read_once, source_name
from asr.config import Config
from asr.decoding.align import align, align_bytes
from asr.errors import ShapeError, TokenError
from asr.features.batch import Batch, collate
from asr.inference.decoder import Decoder, waveforms
from asr.inference.heard import hear
from asr.inference.long_alignment import align_words
from asr.machine import Accelerator, Progress, silent
from asr.reading import counted
from asr.text.normalise import normalise
from asr.text.tokens import BLANK, min_frames
from asr.text.written import written_words
from asr.transcript.display import Shown, html_of
from asr.transcript.words import TokenSpan, Word, acoustic_value, by_word, word_extents

if TYPE_CHECKING:
    from lhotse.cut import Cut

    from asr.transcript.display import Audio

# A word with a smaller fit fits badly. In the AN4 dev set these are 3 % of the words, and 96 % of words that were
# exchanged for others.
BAD_FIT = 0.1

# The network takes a recording as a whole, and the alignment keeps its way through all of it. A file that needs more is
# aligned in parts.
MOST_BYTES = 2 << 30


@dataclass(frozen=True)
class AlignedWord:
    """One word of a given text.

    Attributes:
        text: the word, normalised.
        start_s: its start, in seconds from the start of the recording.
        end_s: its end.
        fit: geometric mean of its tokens' highest posteriors, from 0 (not heard) to 1 (clearly heard).
    """

    text: str
    start_s: float
    end_s: float
    fit: float

    @property
    def fits_badly(self) -> bool:
        """Whether something else was probably said."""
        return self.fit < BAD_FIT


@dataclass(frozen=True)
class AlignedText:
    """A text aligned with its audio.

    Attributes:
        id: the utterance, or the file.
        text: the text, normalised.
        words: its words in order; none if the text is empty or cannot be aligned.
        fit: of the whole, from 0 to 1: per frame, the posterior of the text's path divided by that of the best path;
            then the geometric mean over frames. Words of the text that are not heard make it smaller, and so do words
            that are heard and not in the text. 0 if the text cannot be aligned.
        reason: why there are no words; empty if there are words.
    """

    id: str
    text: str
    words: tuple[AlignedWord, ...]
    fit: float
    reason: str = ""

    @property
    def worst_fit(self) -> float:
        """The smallest fit of a word; without words, the fit of the whole."""
        return min((word.fit for word in self.words), default=self.fit)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the words, without a player."""
        return self.to_html()

    def to_html(self, audio: Audio | None = None, *, sample_rate_hz: int | None = None) -> str:
        """Return HTML that shows the words, coloured by their fit; with `audio` as `Transcript.to_html`.

        Args:
            audio: what the text was aligned with.
            sample_rate_hz: of samples; files carry their own.

        Raises:
            AudioError: samples cannot be used. If a file cannot be used, the HTML says so in place of the player.
            DependencyError: jinja2 is missing.
        """
        words = [Word(word.text, word.start_s, word.end_s, word.fit) for word in self.words]
        facts = f"{counted(len(words), 'word')}, fit {self.fit:.0%}, {PurePath(self.id).name}"
        shown = Shown(words, words[-1].end_s if words else 0.0, facts + (f": {self.reason}" * bool(self.reason)), "fit")
        return html_of(shown, audio, sample_rate_hz)

    def to_json(self) -> dict[str, Any]:
        """Return the utterance as `asr align` prints it; times are in seconds."""
        words = [
            {
                "text": word.text,
                "start_s": round(word.start_s, 3),
                "end_s": round(word.end_s, 3),
                "fit": round(word.fit, 4),
            }
            for word in self.words
        ]
        return {
            "id": self.id,
            "worst_fit": round(self.worst_fit, 4),
            "fit": round(self.fit, 4),
            "fits_badly": [word.text for word in self.words if word.fits_badly],
            "text": self.text,
            **({"reason": self.reason} if self.reason else {}),
            "words": words,
        }


def align_manifest(
    model: str | os.PathLike[str],
    manifest: str | os.PathLike[str],
    *,
    accelerator: Accelerator = "auto",
    progress: Progress = silent,
) -> list[AlignedText]:
    """Return all utterances of a manifest aligned with their transcripts, the worst fit first, to find wrong ones.

    Args:
        model: a model folder.
        manifest: utterances with transcripts.
        accelerator: auto takes a GPU if there is one.
        progress: shows how far it is.

    Raises:
        AudioError: a recording cannot be read.
        ManifestError: the manifest is missing, malformed or empty.
        ModelError: the model folder cannot be used.
    """
    from asr.corpus.manifest import load_manifest  # here, because `Recognizer.align` needs no lhotse

    cuts = load_manifest(Path(manifest))
    decoder = Decoder.load(model, accelerator=accelerator)
    utterances = []
    with progress("align", len(cuts)) as advance:
        for aligned in align_cuts(decoder, cuts):
            utterances.append(aligned)
            advance(1)
    return sorted(utterances, key=lambda aligned: (aligned.worst_fit, aligned.fit))


def align_audio(decoder: Decoder, audio: Source, text: str) -> AlignedText:
    """Align a text with a recording of any length.

    The network takes one of some minutes as a whole. A longer one is aligned in parts (`long_alignment.py`), and of its
    words those that are not heard have a fit of 0.

    Raises:
        AudioError: the recording cannot be read.
        TokenError: the text holds characters that the model does not know; the first word with one is named.
        ShapeError: the text has more tokens than the audio has frames for. Or both are too long for `MOST_BYTES`, and
            the audio is no file, so it can be read only once.
    """
    name = source_name(audio) or "the recording"
    text = normalise(text, decoder.bundle.config.text)
    tokens = _encode(decoder, text)
    samples = _load(decoder, audio, len(tokens))
    if isinstance(samples, str):
        if not isinstance(audio, str | os.PathLike) or is_read_once(audio):
            raise ShapeError(f"{name}: {samples}; a file may be longer")
        return _align_long(decoder, audio, name, text)
    waveform = torch.from_numpy(samples)
    log_posteriors, lengths = decoder.log_posteriors(collate([waveform], [[]], [""]))
    if int(lengths[0]) < min_frames(tokens):
        raise ShapeError(
            f"{name}: {len(waveform) / decoder.sample_rate_hz:g} s are too short for a text of "
            f"{len(tokens)} tokens; check that the text belongs to this file"
        )
    return _aligned(decoder, name, text, tokens, log_posteriors[0, : lengths[0]].cpu(), waveform)


def _align_long(decoder: Decoder, audio: Source, name: str, text: str) -> AlignedText:
    heard = hear(decoder, audio)
    alignment = align_words(heard, written_words(text, decoder.bundle.config.text), decoder.bundle.tokens)
    found = {word.index: word for word in alignment.found}
    words, time_s = [], 0.0
    for number, word in enumerate(alignment.words):
        place = found.get(number)
        time_s = time_s if place is None else place.end_s
        start_s, fit = (time_s, 0.0) if place is None else (place.start_s, place.fit)
        words.append(AlignedWord(word.spelled, start_s, time_s, fit))
    lost = float(alignment.unexplained.sum(dtype=np.float64)) + sum(word.loss for word in alignment.found)
    fit = math.exp(-lost / len(heard.tokens)) if found else 0.0
    return AlignedText(name, text, tuple(words), fit, "" if words else "the transcript is empty")


def _encode(decoder: Decoder, text: str) -> list[int]:
    """Return the tokens of a text.

    Raises:
        TokenError: it holds characters that the model does not know; the first word with one is named.
    """
    table = decoder.bundle.tokens
    try:
        return table.encode(text)
    except TokenError as error:
        words = text.split()
        for number, word in enumerate(words, 1):
            unknown = sorted(set(word) - table.characters)
            if unknown:
                raise TokenError(
                    f"{word!r} (word {number} of {len(words)}): no token for {', '.join(map(repr, unknown))}, because "
                    "the model's training text has no such character; write the word as it is spoken, or leave it out"
                ) from None
        raise error  # the space itself is unknown


def _load(decoder: Decoder, audio: Source, tokens: int) -> NDArray[np.float32] | str:
    """Return the samples of a recording. One that is too long is not read to its end, and the reason is returned."""
    blocks, samples = [np.zeros(0, np.float32)], 0
    for block in audio_blocks(audio, decoder.sample_rate_hz):
        blocks.append(block)
        samples += len(block)
        if reason := _too_large(decoder, samples / decoder.sample_rate_hz, tokens):
            return reason
    return np.concatenate(blocks)


def _too_large(decoder: Decoder, duration_s: float, tokens: int) -> str | None:
    """Return why a recording and its text are too large to align, judged before anything is computed; None if not."""
    if bytes_needed(decoder.bundle.config, duration_s, tokens) <= MOST_BYTES:
        return None
    return (
        f"{duration_s:.0f} s of audio or more with a text of {tokens} tokens would take more than "
        f"{MOST_BYTES >> 30} GiB of memory; cut the recording and its text into parts, as `asr segment` does"
    )


def bytes_needed(config: Config, duration_s: float, tokens: int) -> int:
    """Return about how much memory it takes to align a recording with so many tokens: an upper estimate."""
    features, model = config.features, config.model
    mel_frames = duration_s * 1000 / features.hop_ms
    frames = int(mel_frames / model.subsampling)
    waveform = 3 * duration_s * features.sample_rate_hz
    spectra = mel_frames * (4 * features.mel_bins + features.window_ms * features.sample_rate_hz / 500)
    convolved = mel_frames / 2 * features.mel_bins / 2 * model.subsampling_channels
    layers = 8 * frames * 2 * model.hidden_size
    attention = 8.0 * frames**2 if model.encoder == "conformer" else 0.0
    if features.encoder:  # of the largest kind: 48 layers of 1280, 16 heads, and 512 channels of the convolutions
        encoded = mel_frames / 2
        convolved = 2 * duration_s * features.sample_rate_hz / 5 * 512 + 3 * encoded * 49 * 1280
        attention += 3 * 16 * encoded**2
    return int(4 * (waveform + spectra + convolved + layers + attention)) + align_bytes(frames, tokens)


def align_cuts(decoder: Decoder, cuts: Iterable[Cut]) -> Iterator[AlignedText]:
    """Yield each utterance of a manifest, in the manifest's order, aligned with its transcript.

    If the model cannot spell a transcript, or the recording is too short for it or too long to align, it has no words
    and its fit is 0.

    Raises:
        AudioError: a recording cannot be read.
    """
    from asr.corpus.manifest import transcripts
    from asr.features.batching import evaluation_batches
    from asr.model.speaker_moments import speaker_moments

    config = decoder.bundle.config
    texts = transcripts(cuts, config.text)
    moments = speaker_moments(cuts, config)
    # A token spells a character or more, so there are no more tokens than characters.
    for reason, some in groupby(cuts, lambda cut: _too_large(decoder, cut.duration, len(texts[cut.id]) + 1)):
        if reason is not None:
            yield from (AlignedText(cut.id, texts[cut.id], (), 0.0, reason) for cut in some)
        else:
            yield from _align_batches(decoder, evaluation_batches(some, config, moments), texts)


def _align_batches(decoder: Decoder, batches: Iterable[Batch], texts: Mapping[str, str]) -> Iterator[AlignedText]:
    for batch in batches:
        log_posteriors, lengths = decoder.log_posteriors(batch)
        utterances = zip(batch.ids, log_posteriors.cpu(), lengths.tolist(), waveforms(batch), strict=True)
        for name, frames, length, waveform in utterances:
            try:
                tokens = _encode(decoder, texts[name])
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
    spans = align(log_posteriors.numpy(), tokens)
    spoken = by_word(spans, table)
    extents = word_extents(
        [word.spans for word in spoken], decoder.model.frame_shift_s, speech_extent(waveform.numpy(), rate_hz)
    )
    words = tuple(
        AlignedWord(word.text, extent.start_s, extent.end_s, math.exp(acoustic_value(word.spans)))
        for word, extent in zip(spoken, extents, strict=True)
    )
    return AlignedText(name, text, words, _fit(log_posteriors, spans))


def _fit(log_posteriors: Tensor, spans: Iterable[TokenSpan]) -> float:
    """Return the geometric mean over frames of the path's posterior divided by that of the best path."""
    if len(log_posteriors) == 0:
        return 0.0
    path = torch.full((len(log_posteriors), 1), BLANK)
    for span in spans:
        path[span.start : span.end] = span.token
    below_best = log_posteriors.gather(1, path)[:, 0] - log_posteriors.amax(1)
    return float(below_best.double().mean().exp())
