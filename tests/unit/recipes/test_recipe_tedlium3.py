"""The TED-LIUM 3 recipe: the legacy distribution's sphere and stm files, with transcripts joined into usual words."""

import numpy as np
import pytest
import soundfile
from lhotse.recipes.tedlium import _parse_stm_file  # what it does after it has read the audio with sph2pipe
from lhotse.recipes.utils import normalize_text_tedlium

from asr.corpus.manifest import cut_speaker, cut_text, read_manifest
from asr.errors import ManifestError
from asr.preparing.recipes import CorpusRequest, load_recipe, recipes_folder

recipe = load_recipe("tedlium3", recipes_folder())
prepare = recipe.prepare
SPLITS = ("train", "dev", "test")
SEGMENTS = [
    (0.0, 1.0, "<unk> today because of {NOISE} it 's what we 're told<unk>", "today because of it's what we're told"),
    (1.0, 2.5, "in the ' 60s [noise] rock 'n roll", "in the '60s rock'n roll"),
    (2.5, 2.75, "<unk>", None),
]


def make_corpus(folder):
    """Write the published layout: legacy/train/sph holds links to data/sph; each talk has a gap that is not scored."""
    for split in SPLITS:
        for kind in ("sph", "stm"):
            (folder / "legacy" / split / kind).mkdir(parents=True)
        for talk in (f"AlGore_{split}", f"BillGates_{split}"):
            audio = folder / "data" / "sph" / f"{talk}.sph"
            audio.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(audio, np.zeros(4 * 16000), 16000, subtype="PCM_16", format="NIST")
            place = folder / "legacy" / split
            (place / "sph" / audio.name).symlink_to(f"../../../data/sph/{audio.name}")
            lines = [f"{talk} 1 {talk} {begin} {end} <o,f0,male> {text}" for begin, end, text, _ in SEGMENTS]
            gap = f"{talk} 1 inter_segment_gap 2.75 4.0 <o,,unknown> ignore_time_segment_in_scoring"
            (place / "stm" / f"{talk}.stm").write_text("\n".join([*lines, gap]) + "\n")
    return folder


def read(out):
    return {split: list(read_manifest(out / f"{split}.jsonl.gz")) for split in SPLITS}


@pytest.mark.parametrize("below", ["", "TEDLIUM_release-3"])
def test_each_segment_of_a_talk_that_holds_words_is_an_utterance(tmp_path, below):
    make_corpus(tmp_path / "corpus" / below)
    notes = list(prepare(CorpusRequest(tmp_path / "corpus", tmp_path / "out")))
    cuts = read(tmp_path / "out")
    for split in SPLITS:
        assert {cut_speaker(cut) for cut in cuts[split]} == {f"AlGore_{split}", f"BillGates_{split}"}
        found = sorted({(cut.start, cut.end, cut_text(cut)) for cut in cuts[split]})
        assert found == [(begin, end, words) for begin, end, _, words in SEGMENTS if words]
        assert len(cuts[split]) == 4
    assert notes == [
        *(f"{split:<6}4 utterances, 2 speakers, 0.00 h" for split in SPLITS),
        "note: 6 passed over, marked ignore_time_segment_in_scoring",
        "note: 6 passed over, holds no word",
    ]


def test_lhotses_preparation_finds_the_same_segments(tmp_path):
    corpus = make_corpus(tmp_path / "corpus")
    prepare(CorpusRequest(corpus, tmp_path / "out"))
    for split, cuts in read(tmp_path / "out").items():
        found = {(cut_speaker(cut), cut.start, round(cut.end, 3), cut_text(cut)) for cut in cuts}
        assert found == {
            (one.speaker, one.start, round(one.end, 3), " ".join(one.text.split()))
            for path in (corpus / "legacy" / split / "stm").iterdir()
            for one in _parse_stm_file(path, "kaldi")
            if one.text.strip()
        }


@pytest.mark.parametrize(
    "text",
    [
        "it 's a they 're i 'm",
        "<unk> because of engineers<unk> that",
        "in the ' 60s and ' cause",
        "[NOISE] so [BREATH] what",
        "plain words don't change",
    ],
)
def test_words_are_those_of_lhotses_normalisation(text):
    assert prepare.__globals__["spoken"](text) == " ".join(normalize_text_tedlium(text, "kaldi").split())


def test_older_marks_are_dropped_too():
    spoken = prepare.__globals__["spoken"]
    assert spoken("<F0_M> the(2) tomato {SMACK} <sil> is red (AlGore_2009-12.3)") == "the tomato is red"


def test_a_missing_corpus_or_talk_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"no TED-LIUM 3 corpus at .*; --download gets it; .*openslr\.org/51"):
        prepare(CorpusRequest(tmp_path, tmp_path / "out"))
    corpus = make_corpus(tmp_path / "corpus")
    (corpus / "data/sph/BillGates_dev.sph").unlink()
    with pytest.raises(ManifestError, match=r"2 utterances cannot be used, .*BillGates_dev.*openslr\.org/51"):
        prepare(CorpusRequest(corpus, tmp_path / "out"))
