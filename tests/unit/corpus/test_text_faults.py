"""What is said of transcripts, in cases worked by hand."""

import numpy as np
import pytest

from asr.config import TextSettings
from asr.corpus.text_faults import examine_text, length_faults
from asr.text.normalise import normalise


def kinds(text, **settings):
    chosen = TextSettings(**settings)
    return [fault.kind for fault in examine_text(text, normalise(text, chosen), chosen)]


@pytest.mark.parametrize(
    "text",
    [
        "don't stop",
        "ÇA VA ÊTRE ÇA",
        "Schöne Grüße aus Österreich",
        "съешь же ещё этих мягких французских булок",
        "я купил iPhone и CD",  # Latin words in a Cyrillic sentence
        "我用iPhone打电话",
        "東京タワーへ行きました",
        "می‌خواهم",  # with the joiner that Persian spelling asks for
        "ক্‍ষ",
        "น้ำ",  # ends in a letter with a compatibility decomposition
        "γειά σου Κόσμε",
    ],
)
def test_what_people_write_is_not_accused(text):
    assert kinds(text) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("c\u0430t", "look-alike"),  # Cyrillic а
        ("\u039fne", "look-alike"),  # Greek Omicron
        ("мост\u0061", "look-alike"),  # Latin a
        ("what \u0430 day", "look-alike"),  # Cyrillic а as a word
        ("vitamin \u03b2", None),  # Greek β, which looks like no Latin letter
        ("o\ufb03ce", None),  # a ligature, which Unicode calls compatible
        ("zero\u200bwidth", "invisible-character"),
        ("soft\u00adhyphen", "invisible-character"),
        ("\u200fright to left", "invisible-character"),
        ("\ufeffmark", "invisible-character"),
        ("cafe\u0301", "mixed-unicode"),
        ("Ã©tÃ©", "broken-encoding"),
        ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "broken-encoding"),
        ("na\ufffdve", "broken-encoding"),
        ("agent 007", "digits"),
        ("\u0664\u0662 kilos", "digits"),
        ("well [laughs] yes", "annotation"),
        ("well <unk> yes", "annotation"),
    ],
)
def test_each_fault_of_a_text_has_its_name(text, kind):
    assert kinds(text) == ([kind] if kind else [])


def test_what_normalising_removes_is_no_fault():
    assert kinds("\uff41bc") == []  # full-width a
    assert kinds("\uff41bc", clean=False) == ["look-alike"]
    assert kinds("agent 007", remove="07") == []
    assert kinds("see [1]", remove="punctuation") == ["annotation", "digits"]
    assert kinds("see [...]", remove="punctuation") == []


@pytest.mark.parametrize(
    ("clean", "fate"), [(True, "is deleted when it is normalised"), (False, "stays in what is learnt")]
)
def test_what_becomes_of_an_invisible_character_is_told(clean, fate):
    settings = TextSettings(clean=clean)
    text = "zero\u200bwidth"
    (fault,) = examine_text(text, normalise(text, settings), settings)
    assert fault.reason == f"it holds U+200B ZERO WIDTH SPACE, which {fate}"


def test_the_letters_of_another_script_are_named_by_unicode():
    settings = TextSettings()
    (fault,) = examine_text("a c\u0430t", "a c\u0430t", settings)
    assert "\u0430 is CYRILLIC SMALL LETTER A" in fault.reason
    assert fault.value == 1


def test_lengths_are_judged_by_the_corpus_itself(rng):
    words = rng.integers(1, 12, 400)
    letters = words * rng.integers(3, 8, 400)
    seconds = (0.3 + 0.05 * letters + 0.1 * words) * rng.uniform(0.8, 1.25, 400)
    assert length_faults(letters, words, seconds) == {}
    seconds[7] *= 5
    seconds[11] /= 5
    letters[13] = words[13] = 0  # without a transcript nothing can be said
    found = length_faults(letters, words, seconds)
    assert {place: fault.kind for place, fault in found.items()} == {
        7: "transcript-too-short",
        11: "transcript-too-long",
    }
    assert found[7].value == pytest.approx(5, rel=0.3)


def test_spelled_words_are_not_too_short_for_their_audio(rng):
    words = rng.integers(2, 12, 400)
    spelled = rng.random(400) < 0.3
    letters = np.where(spelled, words, 6 * words)
    seconds = (0.2 + 0.35 * words + 0.01 * letters) * rng.uniform(0.8, 1.25, 400)
    assert length_faults(letters, words, seconds) == {}
    # By letters alone, spelled words would take five times as long as others.
    assert np.median(seconds[spelled] / letters[spelled]) > 4 * np.median(seconds[~spelled] / letters[~spelled])


def test_a_few_utterances_tell_nothing_about_what_is_usual():
    assert length_faults([10] * 20, [2] * 20, [1.0] * 19 + [50.0]) == {}
