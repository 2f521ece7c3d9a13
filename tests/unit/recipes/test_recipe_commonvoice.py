"""The Common Voice recipe: the published splits of one language, whose clips are mp3 files."""

import csv

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import cut_speaker, cut_text, read_manifest
from asr.errors import ManifestError
from asr.preparing.recipes import CorpusRequest, load_recipe, recipes_folder
from asr.settings_file import load_config
from asr.text.normalise import normalise

recipe = load_recipe("commonvoice", recipes_folder())
prepare = recipe.prepare
SPLITS = ("train", "dev", "test")
# The header of release 22; earlier ones have fewer columns.
HEADER = ["client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes", "age", "gender"]
HEADER += ["accents", "variant", "locale", "segment"]
SENTENCE = '„Grüß Gott", sagte sie — und ging.'


def make_release(folder, language="de", header=HEADER):
    """Write a release's folder in the published layout: tables without quoting, clips in mp3 at 32 kHz."""
    clips = folder / language / "clips"
    clips.mkdir(parents=True)
    for number, split in enumerate(SPLITS):
        rows = []
        for index in range(2 + number):
            name = f"common_voice_{language}_{100 * number + index}.mp3"
            soundfile.write(clips / name, 0.01 * np.sin(np.arange(32000)), 32000, format="MP3")
            values = {"client_id": f"{number}{'ab' * 63}", "path": name, "sentence": SENTENCE, "up_votes": "2"}
            values |= {"down_votes": "0", "locale": language}
            rows.append([values.get(column, "") for column in header])
        with (folder / language / f"{split}.tsv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
            writer.writerows([header, *rows])
        (folder / language / "validated.tsv").write_text("not read")
    return folder


def read(out):
    return {split: list(read_manifest(out / f"{split}.jsonl.gz")) for split in SPLITS}


@pytest.mark.parametrize("below", ["", "cv-corpus-22.0-2025-06-20"])
def test_the_published_splits_of_the_language_are_taken_with_their_speakers(tmp_path, below):
    make_release(tmp_path / "corpus" / below)
    notes = list(prepare(CorpusRequest(tmp_path / "corpus", tmp_path / "out", language="de")))
    cuts = read(tmp_path / "out")
    assert {split: len(of) for split, of in cuts.items()} == {"train": 2, "dev": 3, "test": 4}
    assert [{cut_speaker(cut)[0] for cut in cuts[split]} for split in SPLITS] == [{"0"}, {"1"}, {"2"}]
    assert {cut_text(cut) for of in cuts.values() for cut in of} == {SENTENCE}
    assert {cut.supervisions[0].language for of in cuts.values() for cut in of} == {"de"}
    assert cuts["train"][0].duration == pytest.approx(1.0, abs=0.08)  # mp3 pads
    assert notes[:2] == ["train 2 utterances, 1 speaker, 0.00 h", "dev   3 utterances, 1 speaker, 0.00 h"]


def test_an_earlier_releases_table_has_fewer_columns(tmp_path):
    earlier = ["client_id", "path", "sentence", "up_votes", "down_votes", "age", "gender", "accent"]
    prepare(CorpusRequest(make_release(tmp_path / "corpus", header=earlier), tmp_path / "out", language="de"))
    assert {split: len(of) for split, of in read(tmp_path / "out").items()} == {"train": 2, "dev": 3, "test": 4}


def test_the_newest_release_is_taken(tmp_path):
    for release in ("cv-corpus-9.0-2022-04-27", "cv-corpus-22.0-2025-06-20"):
        make_release(tmp_path / "corpus" / release)
    prepare(CorpusRequest(tmp_path / "corpus", tmp_path / "out", language="de"))
    assert "cv-corpus-22.0" in read(tmp_path / "out")["test"][0].recording.sources[0].source


def test_the_recipes_settings_leave_out_punctuation(tmp_path):
    config = load_config(recipes_folder().parent / "conf" / "commonvoice.yaml", [])
    assert normalise(SENTENCE, config.text) == "grüß gott sagte sie und ging"


def test_a_missing_language_is_an_error_that_names_those_that_are_there(tmp_path):
    corpus = make_release(tmp_path / "corpus")
    with pytest.raises(ManifestError, match=r"no Common Voice .* language 'it' at .*; it holds de; .*needs an account"):
        prepare(CorpusRequest(corpus, tmp_path / "out", language="it"))
    with pytest.raises(ManifestError, match=r"no Common Voice corpus of the language 'de' at"):
        prepare(CorpusRequest(tmp_path / "elsewhere", tmp_path / "out", language="de"))


def test_clips_that_are_missing_are_left_out_and_named(tmp_path):
    corpus = make_release(tmp_path / "corpus")
    (corpus / "de/clips/common_voice_de_201.mp3").unlink()
    notes = list(prepare(CorpusRequest(corpus, tmp_path / "out", language="de")))
    assert len(read(tmp_path / "out")["test"]) == 3
    assert any("left out 1, the first: " in note and "common_voice_de_201.mp3" in note for note in notes)
    for path in (corpus / "de/clips").glob("common_voice_de_10*"):
        path.unlink()
    with pytest.raises(ManifestError, match=r"no usable utterance in dev; .*dev\.tsv:2: .*common_voice_de_100\.mp3"):
        prepare(CorpusRequest(corpus, tmp_path / "out", language="de"))
