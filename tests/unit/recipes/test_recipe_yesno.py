"""The yesno recipe: icefall's halves, dev out of the training half, words from file names."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import cut_text, read_manifest
from asr.errors import ManifestError
from asr.preparing.recipes import CorpusRequest, load_recipe, recipes_folder

prepare = load_recipe("yesno", recipes_folder()).prepare


@pytest.fixture
def corpus(tmp_path):
    """Sixty recordings of 0.1 s with yesno's names, and the corpus's README beside them."""
    folder = tmp_path / "yesno" / "waves_yesno"
    folder.mkdir(parents=True)
    for digits in itertools.islice(itertools.product("01", repeat=8), 60):
        soundfile.write(folder / f"{'_'.join(digits)}.wav", np.zeros(800), 8000)
    (folder / "README").touch()
    return tmp_path / "yesno"


def read(out):
    return {split: list(read_manifest(out / f"{split}.jsonl.gz")) for split in ("train", "dev", "test")}


def test_every_other_recording_is_for_testing(corpus, tmp_path):
    prepare(CorpusRequest(corpus, tmp_path / "out", 0))
    cuts = read(tmp_path / "out")
    assert {split: len(of) for split, of in cuts.items()} == {"train": 24, "dev": 6, "test": 30}
    ids = sorted(path.stem for path in (corpus / "waves_yesno").glob("*.wav"))
    assert [cut.id for cut in cuts["test"]] == ids[1::2]
    assert sorted(cut.id for cut in cuts["train"] + cuts["dev"]) == ids[::2]


def test_digits_become_words(corpus, tmp_path):
    prepare(CorpusRequest(corpus, tmp_path / "out", 0))
    texts = {cut.id: cut_text(cut) for of in read(tmp_path / "out").values() for cut in of}
    assert texts["0_0_1_0_1_1_0_1"] == "no no yes no yes yes no yes"


def test_the_folder_of_recordings_itself_will_do(corpus, tmp_path):
    prepare(CorpusRequest(corpus, tmp_path / "a", 0))
    prepare(CorpusRequest(corpus / "waves_yesno", tmp_path / "b", 0))
    assert read(tmp_path / "a") == read(tmp_path / "b")


def test_a_missing_or_incomplete_corpus_is_an_error_that_says_where_to_get_it(corpus, tmp_path):
    with pytest.raises(ManifestError, match=r"no yesno corpus .*OpenSLR, resource 1"):
        prepare(CorpusRequest(Path("nowhere"), tmp_path / "out", 0))
    next((corpus / "waves_yesno").glob("*.wav")).unlink()
    with pytest.raises(ManifestError, match=r"59 yesno recordings instead of 60; --download gets it; or get .*OpenSLR"):
        prepare(CorpusRequest(corpus, tmp_path / "out", 0))


@pytest.mark.corpus
def test_the_real_corpus_is_split_as_lhotse_does(yesno_dir, tmp_path):
    from lhotse.recipes import prepare_yesno

    theirs = prepare_yesno(yesno_dir / "waves_yesno")
    prepare(CorpusRequest(yesno_dir, tmp_path, 0))
    cuts = read(tmp_path)
    for ours, name in ((cuts["train"] + cuts["dev"], "train"), (cuts["test"], "test")):
        expected = {segment.id: segment.text.lower() for segment in theirs[name]["supervisions"]}
        assert {cut.id: cut_text(cut) for cut in ours} == expected
