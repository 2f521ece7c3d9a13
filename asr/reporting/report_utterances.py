"""The utterances of a scored corpus → what `report.html` needs to draw and play them. No torch.

Worst first: each has its words aligned, with times and confidences, its posteriors, and its audio as Opus.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from asr.audio.channels import mix_down
from asr.audio.opus import RATE_HZ, ogg_opus
from asr.audio.resample import resample
from asr.audio.sound_file import read_audio
from asr.bundle.files import RECOGNISED
from asr.errors import AudioError
from asr.files import printable
from asr.machine import cores
from asr.reading import counted
from asr.scoring.error_counts import WordPair
from asr.scoring.groups import shown_value
from asr.scoring.recognised import Place
from asr.scoring.score import CorpusScore
from asr.text.units import words_of
from asr.transcript.posteriors import SparsePosteriors

# What audio may cost. AN4's test set of 6 minutes needs 1.4 MB and 6 s of computing time.
AUDIO_BYTES = 10_000_000  # of the page
AUDIO_S = 8.0  # of computing on each core
_LONGEST_REASON = 300  # characters; a path can be longer
_MOST_S = 120.0  # a longer utterance is left out, or it would take the place of many


def worst_first(score: CorpusScore) -> list[str]:
    """Return the ids of all utterances: those with errors as `score.wrong` has them, then the others in order."""
    wrong = [utterance.id for utterance in score.wrong]
    return [*wrong, *(name for name, counts in score.words.items() if not counts.errors)]


def utterance_data(
    score: CorpusScore, names: Sequence[str], posteriors: Mapping[str, SparsePosteriors]
) -> Iterator[dict[str, Any]]:
    """Yield what the page's script needs of each utterance; see the head of report.js, which reads it."""
    alignments = {utterance.id: utterance.alignment for utterance in score.wrong}
    places = {name: place for place, name in enumerate(score.words)}
    for name in names:
        counts, found = score.words[name], score.recognised.get(name)
        alignment = alignments.get(name) or tuple(WordPair(w, w) for w in words_of(score.references[name]))
        data: dict[str, Any] = {
            "id": printable(name),
            "place": places[name],
            "errors": [counts.substitutions, counts.deletions, counts.insertions],
            "length": counts.reference_length,
            "words": _timed(score, name, alignment),
        }
        if name in score.speakers:
            data["speaker"] = printable(score.speakers[name])
        if found is not None and found.duration_s is not None:
            data["duration_s"] = round(found.duration_s, 3)
        fields = {key: value for key, value in score.fields.get(name, {}).items() if value is not None}
        if fields:
            data["fields"] = {printable(key): printable(shown_value(value)) for key, value in fields.items()}
        if name in posteriors:
            data["posteriors"] = _packed(posteriors[name])
        yield data


def _timed(score: CorpusScore, name: str, alignment: Sequence[WordPair]) -> list[list[Any]]:
    """Return `[reference, hypothesis, start, end, confidence]` of each pair, as far as they are known."""
    found = score.recognised.get(name)
    recognised = sum(pair.hypothesis is not None for pair in alignment)
    # `text.replace` can make other words of those that have times.
    known = iter(found.words) if found is not None and len(found.words) == recognised else iter(())
    words: list[list[Any]] = []
    for pair in alignment:
        texts = [None if text is None else printable(text) for text in (pair.reference, pair.hypothesis)]
        word = None if pair.hypothesis is None else next(known, None)
        if word is None:
            words.append(texts)
        elif word.start_s is None or word.end_s is None:
            words.append([*texts, None, None, round(word.confidence, 3)])
        else:
            words.append([*texts, round(word.start_s, 3), round(word.end_s, 3), round(word.confidence, 3)])
    return words


def _packed(posteriors: SparsePosteriors) -> list[Any]:
    """Return the model, the number of frames, and in base64 the counts, the tokens (little-endian) and the levels."""
    parts = (posteriors.counts, posteriors.tokens.astype("<u2"), posteriors.levels)
    packed = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    return [posteriors.model, len(posteriors.counts), base64.b64encode(packed).decode()]


@dataclass(frozen=True)
class PageAudio:
    """The audio of a page.

    Attributes:
        files: Opus in Ogg as base64, by utterance id.
        note: of which utterances it is, and why not of the others.
    """

    files: Mapping[str, str]
    note: str


def page_audio(score: CorpusScore, names: Sequence[str]) -> PageAudio:
    """Return the audio of as many of these utterances, in their order, as a page has room and time for."""
    if not score.recognised:
        return PageAudio(
            {}, f"Only texts were scored: without {RECOGNISED} of asr decode there are no times, audio and posteriors."
        )
    places = {name: found.audio for name in names if (found := score.recognised.get(name)) and found.audio}
    if not places:
        return PageAudio({}, _why_nowhere(score))
    short = {name: place for name, place in places.items() if place.duration_s <= _MOST_S}
    files: dict[str, str] = {}
    failures: list[str] = []
    size, computed_s, workers = 0, 0.0, min(cores(), 8)
    waiting = iter(short.items())
    with ThreadPoolExecutor(workers) as executor:
        while size < AUDIO_BYTES and computed_s < AUDIO_S * workers and (some := list(islice(waiting, 4 * workers))):
            for (name, _), encoded in zip(some, executor.map(_encoded, [place for _, place in some]), strict=True):
                computed_s += encoded.computed_s
                size += len(encoded.content)
                if encoded.failure:
                    failures.append(encoded.failure)
                elif size <= AUDIO_BYTES:
                    files[name] = encoded.content
    return PageAudio(files, _note(len(files), len(names), len(names) - len(short), failures))


def _why_nowhere(score: CorpusScore) -> str:
    if all(found.duration_s is None for found in score.recognised.values()):
        return (
            f"There is no audio: {RECOGNISED} does not say where it is, because an older version wrote it. "
            "Decode again to hear it."
        )
    return "There is no audio, because no utterance is a part of one file as it is: all are packed, joined or altered."


def _note(held: int, utterances: int, elsewhere: int, failures: Sequence[str]) -> str:
    if held == utterances:
        return "All utterances can be played."
    left = utterances - held - len(failures) - elsewhere
    reasons = [
        f"{counted(left, 'other')} would make the page too large or take too long" if left else "",
        f"{counted(elsewhere, 'utterance')} not in a file of their own kind: packed, altered or longer than "
        f"{_MOST_S:g} s"
        if elsewhere
        else "",
        f"audio of {counted(len(failures), 'utterance')} cannot be read ({failures[0]})" if failures else "",
    ]
    most = "with the most errors " if left else ""
    return f"{counted(held, 'utterance')} {most}can be played; {'; '.join(filter(None, reasons))}."


@dataclass(frozen=True)
class _Encoded:
    content: str
    failure: str
    computed_s: float


def _encoded(place: Place) -> _Encoded:
    """Return the audio of a place as base64, or why it cannot be read."""
    began = time.thread_time()
    try:
        waveform, rate_hz = read_audio(place.path, start_s=place.start_s, duration_s=place.duration_s)
        if max(place.channels) >= len(waveform):
            raise AudioError(f"{place.path}: has no channel {max(place.channels)}, counted from 0")
        mono = mix_down(waveform[place.channels])
        content = base64.b64encode(ogg_opus([resample(mono, rate_hz, RATE_HZ)])).decode()
        return _Encoded(content, "", time.thread_time() - began)
    except AudioError as error:
        return _Encoded("", printable(str(error))[:_LONGEST_REASON], time.thread_time() - began)
