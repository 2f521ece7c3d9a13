"""A data folder → what `asr init` has to know of it: how its texts are written, how long and fast its utterances are.

Manifests are read, the audio is not. Memory grows by some 20 bytes an utterance.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from asr.config import TextSettings
from asr.corpus.limits import training_limits
from asr.corpus.manifest import SPLITS, Entry, entries, find_split, read_manifest
from asr.errors import ManifestError
from asr.settings_file import parse_config
from asr.text.normalise import normalise
from asr.text.units import letters_write_spaces

_AS_WRITTEN = TextSettings(case="keep")
PIECES_FROM_WORDS = 5000  # different ones, from which 500 pieces can be learnt
# Between two letters, such a sign stands for the space that somebody forgot, or for a hyphen; dashes do too.
_DIVIDING = frozenset("/\\_|,;!?…،؛؟۔।॥፡")
_BESIDE_OTHERS = re.compile(r"(?<=(\S))([^\w\s]|_)(?=(\S))")


@dataclass
class SplitFacts:
    """What the manifest of a split holds. `audio_s` has the length of each utterance."""

    audio_s: array[float] = field(default_factory=lambda: array("d"))
    speakers: set[str] = field(default_factory=set)
    characters: Counter[str] = field(default_factory=Counter)  # of the normalised transcripts

    @property
    def hours(self) -> float:
        """Hours of audio."""
        return sum(self.audio_s) / 3600


@dataclass
class TextFacts:
    """The transcripts of train as they are written: cleaned and composed, but with their case and punctuation."""

    characters: Counter[str] = field(default_factory=Counter)
    dividing: Counter[str] = field(default_factory=Counter)  # signs between two letters
    languages: Counter[str] = field(default_factory=Counter)
    with_digits: int = 0
    utterances: int = 0

    def add(self, entry: Entry) -> None:
        """Count one utterance."""
        text = normalise(entry.text, _AS_WRITTEN)
        self.characters.update(text)
        self.dividing.update(_dividing_signs(text))
        self.languages[entry.language.lower().replace("_", "-").partition("-")[0]] += 1
        self.with_digits += any(map(str.isdecimal, text))
        self.utterances += bool(text)

    @property
    def letters(self) -> dict[str, int]:
        """The letters and how often each occurs."""
        return {character: count for character, count in self.characters.items() if character.isalpha()}

    @property
    def signs(self) -> dict[str, int]:
        """Punctuation and symbols, the most frequent first."""
        return {sign: count for sign, count in self.characters.most_common() if is_sign(sign)}

    @property
    def writes_spaces(self) -> bool:
        """Whether the script writes spaces between words."""
        return letters_write_spaces(self.characters)


@dataclass
class AudioFacts:
    """The audio of train, and which of its utterances can be trained on."""

    seconds_at_hz: dict[int, float] = field(default_factory=dict)
    too_fast_at_4: int = 0  # utterances with too few frames for their text at subsampling 4, but not at 2
    unfit: int = 0  # utterances that no setting makes fit: without text or too short
    usable_s: array[float] = field(default_factory=lambda: array("d"))  # lengths of all others

    @property
    def usable_hours(self) -> float:
        """Hours of audio that can be trained on."""
        return sum(self.usable_s) / 3600


@dataclass(frozen=True)
class CorpusFacts:
    """All that the choices rest on."""

    texts: TextFacts
    audio: AudioFacts
    splits: dict[str, SplitFacts]
    different_words: int  # of train; not counted past PIECES_FROM_WORDS, after which nothing depends on it


def is_sign(character: str) -> bool:
    """Return whether Unicode calls a character punctuation or a symbol."""
    return unicodedata.category(character)[0] in "PS"


def _dividing_signs(text: str) -> Iterator[str]:
    """Yield the signs that divide words without a space: dashes between letters or digits, others between letters."""
    for found in _BESIDE_OTHERS.finditer(text):
        before, sign, after = found[1], found[2], found[3]
        is_dash = unicodedata.category(sign) == "Pd" or sign == "/"
        if is_dash or sign in _DIVIDING:
            beside = "LMN" if is_dash else "LM"
            if unicodedata.category(before)[0] in beside and unicodedata.category(after)[0] in beside:
                yield sign


def read_texts(data: Path) -> TextFacts:
    """Return what the transcripts of a data folder's train split hold.

    Raises:
        ManifestError: the split is missing or malformed, or no utterance has a transcript.
    """
    facts = TextFacts()
    manifest = find_split(data, "train")
    for entry in entries(read_manifest(manifest)):
        facts.add(entry)
    if not any(character.isalnum() for character in facts.characters):
        raise ManifestError(f"{manifest}: no transcript holds a letter or a digit, so there is nothing to train on")
    return facts


def measure(data: Path, texts: TextFacts, settings: TextSettings) -> CorpusFacts:
    """Return what the splits of a data folder hold, with transcripts normalised by `settings`.

    Raises:
        ManifestError: a split is missing or malformed, or no utterance of train can be trained on.
    """
    at_4, at_2 = (
        training_limits(
            parse_config({"text": settings, "model": {"subsampling": n}, "training": {"max_utterance_s": 1e9}}, "")
        )
        for n in (4, 2)
    )
    words: set[str] = set()
    audio, splits = AudioFacts(), {split: SplitFacts() for split in SPLITS}
    for split, facts in splits.items():
        for entry in entries(read_manifest(find_split(data, split))):
            transcript = normalise(entry.text, settings)
            facts.audio_s.append(entry.duration_s)
            facts.speakers.update({entry.speaker} - {""})
            facts.characters.update(transcript)
            if split != "train":
                continue
            if len(words) < PIECES_FROM_WORDS:
                words.update(transcript.split())
            audio.seconds_at_hz.setdefault(entry.sample_rate_hz, 0.0)
            audio.seconds_at_hz[entry.sample_rate_hz] += entry.duration_s
            if at_4.fault(entry.duration_s, transcript) is None:
                audio.usable_s.append(entry.duration_s)
            elif at_2.fault(entry.duration_s, transcript) is None:
                audio.usable_s.append(entry.duration_s)
                audio.too_fast_at_4 += 1
            else:
                audio.unfit += 1
    if not audio.usable_s:
        raise ManifestError(
            f"{find_split(data, 'train')}: no utterance can be trained on: all are without text or too short for it; "
            f"`asr check {data}` names the reasons"
        )
    return CorpusFacts(texts, audio, splits, len(words))
