"""The quickstart corpus: synthetic speech that is the same for the same seed, with word times that fit the sound."""

import importlib.util
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import SPLITS, cut_speaker, cut_text, read_manifest
from asr.errors import AsrError
from asr.preparing.recipes import CorpusRequest, recipes_folder

pytest.importorskip("espeakng_loader", reason="the speech engine is not installed: pip install '.[quickstart]'")

FOLDER = recipes_folder() / "quickstart"
UTTERANCES = {"train": 24, "dev": 6, "test": 12}


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("quickstart_prepare", FOLDER / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def corpus(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    recipe.prepare(CorpusRequest(folder, folder, 3), utterances=UTTERANCES)
    return folder


@pytest.fixture(scope="module")
def cuts(corpus):
    return {split: list(read_manifest(corpus / f"{split}.jsonl.gz")) for split in SPLITS}


def every(cuts):
    return [cut for split in SPLITS for cut in cuts[split]]


def word_times(cut):
    return cut.supervisions[0].alignment["word"]


def audio_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted((folder / "audio").rglob("*.wav"))}


def test_each_split_has_all_its_utterances(cuts):
    assert {split: len(cuts[split]) for split in SPLITS} == UTTERANCES


def test_audio_is_16_khz_mono_and_lasts_as_long_as_speech_with_silence_around_it(cuts):
    for cut in every(cuts):
        assert (cut.sampling_rate, cut.num_channels) == (16000, 1)
        assert 0.7 < cut.duration < 6


def test_the_same_seed_gives_the_same_audio_in_the_same_process(recipe, corpus, tmp_path):
    recipe.prepare(CorpusRequest(tmp_path, tmp_path, 3), utterances=UTTERANCES)
    assert audio_bytes(tmp_path) == audio_bytes(corpus)


def test_a_splits_audio_does_not_depend_on_the_size_of_another(recipe, corpus, tmp_path):
    recipe.prepare(CorpusRequest(tmp_path, tmp_path, 3), utterances={**UTTERANCES, "train": 2})
    before, after = audio_bytes(corpus), audio_bytes(tmp_path)
    assert {name: after[name] for name in after} == {name: before[name] for name in after}


def test_another_seed_gives_other_audio(recipe, corpus, tmp_path):
    recipe.prepare(CorpusRequest(tmp_path, tmp_path, 4), utterances=UTTERANCES)
    assert set(audio_bytes(tmp_path).values()).isdisjoint(audio_bytes(corpus).values())


def test_a_corpus_that_stands_is_left_alone_and_one_of_other_arguments_is_made_anew(recipe, tmp_path):
    sizes = {"train": 2, "dev": 1, "test": 1}
    recipe.prepare(CorpusRequest(tmp_path, tmp_path, 1), utterances=sizes)
    first = (tmp_path / "train.jsonl.gz").stat().st_mtime_ns
    (note,) = recipe.prepare(CorpusRequest(tmp_path, tmp_path, 1), utterances=sizes)
    assert (tmp_path / "train.jsonl.gz").stat().st_mtime_ns == first
    assert "stands already" in note
    recipe.prepare(CorpusRequest(tmp_path, tmp_path, 2), utterances=sizes)
    assert (tmp_path / "train.jsonl.gz").stat().st_mtime_ns != first


def test_an_interrupted_corpus_is_made_anew(recipe, tmp_path):
    sizes = {"train": 2, "dev": 1, "test": 1}
    recipe.prepare(CorpusRequest(tmp_path, tmp_path, 1), utterances=sizes)
    (tmp_path / "test.jsonl.gz").unlink()
    recipe.prepare(CorpusRequest(tmp_path, tmp_path, 1), utterances=sizes)
    assert len(list(read_manifest(tmp_path / "test.jsonl.gz"))) == 1


def test_what_is_reported_calls_it_synthetic(recipe, tmp_path):
    lines = recipe.prepare(CorpusRequest(tmp_path, tmp_path, 1), utterances={"train": 2, "dev": 1, "test": 1})
    assert len(lines) == 3
    assert all("synthetic speech" in line for line in lines)


def test_voices_of_the_splits_are_disjoint_down_to_the_variant(cuts):
    variants = {split: {cut_speaker(cut).split("+")[1] for cut in cuts[split]} for split in SPLITS}
    assert variants["train"].isdisjoint(variants["dev"] | variants["test"])
    assert variants["dev"].isdisjoint(variants["test"])


def test_there_is_one_time_for_each_word(cuts):
    for cut in every(cuts):
        assert [item.symbol for item in word_times(cut)] == cut_text(cut).split()


def test_word_times_increase_and_lie_inside_the_audio_between_the_pads(cuts):
    for cut in every(cuts):
        times = word_times(cut)
        assert times[0].start >= 0.1
        assert times[-1].end <= cut.duration - 0.1 + 0.002
        assert all(item.duration > 0.02 for item in times)
        for item, following in pairwise(times):
            assert item.end == pytest.approx(following.start)


def test_every_word_is_louder_than_the_silence_around_the_speech(cuts):
    def rms(samples):
        return np.sqrt(np.mean(np.square(samples, dtype=np.float64)))

    for cut in every(cuts):
        waveform = load_cut(cut, 16000)
        edges = [round(item.start * 16000) for item in word_times(cut)]
        edges.append(round(word_times(cut)[-1].end * 16000))
        silence = max(rms(waveform[: edges[0]]), rms(waveform[edges[-1] + 160 :]))
        for start, end in pairwise(edges):
            assert rms(waveform[start:end]) > 1.2 * silence, cut.id


def test_speech_begins_where_the_first_word_is_said_to_begin(cuts):
    """Moving the times by 0.1 s either way would fail: the first loud moment is within 80 ms of the first word."""
    delays_s = []
    for cut in every(cuts):
        waveform = load_cut(cut, 16000)
        frames = waveform[: len(waveform) // 160 * 160].reshape(-1, 160)
        rms = np.sqrt(np.mean(frames.astype(np.float64) ** 2, axis=1))
        floor = rms[:10].max()  # the first 0.1 s are never speech
        delays_s.append(np.argmax(rms > 2 * floor) * 0.01 - word_times(cut)[0].start)
    assert -0.02 < np.median(delays_s) < 0.08


def test_without_the_engine_the_error_says_what_to_install(recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(AsrError, match=r"pip install 'asr\[quickstart\]'"):
        recipe.prepare(CorpusRequest(tmp_path, tmp_path / "none"))
    assert not Path(tmp_path / "none").exists()
