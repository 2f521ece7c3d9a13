"""The AN4 recipe: both published layouts, whole speakers in dev, test as published."""

import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import cut_speaker, cut_text, read_manifest
from asr.errors import AudioError, ManifestError
from asr.preparing.recipes import CorpusRequest, load_recipe, recipes_folder

prepare = load_recipe("an4", recipes_folder()).prepare
SPLITS = ("train", "dev", "test")
WOMEN, MEN, EACH = 6, 10, 20


def make_corpus(folder, suffix=".wav", kind="WAV"):
    """Write a corpus in AN4's layout: 16 training speakers who say 20 utterances each, 2 test speakers."""
    training = [f"f{i:03}" for i in range(WOMEN)] + [f"m{i:03}" for i in range(MEN)]
    sets = {
        "train": ("an4_clstk", training, "<s> {} </s> ({})"),
        "test": ("an4test_clstk", ["fxyz", "mxyz"], "{} ({})"),
    }
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(1600), 16000, format=kind, subtype="PCM_16")
    (folder / "etc").mkdir(parents=True)
    for name, (below, speakers, line) in sets.items():
        fileids, transcripts = [], []
        for speaker in speakers:
            (folder / "wav" / below / speaker).mkdir(parents=True)
            for i in range(EACH):
                id = f"an{i}-{speaker}-b"
                (folder / "wav" / below / speaker / f"{id}{suffix}").write_bytes(silence.getvalue())
                fileids.append(f"{below}/{speaker}/{id}")
                transcripts.append(line.format("GO ON", id))
        (folder / "etc" / f"an4_{name}.fileids").write_text("\n".join(fileids) + "\n")
        (folder / "etc" / f"an4_{name}.transcription").write_text("\n".join(transcripts) + "\n")
    return folder


def read(out):
    return {split: list(read_manifest(out / f"{split}.jsonl.gz")) for split in SPLITS}


@pytest.mark.parametrize(("suffix", "kind"), [(".wav", "WAV"), (".sph", "NIST")])
def test_both_layouts_give_the_same_splits(tmp_path, suffix, kind):
    prepare(CorpusRequest(make_corpus(tmp_path / "an4", suffix, kind), tmp_path / "out", 0))
    cuts = read(tmp_path / "out")
    # Pairs of 40 utterances: 120 are as near to 100 as 80, and the larger set is taken.
    assert {split: len(of) for split, of in cuts.items()} == {"train": 200, "dev": 120, "test": 40}
    speakers = {split: {cut_speaker(cut) for cut in of} for split, of in cuts.items()}
    assert Counter(speaker[0] for speaker in speakers["dev"]) == {"f": 3, "m": 3}
    assert speakers["test"] == {"fxyz", "mxyz"}
    assert not speakers["train"] & speakers["dev"]
    assert {cut_text(cut) for of in cuts.values() for cut in of} == {"GO ON"}
    assert all(cut.recording.sources[0].source.endswith(f"{cut.id}{suffix}") for of in cuts.values() for cut in of)


def test_the_seed_decides_who_is_in_dev(tmp_path):
    corpus = make_corpus(tmp_path / "an4")
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare(CorpusRequest(corpus, tmp_path / out, seed))
    dev = {out: (tmp_path / out / "dev.jsonl.gz").read_bytes() for out in "abc"}
    assert dev["a"] == dev["b"] != dev["c"]


def test_a_missing_corpus_is_an_error_that_says_where_to_get_it(tmp_path):
    with pytest.raises(
        ManifestError, match=r"no AN4 corpus .*git clone https://github\.com/cmusphinx/an4.*ASR_CORPORA"
    ):
        prepare(CorpusRequest(Path("nowhere"), tmp_path / "out", 0))
    assert not (tmp_path / "out").exists()


def test_a_missing_or_damaged_recording_is_named(tmp_path):
    corpus = make_corpus(tmp_path / "an4")
    path = corpus / "wav/an4test_clstk/fxyz/an3-fxyz-b.wav"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(AudioError, match=r"an3-fxyz-b\.wav: truncated"):
        prepare(CorpusRequest(corpus, tmp_path / "out", 0))
    path.unlink()
    with pytest.raises(ManifestError, match=r"an3-fxyz-b\{\.wav,\.sph\}: no such recording"):
        prepare(CorpusRequest(corpus, tmp_path / "out", 0))


def test_malformed_lists_are_named(tmp_path):
    corpus = make_corpus(tmp_path / "an4")
    path = corpus / "etc/an4_test.transcription"
    content = path.read_text()
    path.write_text(content.replace("(an1-fxyz-b)", "(an2-fxyz-b)"))
    with pytest.raises(ManifestError, match=r"an4_test\.transcription:2: expected 'WORDS \(an1-fxyz-b\)'"):
        prepare(CorpusRequest(corpus, tmp_path / "out", 0))
    path.write_text(content + "MORE (an1-mxyz-b)\n")
    with pytest.raises(ManifestError, match=r"an4_test\.transcription: 41 transcripts for 40 files"):
        prepare(CorpusRequest(corpus, tmp_path / "out", 0))
    path.unlink()
    with pytest.raises(ManifestError, match=r"an4_test\.transcription: cannot be read"):
        prepare(CorpusRequest(corpus, tmp_path / "out", 0))


@pytest.mark.corpus
def test_the_real_corpus_has_its_published_size(an4_dir, tmp_path):
    prepare(CorpusRequest(an4_dir, tmp_path, 0))
    cuts = read(tmp_path)
    assert len(cuts["train"]) + len(cuts["dev"]) == 948
    assert len(cuts["test"]) == 130
    assert abs(len(cuts["dev"]) - 100) <= 13
    speakers = {split: {cut_speaker(cut) for cut in of} for split, of in cuts.items()}
    assert [len(speakers[split]) for split in SPLITS] == [66, 8, 10]
    assert len(set.union(*speakers.values())) == 84
    assert sum(len(cut_text(cut).split()) for cut in cuts["test"]) == 773
    assert sum(cut.duration for split in ("train", "dev") for cut in cuts[split]) / 60 == pytest.approx(42.4, abs=0.1)
    assert not any(set("<>()") & set(cut_text(cut)) for of in cuts.values() for cut in of)
