"""The speechocean762 recipe: the published test set, and dev of whole speakers of each sex and age."""

from collections import Counter

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import cut_speaker, cut_text, read_manifest
from asr.errors import ManifestError
from asr.preparing.recipes import CorpusRequest, load_recipe, recipes_folder

prepare = load_recipe("speechocean762", recipes_folder()).prepare
SPLITS = ("train", "dev", "test")
GROUPS = [(sex, age) for sex in "fm" for age in (6, 15, 19, 43)]


def make_corpus(folder, speakers_of_a_group=3):
    """Write a corpus in the published layout: Kaldi's folders with paths relative to the corpus, audio in WAVE/."""
    speakers = [(sex, age) for sex, age in GROUPS for _ in range(speakers_of_a_group)]
    for number, part in enumerate(("train", "test")):
        lists = {name: [] for name in ("wav.scp", "text", "utt2spk", "spk2age", "spk2gender")}
        for index, (sex, age) in enumerate(speakers):
            speaker = f"{number}{index:03}"
            lists["spk2age"].append(f"{speaker}\t{age}")
            lists["spk2gender"].append(f"{speaker}\t{sex}")
            (folder / "WAVE" / f"SPEAKER{speaker}").mkdir(parents=True)
            for utterance in range(2):
                id = f"0{speaker}{utterance:04}"
                path = f"WAVE/SPEAKER{speaker}/{id}.WAV"
                soundfile.write(folder / path, np.zeros(1600), 16000, subtype="PCM_16", format="WAV")
                lists["wav.scp"].append(f"{id}\t{path}")
                lists["text"].append(f"{id}\tWE CALL IT {part.upper()}")
                lists["utt2spk"].append(f"{id} {speaker}")
        (folder / part).mkdir()
        for name, lines in lists.items():
            (folder / part / name).write_text("\n".join(lines) + "\n")
    return folder


def read(out):
    return {split: list(read_manifest(out / f"{split}.jsonl.gz")) for split in SPLITS}


def test_dev_is_four_whole_training_speakers_of_each_sex_and_age(tmp_path):
    corpus = make_corpus(tmp_path / "corpus")
    notes = prepare(CorpusRequest(corpus, tmp_path / "out", 0))
    cuts = read(tmp_path / "out")
    assert {split: len(of) for split, of in cuts.items()} == {"train": 16, "dev": 32, "test": 48}
    assert notes[1] == "dev   32 utterances, 16 speakers, 0.00 h"
    speakers = {split: {cut_speaker(cut) for cut in of} for split, of in cuts.items()}
    assert not speakers["train"] & speakers["dev"]
    lines = (corpus / "train/spk2age").read_text() + (corpus / "test/spk2age").read_text()
    ages = dict(line.split() for line in lines.splitlines())
    sexes = dict(line.split() for line in (corpus / "train/spk2gender").read_text().splitlines())
    groups = Counter((sexes[speaker], int(ages[speaker]) < 16) for speaker in speakers["dev"])
    assert groups == {(sex, child): 4 for sex in "fm" for child in (True, False)}
    assert {split: {cut_text(cut) for cut in of} for split, of in cuts.items()} == {
        "train": {"WE CALL IT TRAIN"},
        "dev": {"WE CALL IT TRAIN"},
        "test": {"WE CALL IT TEST"},
    }


def test_the_seed_decides_who_is_in_dev(tmp_path):
    corpus = make_corpus(tmp_path / "corpus")
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare(CorpusRequest(corpus, tmp_path / out, seed))
    dev = {out: (tmp_path / out / "dev.jsonl.gz").read_bytes() for out in "abc"}
    assert dev["a"] == dev["b"] != dev["c"]


def test_a_missing_corpus_is_an_error_that_says_where_to_get_it(tmp_path):
    with pytest.raises(ManifestError, match=r"no speechocean762 corpus .*jimbozhang/speechocean762.*openslr\.org"):
        prepare(CorpusRequest(tmp_path, tmp_path / "out", 0))
    assert not (tmp_path / "out").exists()


def test_a_fault_of_the_corpus_is_named(tmp_path):
    corpus = make_corpus(tmp_path / "corpus")
    (corpus / "WAVE/SPEAKER1005/010050001.WAV").unlink()
    with pytest.raises(
        ManifestError, match=r"1 utterance cannot be used, .* damaged; .*wav\.scp:\d+: .*010050001\.WAV"
    ):
        prepare(CorpusRequest(corpus, tmp_path / "out", 0))
    ages = corpus / "train/spk2age"
    ages.write_text(ages.read_text().replace("0003\t15", "0003"))
    with pytest.raises(ManifestError, match=r"spk2age:4: expected 'speaker value', found '0003'"):
        prepare(CorpusRequest(corpus, tmp_path / "out", 0))
    ages.write_text(ages.read_text().replace("0003\n", ""))
    with pytest.raises(ManifestError, match=r"spk2age: no age of speaker 0003"):
        prepare(CorpusRequest(corpus, tmp_path / "out", 0))
    small = make_corpus(tmp_path / "small", speakers_of_a_group=2)
    with pytest.raises(ManifestError, match="4 speakers of one sex and age: too few"):
        prepare(CorpusRequest(small, tmp_path / "out", 0))
