"""The recipes fsdd and speechcommands, whose recordings hold one word each, and ljspeech, which has one voice."""

import os
import random

import numpy as np
import pytest
import soundfile

from asr.config import Config
from asr.corpus.manifest import cut_speaker, cut_text, read_manifest
from asr.errors import ManifestError
from asr.preparing.recipes import CorpusRequest, load_recipe, recipes_folder, settings_file
from asr.settings_file import load_config

SPLITS = ("train", "dev", "test")


def silence(path, sample_rate_hz):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(sample_rate_hz // 10), sample_rate_hz, subtype="PCM_16")


def prepare(name, corpus_dir, out):
    return load_recipe(name, recipes_folder()).prepare(CorpusRequest(corpus_dir, out))


def read(out):
    return {split: list(read_manifest(out / f"{split}.jsonl.gz")) for split in SPLITS}


def ids(cuts):
    return {split: [cut.id for cut in of] for split, of in cuts.items()}


@pytest.mark.parametrize("name", ["fsdd", "speechcommands", "ljspeech"])
def test_a_missing_corpus_is_an_error_that_says_where_to_get_it(tmp_path, name):
    (tmp_path / "corpus" / "other").mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"no .* corpus at .*corpus; --download gets it; or get.*--corpus-dir"):
        prepare(name, tmp_path / "corpus", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Free Spoken Digit Dataset


@pytest.fixture
def fsdd(tmp_path):
    """All names of the corpus, in the folder that GitHub's archive has."""
    folder = tmp_path / "fsdd" / "free-spoken-digit-dataset-1.0.10"
    for digit in (0, 7):
        for speaker in ("jackson", "theo"):
            for number in range(50):
                silence(folder / "recordings" / f"{digit}_{speaker}_{number}.wav", 8000)
    (folder / "metadata.py").touch()
    return tmp_path / "fsdd"


def test_fsdds_test_is_as_published_and_dev_follows_it(fsdd, tmp_path):
    notes = prepare("fsdd", fsdd, tmp_path / "out")
    cuts = read(tmp_path / "out")
    numbers = {split: {int(cut.id.rpartition("_")[2]) for cut in of} for split, of in cuts.items()}
    assert numbers == {"train": set(range(10, 50)), "dev": set(range(5, 10)), "test": set(range(5))}
    assert {split: len(of) for split, of in cuts.items()} == {"train": 160, "dev": 20, "test": 20}
    assert {(cut.id[:2], cut_text(cut), cut_speaker(cut)) for cut in cuts["test"]} == {
        *(("0_", "zero", speaker) for speaker in ("jackson", "theo")),
        *(("7_", "seven", speaker) for speaker in ("jackson", "theo")),
    }
    assert notes[2] == "test  20 utterances, 2 speakers, 0.00 h"


def test_the_clone_of_fsdd_itself_will_do(fsdd, tmp_path):
    prepare("fsdd", fsdd, tmp_path / "a")
    prepare("fsdd", fsdd / "free-spoken-digit-dataset-1.0.10", tmp_path / "b")
    assert read(tmp_path / "a") == read(tmp_path / "b")


def test_a_file_of_fsdd_with_another_name_or_without_audio_is_named(fsdd, tmp_path):
    recordings = fsdd / "free-spoken-digit-dataset-1.0.10" / "recordings"
    (recordings / "seven.wav").touch()
    with pytest.raises(ManifestError, match=r"seven\.wav: its name is not DIGIT_SPEAKER_NUMBER\.wav"):
        prepare("fsdd", fsdd, tmp_path / "out")
    (recordings / "seven.wav").unlink()
    (recordings / "7_theo_3.wav").write_bytes(b"")
    with pytest.raises(ManifestError, match=r"7_theo_3\.wav.*; --download gets it"):
        prepare("fsdd", fsdd, tmp_path / "out")


def test_an_empty_folder_of_recordings_is_named(tmp_path):
    (tmp_path / "recordings").mkdir()
    with pytest.raises(ManifestError, match=r"recordings: no recordings; --download"):
        prepare("fsdd", tmp_path, tmp_path / "out")


# Speech Commands


@pytest.fixture
def commands(tmp_path):
    """Three words by six speakers, in the published layout: the archive has no folder of its own."""
    folder = tmp_path / "commands"
    rng = random.Random(0)
    speakers = [f"{rng.getrandbits(32):08x}" for _ in range(6)]
    lists = {"validation_list.txt": speakers[3:4], "testing_list.txt": speakers[4:]}
    for word in ("backward", "go", "zero"):
        for speaker in speakers:
            for number in range(2):
                silence(folder / word / f"{speaker}_nohash_{number}.wav", 16000)
    silence(folder / "_background_noise_" / "pink_noise.wav", 16000)
    (folder / "_background_noise_" / "README.md").touch()
    for name, of in lists.items():
        lines = [f"{word}/{s}_nohash_{n}.wav\n" for word in ("backward", "go", "zero") for s in of for n in range(2)]
        (folder / name).write_text("".join(lines))
    return folder


def test_speech_commands_splits_are_torchaudios(commands, tmp_path):
    from torchaudio.datasets import SPEECHCOMMANDS

    prepare("speechcommands", commands, tmp_path / "out")
    ours = {
        split: {(cut_text(cut), cut_speaker(cut), int(cut.id.rpartition("_")[2])) for cut in of}
        for split, of in read(tmp_path / "out").items()
    }
    (tmp_path / "SpeechCommands").mkdir()
    (tmp_path / "SpeechCommands" / "speech_commands_v0.02").symlink_to(commands)
    for split, subset in {"train": "training", "dev": "validation", "test": "testing"}.items():
        theirs = SPEECHCOMMANDS(tmp_path, subset=subset)
        assert ours[split] == {theirs.get_metadata(index)[2:] for index in range(len(theirs))}
        assert len(ours[split]) == {"train": 18, "dev": 6, "test": 12}[split]


def test_speech_commands_has_no_noise_and_no_speaker_in_two_splits(commands, tmp_path):
    prepare("speechcommands", commands, tmp_path / "out")
    cuts = read(tmp_path / "out")
    assert {cut_text(cut) for of in cuts.values() for cut in of} == {"backward", "go", "zero"}
    speakers = [{cut_speaker(cut) for cut in of} for of in cuts.values()]
    assert sum(map(len, speakers)) == len(set.union(*speakers)) == 6


def test_what_the_lists_name_and_is_not_there_is_an_error(commands, tmp_path):
    name = (commands / "testing_list.txt").read_text().split("\n")[0]
    (commands / name).unlink()
    with pytest.raises(ManifestError, match=rf"testing_list\.txt: 1 recording of dev .* the first: {name}; --download"):
        prepare("speechcommands", commands, tmp_path / "out")
    (commands / "validation_list.txt").unlink()
    with pytest.raises(ManifestError, match=r"validation_list\.txt"):
        prepare("speechcommands", commands, tmp_path / "out")


def test_a_file_of_speech_commands_with_another_name_is_named(commands, tmp_path):
    silence(commands / "go" / "mine.wav", 16000)
    with pytest.raises(ManifestError, match=r"go/mine\.wav: its name is not SPEAKER_nohash_NUMBER\.wav"):
        prepare("speechcommands", commands, tmp_path / "out")


# LJ Speech

TEXTS = {
    "LJ001-0001": ("Printing, in 1852,", "Printing, in eighteen fifty-two,"),
    "LJ048-0002": ('he "said" so', 'he "said" so'),
    "LJ049-0001": ("The dev chapter", "The dev chapter"),
    "LJ050-0278": ("The test chapter", "The test chapter"),
}


@pytest.fixture
def ljspeech(tmp_path):
    folder = tmp_path / "lj" / "LJSpeech-1.1"
    for name in TEXTS:
        silence(folder / "wavs" / f"{name}.wav", 22050)
    lines = [f"{name}|{raw}|{normalised}\n" for name, (raw, normalised) in TEXTS.items()]
    (folder / "metadata.csv").write_text("".join(lines), encoding="utf-8")
    return tmp_path / "lj"


def test_ljspeechs_last_chapters_are_dev_and_test(ljspeech, tmp_path):
    prepare("ljspeech", ljspeech, tmp_path / "out")
    cuts = read(tmp_path / "out")
    assert ids(cuts) == {"train": ["LJ001-0001", "LJ048-0002"], "dev": ["LJ049-0001"], "test": ["LJ050-0278"]}
    assert {cut_speaker(cut) for of in cuts.values() for cut in of} == {"LJ"}


def test_ljspeechs_transcripts_are_lhotses_normalised_ones(ljspeech, tmp_path):
    from lhotse.recipes import prepare_ljspeech

    prepare("ljspeech", ljspeech, tmp_path / "out")
    ours = {cut.id: (cut_text(cut), cut.duration) for of in read(tmp_path / "out").values() for cut in of}
    theirs = prepare_ljspeech(ljspeech / "LJSpeech-1.1")["supervisions"]
    assert ours == {one.id: (one.custom["normalized_text"], one.duration) for one in theirs}


def test_a_fault_of_ljspeech_is_named(ljspeech, tmp_path):
    folder = ljspeech / "LJSpeech-1.1"
    with open(folder / "metadata.csv", "a", encoding="utf-8") as file:
        file.write("mine|a|b\n")
    with pytest.raises(ManifestError, match=r"metadata\.csv:5: the ID 'mine' is not LJ and a chapter's"):
        prepare("ljspeech", ljspeech, tmp_path / "out")
    os.rename(folder / "wavs" / "LJ049-0001.wav", folder / "wavs" / "mine.wav")
    with pytest.raises(ManifestError, match=r"2 utterances cannot be used.*--download gets it"):
        prepare("ljspeech", ljspeech, tmp_path / "out")


@pytest.mark.parametrize("name", ["fsdd", "speechcommands", "ljspeech"])
def test_the_settings_are_acceptable_and_differ_from_the_defaults(name):
    config = load_config(settings_file(name))
    assert config != Config()
    assert (config.features.sample_rate_hz == 8000) == (name == "fsdd")
