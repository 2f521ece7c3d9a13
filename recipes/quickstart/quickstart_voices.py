"""Which synthetic voices there are, and which of them are heard in train, in dev and in test."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from quickstart_speech import SpeechEngine, variant_names

ACCENTS = ("en-us", "en-us-nyc", "en", "en-gb", "en-gb-x-rp")
EFFECTS = (
    *("whisper", "whisperf", "croak", "UniRobot", "anikaRobot", "Tweaky", "AnxiousAndy"),
    *("robosoft", "robosoft2", "robosoft3", "robosoft4", "robosoft5", "robosoft6", "robosoft7", "robosoft8"),
)
# A recogniser of US English (pocketsphinx 5.1.1, a loop over words of this corpus) got more than three in four of
# their words wrong, without noise; of the others, 9 to 73 %.
UNINTELLIGIBLE = (
    *("Alicia", "Annie", "Demonic", "Jacky", "Lee", "Marco", "Mario", "Michael", "aunty", "boris", "david"),
    *("gustave", "ian", "kaukovalta", "linda", "marcelo", "norbert", "shelby", "travis", "zac"),
    # The first of these by the rule above; in its siblings were most of the dev errors of a model trained without them.
    *("RicishayMax2", "RicishayMax", "RicishayMax3"),
)
# Klatt synthesis with breath: its noise comes from the C library's rand(), which the engine's seed does not set.
NOT_REPRODUCIBLE = ("Reed", "caleb")
# Shares of the families of variants.
_SHARES = {"dev": 0.12, "test": 0.2}


def split_variants(variants: Iterable[str], seed: int) -> dict[str, tuple[str, ...]]:
    """Divide variants into "train", "dev" and "test", with no family in two of them.

    Variants that differ in a number at the end of a name ("iven", "iven2") sound much alike and are one family;
    "f1" … "f5" and "m1" … "m8" are voices of their own.
    """
    families: dict[str, list[str]] = {}
    for variant in sorted(variants):
        base = variant.rstrip("0123456789")
        families.setdefault(base if len(base) > 1 else variant, []).append(variant)
    names = sorted(families)
    np.random.default_rng(seed).shuffle(names)
    first_of_test = round(_SHARES["dev"] * len(names))
    first_of_train = first_of_test + round(_SHARES["test"] * len(names))
    parts = {
        "train": names[first_of_train:],
        "dev": names[:first_of_test],
        "test": names[first_of_test:first_of_train],
    }
    return {split: tuple(v for name in part for v in families[name]) for split, part in parts.items()}


def usable_voices(variants: Iterable[str]) -> tuple[str, ...]:
    """Return the voices (accent + variant) that load; engines differ in which accents they know by name.

    Raises:
        AsrError: the engine is not installed.
    """
    # An engine for nothing else: after many changes of voice without a word, it loses the next word event.
    engine = SpeechEngine(seed=0)
    voices = (f"{accent}+{variant}" for accent in ACCENTS for variant in variants)
    return tuple(voice for voice in voices if engine.has_voice(voice))


def usable_variants() -> tuple[str, ...]:
    """Return the engine's variants that are neither unintelligible nor irreproducible.

    Raises:
        AsrError: the engine is not installed.
    """
    excluded = {*EFFECTS, *UNINTELLIGIBLE, *NOT_REPRODUCIBLE}
    return tuple(name for name in variant_names() if name not in excluded)
