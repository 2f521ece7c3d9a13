"""Planted faults of every kind are found, each under its name, and no sound utterance is accused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from planting import PLANTS, WITH_MODEL, Corpus, Said, plant

import asr
from asr.corpus.findings import KINDS

EACH = 3
WORDS = ["la", "mono", "pita", "ke", "surano", "tel", "bodimo", "ax", "recapo", "nu"]


def spoken(text, rng, rate_hz=16000):
    """Each letter a voiced sound of its own colour, at a pitch and a pace that change from time to time."""
    pitch_hz, pace = rng.uniform(90, 220), rng.uniform(0.9, 1.15)
    pieces = [np.zeros(round(rng.uniform(0.1, 0.3) * rate_hz))]
    for letter in text:
        time_s = np.arange(round(0.08 * pace * rng.uniform(0.8, 1.2) * rate_hz)) / rate_hz
        if letter == " ":
            pieces.append(0 * time_s)
            continue
        colour_hz = 400 + 2300 * (ord(letter) * 37 % 26) / 26
        partials = np.arange(1, int(3800 / pitch_hz))
        loudness = np.exp(-np.square((partials * pitch_hz - colour_hz) / 500)) + 0.05
        phases = 2 * np.pi * pitch_hz * rng.uniform(0.95, 1.05) * np.outer(time_s, partials) + rng.uniform(0, 6)
        pieces.append(np.sin(phases) @ loudness * np.hanning(len(time_s)) * rng.uniform(0.5, 1))
    speech = np.concatenate([*pieces, np.zeros(round(rng.uniform(0.1, 0.3) * rate_hz))])
    noise = 10 ** rng.uniform(-3.5, -2.5) * rng.standard_normal(len(speech))
    return (rng.uniform(0.1, 0.6) * speech / np.abs(speech).max() + noise).astype(np.float32)


def said(name, speaker, rng):
    text = " ".join(rng.choice(WORDS, rng.integers(2, 9)))
    return Said(name, spoken(text, rng), 16000, text, speaker)


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """A corpus with planted faults, what was planted, and the report on it."""
    rng = np.random.default_rng(3)
    train = [said(f"train-{place}", f"s{place % 12}", rng) for place in range(260)]
    test = [said(f"test-{place}", f"t{place % 5}", rng) for place in range(60)]
    corpus = Corpus({"train": train, "test": test}, rng)
    planted = [plant(kind, corpus) for _ in range(EACH) for kind in PLANTS if kind not in WITH_MODEL]
    folder = tmp_path_factory.mktemp("planted")
    corpus.write(folder / "data")
    report = asr.check(folder / "data", out=folder / "sound", jobs=1)
    return SimpleNamespace(corpus=corpus, planted=planted, folder=folder, report=report)


@pytest.mark.parametrize("kind", [kind for kind in PLANTS if kind not in WITH_MODEL])
def test_each_planted_fault_is_found_under_its_name(checked, kind):
    planted = {(one.split, one.name) for one in checked.planted if one.kind == kind}
    found = {(one.split, one.name) for one in checked.report.findings if one.kind == kind}
    assert planted
    assert planted - found == set()


def test_no_sound_utterance_is_accused(checked):
    sound = {one.id for split in checked.corpus.splits.values() for one in split} - checked.corpus.touched
    assert len(sound) > 120
    assert [finding for finding in checked.report.findings if finding.name in sound] == []


def test_every_kind_that_is_planted_is_known_and_most_known_kinds_are_planted():
    assert PLANTS.keys() <= KINDS.keys()
    # The others are about whole corpora, and tested in test_corpus_check.py.
    assert KINDS.keys() - PLANTS.keys() == {"no-spaces", "low-rate", "duplicate-text", "one-speaker"}


def test_the_manifests_that_are_written_hold_no_error_or_warning_but_what_test_keeps(checked):
    assert checked.report.written.keys() == {"train", "test"}
    again = asr.check(checked.folder / "sound", jobs=1)
    bad = [one for one in again.findings if one.severity != "note" and one.place is not None and not one.stays]
    assert bad == []
    assert again.splits["train"].utterances == 260 + EACH - len(checked.report.left_out("train"))


def test_several_processes_find_the_same(checked, monkeypatch):
    monkeypatch.setattr("asr.corpus.check._SHARED_FROM", 1)
    assert asr.check(checked.folder / "data", jobs=2) == replace(checked.report, written={})
