"""One corpus in all formats: the manifests have the same utterances, times, texts and, where they can, speakers."""

from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile
from import_formats import LAYOUTS, Spoken, expected, imported

import asr
from asr.audio.sound_file import audio_info, read_audio
from asr.cli.import_ import app
from asr.corpus.manifest import cut_speaker, cut_text, read_manifest

TEXTS = ("yes", "HELLO there", "naïve café", "it's half-past two", "1 2 3", "Привет, мир!", "你好 世界", "a")
TIME_S = 0.01

WITH_PARTS = [name for name, layout in LAYOUTS.items() if layout.has_parts]


def assert_same(found, wanted):
    plain = [one._replace(start_s=0, end_s=0) for one in found]
    assert plain == [one._replace(start_s=0, end_s=0) for one in wanted]
    times = np.array([[one.start_s, one.end_s] for one in found])
    np.testing.assert_allclose(times, [[one.start_s, one.end_s] for one in wanted], rtol=0, atol=TIME_S)


def joined(corpus, folder):
    """Return the corpus with each speaker's utterances joined in one recording, with pauses between them."""
    folder.mkdir()
    parts = []
    order = sorted(corpus, key=lambda one: (one.split, one.speaker, one.id))
    for (split, speaker), spoken in groupby(order, lambda one: (one.split, one.speaker)):
        path = folder / f"{split}-{speaker}.wav"
        pieces, place = [np.zeros(4000)], 4000
        for one in spoken:
            samples, rate = read_audio(one.audio)
            parts.append(one._replace(audio=path, start_s=place / rate, end_s=(place + samples.shape[1]) / rate))
            pieces += [samples[0], np.zeros(4000 + 37 * len(pieces))]
            place += samples.shape[1] + len(pieces[-1])
        soundfile.write(path, np.concatenate(pieces), rate)
    return parts


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Utterances of six speakers, each a file."""
    folder, rng, found = tmp_path_factory.mktemp("audio"), np.random.default_rng(1), []
    for number in range(24):
        split = ("train", "train", "dev", "test")[number % 4]
        path = folder / f"utt-{number:02}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, int(rng.integers(4000, 20000))), 16000)
        spoken = Spoken(path.stem, path, 0.0, audio_info(path).duration_s, TEXTS[number % len(TEXTS)], "", split)
        found.append(spoken._replace(speaker=f"{split}{number % 8 // 4}"))
    return found


@pytest.fixture(scope="module")
def recordings(corpus, tmp_path_factory):
    return joined(corpus, tmp_path_factory.mktemp("joined") / "audio")


def test_every_format_is_compared():
    assert {command.name for command in app.registered_commands} == set(LAYOUTS)
    assert len(LAYOUTS) >= 10
    assert len(WITH_PARTS) >= 7


@pytest.mark.parametrize("format", LAYOUTS)
def test_utterances_that_are_files_are_the_same_in_every_format(corpus, tmp_path, format):
    assert_same(imported(LAYOUTS[format], corpus, tmp_path), expected(LAYOUTS[format], corpus))


@pytest.mark.parametrize("format", WITH_PARTS)
def test_utterances_that_are_parts_of_recordings_are_the_same_in_every_format(recordings, tmp_path, format):
    assert_same(imported(LAYOUTS[format], recordings, tmp_path), expected(LAYOUTS[format], recordings))


@pytest.fixture(scope="module")
def an4(an4_dir, tmp_path_factory):
    """The whole of AN4."""
    data = tmp_path_factory.mktemp("an4")
    asr.prepare("an4", data, corpus_dir=an4_dir)
    found = []
    for split in ("train", "dev", "test"):
        for cut in read_manifest(data / f"{split}.jsonl.gz"):
            audio = Path(cut.recording.sources[0].source).resolve()
            found.append(Spoken(cut.id, audio, 0.0, cut.duration, cut_text(cut), cut_speaker(cut), split))
    return found


@pytest.mark.corpus
@pytest.mark.parametrize("format", LAYOUTS)
def test_an4_is_the_same_in_every_format(an4, tmp_path, format):
    assert len(an4) == 1078
    assert_same(imported(LAYOUTS[format], an4, tmp_path), expected(LAYOUTS[format], an4))


@pytest.mark.corpus
def test_an4_joined_by_speaker_is_the_same_in_every_format_with_parts(an4, tmp_path):
    parts = joined(an4, tmp_path / "audio")
    for format in WITH_PARTS:
        assert_same(imported(LAYOUTS[format], parts, tmp_path / format), expected(LAYOUTS[format], parts))
