"""What a corpus holds → the settings of its recipe, each with the fact that it rests on.

**Network, epochs and batch by the hours of audio in train** (the docs show the same table):

| hours up to | network | epochs | batch | noise |
| ---: | --- | ---: | ---: | --- |
| 0.25 | 2 × 128 | 200 | 14 s | no |
| 0.75 | 3 × 144 | 120 | 14 s | no |
| 2 | 3 × 192 | 80 | 16 s | yes |
| 5 | 3 × 256 | 50 | 20 s | yes |
| 15 | 3 × 320 | 40 | 30 s | yes |
| 50 | 4 × 320 | 30 | 45 s | yes |
| 100 | 4 × 384 | 20 | 90 s | yes |
| 300 | 4 × 512 | 15 | 120 s | yes |
| more | 5 × 512 | 12 | 240 s | yes |

Two rows are measured: that of 0.75 hours is the AN4 recipe, and that of 5 hours is `conf/custom.yaml`. The others keep
to these lines.

- *Steps.* A run takes some 10,000 to 25,000 steps for 10 to 45 minutes (AN4: 19,000), 20,000 to 70,000 for up to 15
  hours, and at most 180,000 for 1,000 hours. So epochs fall and batches grow with the hours.
- *Batches* are as small as the number of steps allows: on AN4, batches of 14 s make a fifth fewer errors than of 45 s.
- *The network* grows with the square root of the hours or slower: much data train a large network, few overfit it.
- *Memory.* One pass takes at most `MICRO_BATCH_S` of audio; larger batches are summed over several passes. On a CPU
  3 × 256 with 60 s of audio needs 1.5 GB, 4 × 384 with 60 s 2.0 GB (measured), and the last row thus about 4 GB.
- *Noise and reverberation* are off for less than `NOISE_FROM_H` hours, where they cost more than they give (AN4, dev:
  15.9 % without, 19.5 % with them). Above, they are those of `conf/custom.yaml`.

**Text.** Case is folded if the script has case. Punctuation and symbols are left out, unless the caller keeps them.
A sign that divides words, such as a hyphen or a slash between letters, becomes a space where the script has spaces.
Tokens are characters. From `PIECES_FROM_H` hours and `PIECES_FROM_WORDS` different words on, scripts with spaces and a
small alphabet get sub-word pieces, as in icefall's LibriSpeech recipes (500 unigram pieces). Scripts without spaces
keep characters: CTC copes with some thousand of them, and pieces would need words.

**Audio.** The sample rate is the highest one up to 16 kHz that at least half of the audio has.

Sources: recipes/an4/README.md, benchmarks/README.md; icefall, `egs/librispeech/ASR`.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from asr.config import Config
from asr.errors import ConfigError
from asr.preparing.corpus_facts import PIECES_FROM_WORDS, AudioFacts, CorpusFacts, TextFacts, is_sign
from asr.settings_file import parse_config
from asr.text.normalise import PUNCTUATION
from asr.text.report import character_name


@dataclass(frozen=True)
class Size:
    """A row of the table: the network and the run for train sets of up to so many hours."""

    up_to_h: float
    layers: int
    hidden_size: int
    million_parameters: float  # with 40 tokens
    epochs: int
    batch_s: int


SIZES = (
    Size(0.25, 2, 128, 1.0, 200, 14),
    Size(0.75, 3, 144, 1.7, 120, 14),
    Size(2, 3, 192, 2.9, 80, 16),
    Size(5, 3, 256, 5.1, 50, 20),
    Size(15, 3, 320, 7.8, 40, 30),
    Size(50, 4, 320, 10.3, 30, 45),
    Size(100, 4, 384, 14.7, 20, 90),
    Size(300, 4, 512, 25.9, 15, 120),
    Size(math.inf, 5, 512, 32.2, 12, 240),
)
NOISE_FROM_H = 0.75
PIECES_FROM_H = 100.0
PIECES = 500
MICRO_BATCH_S = 120

ALL = "all"  # of `keep`: no punctuation is left out

_USUAL_RATES_HZ = (8000, 16000)
_LARGEST_ALPHABET = 300  # characters; a script with more of them has syllables or words for signs
_MOST_UTTERANCE_S = 60.0
RARE = 5  # a character that occurs fewer times is hardly learnt
# Punctuation by its class, spelling by its use: Tibetan tsheg, Catalan middle dot, Hebrew gershayim.
_SPELLING = frozenset("་༌·״")
SPOKEN = frozenset("%&@+=°§#$€£¥₹₽₩")
_TURKISH = {"tr": "tr", "tur": "tr", "turkish": "tr", "az": "az", "aze": "az", "azj": "az", "azerbaijani": "az"}


@dataclass(frozen=True)
class Choice:
    """A setting such as "model.layers", its value, and what the value rests on."""

    setting: str
    value: Any
    rests_on: str


def as_config(choices: list[Choice]) -> Config:
    """Return the settings that were chosen; all others have their defaults."""
    return parse_config(nested(choices), "the settings chosen for the corpus")


def nested(choices: list[Choice]) -> dict[str, dict[str, Any]]:
    """Return the choices by section and key, as in a settings file."""
    values: dict[str, dict[str, Any]] = {}
    for choice in choices:
        section, _, key = choice.setting.partition(".")
        values.setdefault(section, {})[key] = choice.value
    return values


def choose_text(facts: TextFacts, keep: str) -> list[Choice]:
    """Return how transcripts are normalised.

    Args:
        facts: of train.
        keep: the punctuation to keep: its characters, or "all".

    Raises:
        ConfigError: `keep` holds a letter or the like.
    """
    kept = _kept_signs(facts, keep)
    choices = [_case(facts)]
    letters = sum(facts.letters.values())
    language = _dotless(facts, letters)
    if language is not None:
        choices.append(language)
    removed = {sign: count for sign, count in facts.signs.items() if sign not in kept and sign != "'"}
    space = "".join(sorted(sign for sign in facts.dividing if sign in removed)) if facts.writes_spaces else ""
    if space:
        where = ", ".join(f"{sign} {facts.dividing[sign]:,}" for sign in space)
        choices.append(Choice("text.space", space, f"these stand between letters: {where}"))
    return [*choices, _remove(facts, kept, removed, keep)]


def _kept_signs(facts: TextFacts, keep: str) -> set[str]:
    if keep == ALL:
        return set(facts.signs)
    wrong = [character for character in keep if not is_sign(character) and not character.isspace()]
    if wrong:
        raise ConfigError(
            f"keep_punctuation: {keep!r} is neither {ALL!r} nor a list of punctuation: {character_name(wrong[0])} is "
            "none; list signs one after the other, e.g. '.,?'"
        )
    return {*keep} | (_SPELLING & facts.signs.keys())


def _case(facts: TextFacts) -> Choice:
    letters = facts.letters
    if not any(letter.lower() != letter or letter.upper() != letter for letter in letters):
        return Choice("text.case", "keep", "the script has no case")
    capitals = sum(count for letter, count in letters.items() if letter.lower() != letter)
    share = 100 * capitals / max(1, sum(letters.values()))
    return Choice("text.case", "lower", f"{share:.1f} % of the letters are capitals")


def _dotless(facts: TextFacts, letters: int) -> Choice | None:
    """Return the language whose I belongs to ı, by its tag or by its letters."""
    tag = facts.languages.most_common(1)[0][0]
    if tag in _TURKISH:
        return Choice("text.language", _TURKISH[tag], f"the manifests say that the language is {tag}")
    count = facts.characters["ı"] + facts.characters["İ"]
    if 100 * count < letters:
        return None
    is_azerbaijani = 100 * (facts.characters["ə"] + facts.characters["Ə"]) >= letters
    return Choice("text.language", "az" if is_azerbaijani else "tr", f"ı or İ occurs {count:,} times")


def _remove(facts: TextFacts, kept: set[str], removed: Mapping[str, int], keep: str) -> Choice:
    spelling = _SPELLING & facts.signs.keys()
    counts = ", ".join(f"{character_name(sign)} {count:,}" for sign, count in removed.items())
    left_out = f"left out: {counts}" if counts else "train has no punctuation"
    if keep == ALL:
        counts = ", ".join(f"{character_name(sign)} {count:,}" for sign, count in facts.signs.items())
        return Choice("text.remove", "", f"kept, as asked for: {counts or 'train has none'}")
    if not kept:
        return Choice("text.remove", PUNCTUATION, f"{left_out}; apostrophes within words stay")
    # What is kept must be told from the rest sign by sign. Those of other texts are as usual as those of ASCII.
    signs = {*removed, *string.punctuation} - kept - {"'"}
    also = ", which belong to the spelling" if kept <= spelling else ", as asked for"
    reason = f"kept: {' '.join(sorted(kept))}{also}; {left_out}; apostrophes stay"
    return Choice("text.remove", "".join(sorted(signs)), reason)


def choose_rest(facts: CorpusFacts) -> list[Choice]:
    """Return token kind, sample rate, network and run of a corpus."""
    hours = facts.audio.usable_hours
    subsampling = _subsampling(facts.audio)
    longest = _max_utterance(facts.audio)
    choices = [*_tokens(facts, hours), _sample_rate(facts.audio), *_size(hours), subsampling, longest]
    sections = list(Config.model_fields)
    return sorted(choices, key=lambda choice: sections.index(choice.setting.partition(".")[0]))


def _tokens(facts: CorpusFacts, hours: float) -> list[Choice]:
    characters = len(facts.splits["train"].characters)
    if not facts.texts.writes_spaces:
        reason = f"{characters:,} characters; the script writes no spaces, and pieces need words"
    elif hours < PIECES_FROM_H:
        reason = f"{characters:,} characters; {hours_of(hours)} of audio, and pieces need {PIECES_FROM_H:g} h"
    elif characters > _LARGEST_ALPHABET:
        reason = f"{characters:,} characters: each is a syllable or a word already"
    elif facts.different_words < PIECES_FROM_WORDS:
        reason = f"{facts.different_words:,} different words, and pieces need {PIECES_FROM_WORDS:,}"
    else:
        reason = f"{hours_of(hours)} of audio and {characters:,} characters: enough to learn pieces"
        pieces = Choice("text.pieces", PIECES, "the usual number for some hundred hours")
        return [Choice("text.tokens", "unigram", reason), pieces]
    return [Choice("text.tokens", "characters", reason)]


def hours_of(hours: float) -> str:
    """Return e.g. "40 s", "12 min" or "3.5 h"."""
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    return f"{60 * hours:.0f} min" if hours < 1 else f"{hours:,.1f} h"


def _sample_rate(audio: AudioFacts) -> Choice:
    total_s = sum(audio.seconds_at_hz.values())
    shares = ", ".join(
        f"{rate} Hz {100 * seconds / total_s:.0f} %" if rate else "unknown"
        for rate, seconds in sorted(audio.seconds_at_hz.items())
    )
    known = {rate: seconds for rate, seconds in audio.seconds_at_hz.items() if rate}
    # A recording's own rate is a choice too, where it is below 16 kHz, so that nothing is raised for nothing.
    usual = {*_USUAL_RATES_HZ, *(rate for rate in known if 4000 <= rate < 16000)}
    fit = [rate for rate in usual if 2 * sum(s for own, s in known.items() if own >= rate) >= total_s]
    return Choice("features.sample_rate_hz", max(fit, default=16000), f"rates of the recordings: {shares}")


def _size(hours: float) -> Iterator[Choice]:
    size = size_for(hours)
    given = f"{hours_of(hours)} of audio to train on"
    yield Choice("model.layers", size.layers, given)
    yield Choice("model.hidden_size", size.hidden_size, f"{given}; {size.million_parameters:g} million parameters")
    yield Choice("training.epochs", size.epochs, f"{given}; about {steps_of(hours):,} steps in all")
    steps = steps_of(hours) // size.epochs
    an_epoch = f"about {steps:,} step{'' if steps == 1 else 's'} an epoch"
    yield Choice("training.batch_s", size.batch_s, f"{given}; {an_epoch}")
    if size.batch_s > MICRO_BATCH_S:
        yield Choice("training.micro_batch_s", MICRO_BATCH_S, "memory: a pass takes no more audio than this")
    if hours > NOISE_FROM_H:
        yield Choice("augment.noise_share", 0.3, f"{given}: enough to learn noise that the recordings lack")
        yield Choice("augment.reverb_share", 0.15, f"{given}: enough to learn rooms that the recordings lack")
    else:
        yield Choice("augment.noise_share", 0.0, f"{hours_of(hours)} is too little to learn noise too")


def size_for(hours: float) -> Size:
    """Return the row of the table for so many hours of audio in train."""
    return next(size for size in SIZES if hours <= size.up_to_h)


def steps_of(hours: float) -> int:
    """Return the number of optimiser steps of the run for so many hours, all epochs together."""
    size = size_for(hours)
    return size.epochs * max(1, round(3600 * hours / size.batch_s))


def _subsampling(audio: AudioFacts) -> Choice:
    share = audio.too_fast_at_4 / len(audio.usable_s)
    spoken = f"with 4, {audio.too_fast_at_4:,} of {len(audio.usable_s):,} utterances have too few frames for their text"
    return Choice("model.subsampling", 2 if share > 0.01 else 4, spoken)


def _max_utterance(audio: AudioFacts) -> Choice:
    lengths_s = sorted(audio.usable_s)
    default_s = Config().training.max_utterance_s
    longer = sum(length > default_s for length in lengths_s)
    longest = f"the longest utterance has {lengths_s[-1]:.1f} s"
    if 100 * longer <= len(lengths_s):
        left_out = f"; {longer:,} are left out" if longer else ""
        return Choice("training.max_utterance_s", default_s, longest + left_out)
    most_s = min(_MOST_UTTERANCE_S, math.ceil(lengths_s[-1 - len(lengths_s) // 100] / 10) * 10.0)
    longest_left = sum(length > most_s for length in lengths_s)
    left_out = f"; {longest_left:,} are left out" if longest_left else ""
    return Choice("training.max_utterance_s", most_s, f"{longer:,} have more than {default_s:g} s; {longest}{left_out}")
