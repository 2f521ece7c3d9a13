"""The TIMIT recipe: 61 labels become 39 phones, dev and test are the usual speakers, dialect sentences are left out."""

import numpy as np
import pytest
import soundfile
from lhotse.recipes.timit import get_phonemes, get_speakers

from asr.corpus.manifest import cut_speaker, cut_text, read_manifest
from asr.errors import ManifestError
from asr.model.ctc import BLANK
from asr.preparing.recipes import CorpusRequest, load_recipe, recipes_folder
from asr.settings_file import load_config
from asr.text.tokens import WordTable

recipe = load_recipe("timit", recipes_folder())
prepare = recipe.prepare
SPLITS = ("train", "dev", "test")
DEV, TEST = map(set, get_speakers())
LABELS = ["h#", "q", "ae", "kcl", "k", "q", "tcl", "pau", "t", "epi", "axr", "zh", "ix", "zh", "sh", "h#"]
PHONES = "sil ae sil k sil t sil er sh ih sh sh sil"  # worked by hand from Lee and Hon's table


def make_corpus(folder, case=str.upper):
    """Write a corpus in the published layout, NIST sphere files named .WAV: two utterances and SA1 of each speaker."""
    speakers = {"train": ["fcjf0", "mdac0"], "test": [*sorted(DEV | TEST), "mabw0"]}
    for part, names in speakers.items():
        for number, speaker in enumerate(names):
            place = folder / case(part) / case(f"dr{number % 8 + 1}") / case(speaker)
            place.mkdir(parents=True)
            for stem in ("sa1", "si943", "sx37"):
                wav = place / case(f"{stem}.wav")
                soundfile.write(wav, np.zeros(16 * 100 * len(LABELS)), 16000, subtype="PCM_16", format="NIST")
                lines = [f"{1600 * at} {1600 * (at + 1)} {label}" for at, label in enumerate(LABELS)]
                (place / case(f"{stem}.phn")).write_text("\n".join(lines) + "\n")
    return folder


def read(out):
    return {split: list(read_manifest(out / f"{split}.jsonl.gz")) for split in SPLITS}


@pytest.mark.parametrize("case", [str.upper, str.lower])
@pytest.mark.parametrize("below", ["", "timit/TIMIT"])
def test_the_splits_are_the_usual_ones_whatever_the_case_of_the_names(tmp_path, case, below):
    make_corpus(tmp_path / "corpus" / below, case)
    notes = list(prepare(CorpusRequest(tmp_path / "corpus", tmp_path / "out")))
    cuts = read(tmp_path / "out")
    speakers = {split: {cut_speaker(cut) for cut in of} for split, of in cuts.items()}
    assert speakers == {"train": {"fcjf0", "mdac0"}, "dev": DEV, "test": TEST}
    assert {split: len(of) for split, of in cuts.items()} == {"train": 4, "dev": 100, "test": 48}
    assert {cut.id for cut in cuts["train"]} == {f"{s}-{u}" for s in ("fcjf0", "mdac0") for u in ("si943", "sx37")}
    assert {cut_text(cut) for of in cuts.values() for cut in of} == {PHONES}
    assert notes[2].startswith("test  48 utterances, 24 speakers")


def test_the_folding_is_that_of_lhotse():
    module = prepare.__globals__
    theirs = {label: phone for label, phone in get_phonemes(39).items() if label not in ("sil", "q")}
    assert module["PHONE_OF"] == theirs
    assert len(set(theirs.values())) == 39
    assert module["DEV"] == DEV
    assert module["CORE_TEST"] == TEST


def test_with_the_recipes_settings_a_phone_is_a_token():
    config = load_config(recipes_folder().parent / "conf" / "timit.yaml", [])
    assert config.text.tokens == "words"
    ids = WordTable.from_texts([PHONES]).encode(PHONES)
    assert len(ids) == 13
    assert BLANK not in ids


def test_a_missing_corpus_is_an_error_that_says_where_to_get_it(tmp_path):
    with pytest.raises(ManifestError, match=r"no TIMIT corpus at .*; buy a licence .*LDC93S1.*--corpus-dir"):
        prepare(CorpusRequest(tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_faults_of_the_corpus_are_named(tmp_path):
    corpus = make_corpus(tmp_path / "corpus")
    labels = corpus / "TRAIN/DR1/FCJF0/SX37.PHN"
    labels.write_text(labels.read_text().replace("axr", "xx"))
    with pytest.raises(ManifestError, match=r"SX37\.PHN:11: expected 'begin end phone', found '16000 17600 xx'"):
        prepare(CorpusRequest(corpus, tmp_path / "out"))
    labels.unlink()
    labels.with_suffix(".WAV").unlink()
    (corpus / "TRAIN/DR1/FCJF0/SI943.WAV").unlink()
    with pytest.raises(ManifestError, match=r"SI943\.PHN: there is no SI943\.WAV beside it"):
        prepare(CorpusRequest(corpus, tmp_path / "out"))
    speaker = next(corpus.glob("TEST/*/MWEW0"))
    speaker.rename(speaker.with_name("MXXX0"))
    with pytest.raises(ManifestError, match="TEST lacks 1 speaker: mwew0, so the corpus is incomplete"):
        prepare(CorpusRequest(corpus, tmp_path / "out"))
