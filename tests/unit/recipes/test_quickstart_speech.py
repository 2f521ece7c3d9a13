"""The parts of the quickstart recipe: its sentences, its voices, its engine."""

import importlib
import sys

import numpy as np
import pytest

from asr.errors import AsrError
from asr.preparing.recipes import recipes_folder

pytest.importorskip("espeakng_loader", reason="the speech engine is not installed: pip install '.[quickstart]'")

sys.path.insert(0, str(recipes_folder() / "quickstart"))
grammar = importlib.import_module("quickstart_grammar")
sound = importlib.import_module("quickstart_sound")
speech = importlib.import_module("quickstart_speech")
voices = importlib.import_module("quickstart_voices")

NORMAL = {"words_per_minute": 170, "pitch": 50, "pitch_range": 50}


@pytest.fixture(scope="module")
def engine():
    return speech.SpeechEngine(seed=1)


def test_the_vocabulary_is_small_and_all_of_it_is_said():
    rng = np.random.default_rng(0)
    said = {word for _ in range(4000) for word in grammar.draw_sentence(rng)}
    assert said == grammar.VOCABULARY
    assert 60 <= len(said) <= 120


def test_sentences_depend_only_on_the_generator():
    draws = [[grammar.draw_sentence(np.random.default_rng((5, index))) for index in range(20)] for _ in range(2)]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) > 15


def test_at_least_40_voices_load_in_train_and_test_has_many_others_of_other_families():
    splits = voices.split_variants(voices.usable_variants(), seed=0)
    assert len(voices.usable_voices(splits["train"])) >= 40
    assert min(len(voices.usable_voices(splits[split])) for split in ("dev", "test")) >= 20
    together = [variant for variants in splits.values() for variant in variants]
    assert sorted(together) == sorted(voices.usable_variants())
    family_of = {v: v.rstrip("0123456789") for v in together if len(v.rstrip("0123456789")) > 1}
    families = {split: {family_of.get(v, v) for v in variants} for split, variants in splits.items()}
    assert sum(map(len, families.values())) == len(set().union(*families.values()))


def test_an_accent_that_the_engine_does_not_know_gives_no_voices(engine, monkeypatch):
    assert not engine.has_voice("en-nowhere")
    monkeypatch.setattr(voices, "ACCENTS", ("en-nowhere", "en-us"))
    assert voices.usable_voices(["f3", "m1"]) == ("en-us+f3", "en-us+m1")


def test_every_voice_sounds_different(engine):
    variants = voices.usable_variants()
    spoken = {engine.speak(["alarm"], f"en-us+{v}", **NORMAL).waveform.tobytes() for v in variants}
    assert len(spoken) == len(variants)


@pytest.mark.parametrize("accent", ["en-us", "en-gb-scotland", "en-029"])
def test_the_engine_times_each_word_of_every_pair_of_words(engine, accent):
    """It fuses frequent pairs such as "in the" when they are written out; none of the grammar's may be fused."""
    words = sorted(grammar.VOCABULARY - set(grammar.LETTERS))
    rng = np.random.default_rng(0)
    pairs = [("in", "the"), ("on", "the"), ("for", "ten"), ("of", "may"), ("spell", "a")]
    pairs += [tuple(rng.choice(words, 2)) for _ in range(300)]
    for pair in pairs:
        starts_s = engine.speak(pair, f"{accent}+m3", **NORMAL).word_starts_s
        assert len(starts_s) == 2, pair


def test_the_letter_a_is_spoken_as_a_letter(engine):
    """The letter is a diphthong of about 0.13 s here, the article "a" a short vowel of less than 0.08 s."""
    starts_s = engine.speak(["b", "a", "t"], "en-us+m3", **NORMAL).word_starts_s
    assert starts_s[2] - starts_s[1] > 0.1


def test_a_faster_rate_is_shorter_and_a_higher_pitch_is_higher(engine):
    def speak(**changes):
        return engine.speak(["remind", "me", "on", "may", "ninth"], "en-us+m3", **{**NORMAL, **changes})

    assert speak(words_per_minute=200).end_s < 0.9 * speak(words_per_minute=140).end_s
    assert fundamental_hz(speak(pitch=70)) > 1.15 * fundamental_hz(speak(pitch=30))


def fundamental_hz(spoken):
    """The lag of the highest peak of the autocorrelation between 60 and 300 Hz."""
    waveform = spoken.waveform.astype(np.float64)
    power = np.abs(np.fft.rfft(waveform, n=2 * len(waveform))) ** 2
    shortest, longest = (round(spoken.sample_rate_hz / hz) for hz in (300, 60))
    autocorrelation = np.fft.irfft(power)[shortest:longest]
    return spoken.sample_rate_hz / (shortest + int(np.argmax(autocorrelation)))


def test_a_voice_that_cannot_be_set_is_an_error_that_names_it(engine):
    with pytest.raises(AsrError, match="refused voice 'en-nowhere'"):
        engine.speak(["one"], "en-nowhere", **NORMAL)


def test_two_engines_of_one_seed_agree_in_every_variant_and_of_two_seeds_do_not():
    def session(seed):
        engine = speech.SpeechEngine(seed)
        return {v: engine.speak(["stop", "six"], f"en-us+{v}", **NORMAL).waveform.tobytes() for v in variants}

    variants = voices.usable_variants()
    first, again = session(1), session(1)
    assert [v for v in variants if first[v] != again[v]] == []
    assert session(2) != first


def test_noise_is_as_loud_against_the_speech_as_the_ratio_says(monkeypatch):
    monkeypatch.setattr(sound, "SNR_DB", (15.0, 15.0))
    monkeypatch.setattr(sound, "LEVEL_DB", (-20.0, -20.0))
    tone = np.sin(np.arange(32000) * 0.3).astype(np.float32)
    for seed in range(6):  # white and pink
        recorded = sound.record(tone, 16000, np.random.default_rng(seed))
        start = round(recorded.speech_start_s * 16000)
        noise = recorded.waveform.astype(np.float64)
        noise[start : start + 32000] -= 0.1 * np.sqrt(2) * tone
        assert 10 * np.log10(0.01 / np.mean(noise**2)) == pytest.approx(15, abs=0.2)


def test_pink_noise_loses_3_db_an_octave():
    power = np.abs(np.fft.rfft(sound._pink(2**18, np.random.default_rng(0)))) ** 2
    octaves = [power[2**k : 2 ** (k + 1)].mean() for k in range(10, 17)]
    slopes_db = np.diff(10 * np.log10(octaves))
    assert slopes_db == pytest.approx(-3.01, abs=0.3)


def test_a_recording_never_clips():
    click = np.zeros(16000, np.float32)
    click[8000] = 1
    recorded = sound.record(click, 16000, np.random.default_rng(0))
    assert np.abs(recorded.waveform).max() <= 0.99 + 1e-6
