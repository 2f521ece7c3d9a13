"""The LibriSpeech recipe: three parts in the published layout, two test sets, and the published word n-gram."""

import gzip

import numpy as np
import pytest
import soundfile
import torchaudio.datasets.librispeech as torchaudio_librispeech
from lhotse.recipes.librispeech import prepare_librispeech

from asr.corpus.manifest import cut_speaker, cut_text, read_manifest
from asr.errors import ManifestError
from asr.preparing.recipes import CorpusRequest, load_recipe, recipes_folder, settings_file
from asr.settings_file import load_config

recipe = load_recipe("librispeech", recipes_folder())
prepare = recipe.prepare
MINI = ("train-clean-5", "dev-clean-2")
FULL = ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other", "test-clean", "test-other")
NGRAM = "3-gram.pruned.1e-7.arpa.gz"


def make_corpus(folder, sets, speakers=10):
    """Write sets in the published layout: SET/SPEAKER/CHAPTER/*.flac and a .trans.txt for each chapter."""
    for number, name in enumerate(sets):
        for speaker in range(100 * (number + 1), 100 * (number + 1) + speakers):
            chapter = folder / "LibriSpeech" / name / str(speaker) / "7"
            chapter.mkdir(parents=True)
            lines = []
            for utterance in range(2):
                id = f"{speaker}-7-{utterance:04}"
                soundfile.write(chapter / f"{id}.flac", np.zeros(1600), 16000)
                lines.append(f"{id} {name.upper()} SAYS IT'S {utterance}")
            (chapter / f"{speaker}-7.trans.txt").write_text("\n".join(lines) + "\n")
    return folder


def read(out, splits=("train", "dev", "test")):
    return {split: list(read_manifest(out / f"{split}.jsonl.gz")) for split in splits}


@pytest.mark.parametrize("part", ["100", "960"])
def test_a_part_has_the_published_sets_and_a_second_test_set_in_a_folder_of_its_own(tmp_path, part):
    make_corpus(tmp_path / "corpus", FULL, speakers=1)
    notes = list(prepare(CorpusRequest(tmp_path / "corpus", tmp_path / "out", part=part)))
    cuts = read(tmp_path / "out")
    texts = {split: {cut_text(cut).split()[0] for cut in of} for split, of in cuts.items()}
    train = {"TRAIN-CLEAN-100", "TRAIN-CLEAN-360", "TRAIN-OTHER-500"} if part == "960" else {"TRAIN-CLEAN-100"}
    assert texts == {"train": train, "dev": {"DEV-CLEAN", "DEV-OTHER"}, "test": {"TEST-CLEAN"}}
    other = read(tmp_path / "out" / "test-other", ["test"])["test"]
    assert {cut_text(cut).split()[0] for cut in other} == {"TEST-OTHER"}
    assert len(other) == 2
    assert "test-other: test  2 utterances, 1 speaker, 0.00 h" in notes
    assert notes[-1].startswith("word n-gram: that of the training text, because ")


def test_the_small_part_is_tested_on_dev_clean_2_and_its_dev_set_is_whole_training_speakers(tmp_path):
    make_corpus(tmp_path / "corpus", MINI)
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare(CorpusRequest(tmp_path / "corpus", tmp_path / out, seed, part="mini"))
    cuts = read(tmp_path / "a")
    speakers = {split: {cut_speaker(cut) for cut in of} for split, of in cuts.items()}
    assert [len(speakers[split]) for split in ("train", "dev", "test")] == [9, 1, 10]
    assert not speakers["train"] & speakers["dev"]
    assert {cut_text(cut).split()[0] for cut in cuts["test"]} == {"DEV-CLEAN-2"}
    dev = {out: (tmp_path / out / "dev.jsonl.gz").read_bytes() for out in "abc"}
    assert dev["a"] == dev["b"] != dev["c"]
    assert not (tmp_path / "a" / "test-other").exists()


def test_lhotses_preparation_finds_the_same_utterances(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", FULL, speakers=2)
    prepare(CorpusRequest(corpus, tmp_path / "out", part="960"))
    theirs = prepare_librispeech(corpus / "LibriSpeech", dataset_parts=FULL)
    cuts = read(tmp_path / "out") | {"other": read(tmp_path / "out" / "test-other", ["test"])["test"]}
    found = {(cut.id, cut_speaker(cut), cut_text(cut), cut.duration) for of in cuts.values() for cut in of}
    assert found == {
        (one.id, one.speaker, one.text, one.duration) for part in theirs.values() for one in part["supervisions"]
    }


def test_the_published_ngram_goes_beside_the_manifests_and_leaves_with_it(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", MINI)
    arpa = gzip.compress(b"an n-gram")
    (corpus / NGRAM).write_bytes(arpa)
    request = CorpusRequest(corpus, tmp_path / "out", part="mini")
    assert list(prepare(request))[-1] == f"word n-gram: {NGRAM}"
    assert (tmp_path / "out" / "lm.words.arpa.gz").read_bytes() == arpa
    (corpus / NGRAM).unlink()
    prepare(request)
    assert not (tmp_path / "out" / "lm.words.arpa.gz").exists()


def test_the_checksums_are_those_of_torchaudio():
    published = torchaudio_librispeech._CHECKSUMS
    files = {file.name: file for part in recipe.corpus.parts.values() for file in part}
    assert {name.removesuffix(".tar.gz") for name in files} == {*MINI, *FULL}
    for url, checksum in published.items():
        file = files[url.rpartition("/")[2]]
        assert file.checksum == f"sha256:{checksum}"
        assert file.url.removeprefix("https") == url.removeprefix("http")
    assert [file.name for file in recipe.files("mini")] == [NGRAM, *(f"{name}.tar.gz" for name in MINI)]


@pytest.mark.parametrize("part", ["mini", "100", "960"])
def test_each_part_has_settings_that_write_as_the_ngram_does(part):
    config = load_config(settings_file("librispeech", part), [])
    assert (config.text.case, config.decode.lm) == ("upper", "words")


def test_a_missing_corpus_or_set_is_an_error_that_says_where_to_get_it(tmp_path):
    with pytest.raises(ManifestError, match=r"no LibriSpeech corpus at .*; --download gets it; .*openslr\.org/12"):
        prepare(CorpusRequest(tmp_path, tmp_path / "out", part="mini"))
    corpus = make_corpus(tmp_path / "corpus", MINI[:1])
    with pytest.raises(ManifestError, match=r"LibriSpeech: no dev-clean-2, which the part mini needs"):
        prepare(CorpusRequest(corpus, tmp_path / "out", part="mini"))
    recording = next(corpus.rglob("*.flac"))
    make_corpus(tmp_path / "other", MINI)
    (tmp_path / "other/LibriSpeech/dev-clean-2").rename(corpus / "LibriSpeech/dev-clean-2")
    recording.unlink()
    with pytest.raises(ManifestError, match=rf"1 utterance cannot be used, .*trans\.txt:\d+: .*{recording.name}"):
        prepare(CorpusRequest(corpus, tmp_path / "out", part="mini"))
