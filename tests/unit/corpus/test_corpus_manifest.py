"""Manifests: what is written is read again; what is damaged is named by file and line."""

import gzip
import pickle

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from asr.corpus.manifest import cut_speaker, cut_text, make_cut, read_manifest, write_manifest
from asr.errors import AudioError, ManifestError


@pytest.fixture
def audio(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16000), 8000)
    return path


def test_a_cut_holds_path_text_speaker_and_times(audio, monkeypatch):
    monkeypatch.chdir(audio.parent)
    cut = make_cut("u1", "a.wav", "hello", "s1", start_s=0.5, duration_s=1.0, language="en")
    assert cut.recording.sources[0].source == str(audio)
    assert (cut.id, cut.start, cut.duration, cut.sampling_rate) == ("u1", 0.5, 1.0, 8000)
    assert (cut_text(cut), cut_speaker(cut), cut.supervisions[0].language) == ("hello", "s1", "en")
    assert make_cut("u1", audio, "hello", "s1", start_s=0.5).duration == 1.5


def test_lhotse_finds_nothing_wrong_with_a_cut(audio):
    from lhotse.qa import validate

    stereo = audio.with_name("b.wav")
    soundfile.write(stereo, np.zeros((8000, 2)), 8000)
    for path in (audio, stereo):
        validate(make_cut("u1", path, "hello", "s1", start_s=0.25, duration_s=0.5), read_data=True)


@pytest.mark.parametrize(("start_s", "duration_s"), [(0.0, 3.0), (2.0, None), (-0.1, 1.0), (0.5, 0.0)])
def test_a_part_outside_the_file_is_refused(audio, start_s, duration_s):
    with pytest.raises(ManifestError, match=r"utterance u1: .* is not a part of .*a\.wav, which lasts 2 s"):
        make_cut("u1", audio, "hello", "s1", start_s=start_s, duration_s=duration_s)


def test_a_part_that_ends_a_rounding_error_late_is_shortened(audio):
    assert make_cut("u1", audio, "hello", "s1", start_s=1.0, duration_s=1.01).duration == 1.0


def test_a_cut_of_no_audio_is_refused(tmp_path):
    with pytest.raises(AudioError, match=r"b\.wav: no such file"):
        make_cut("u1", tmp_path / "b.wav", "hello", "s1")


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_what_is_written_is_read_again_and_again(audio, tmp_path, name):
    cuts = [make_cut(f"u{i}", audio, "größe", f"s{i}") for i in range(3)]
    path = tmp_path / "data" / name
    write_manifest(cuts, path)
    manifest = read_manifest(path)
    assert manifest.is_lazy
    assert list(manifest) == list(manifest) == cuts
    assert list(pickle.loads(pickle.dumps(manifest))) == cuts
    assert list(CutSet.from_file(path)) == cuts
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_the_same_cuts_give_the_same_bytes(audio, tmp_path):
    cuts = [make_cut("u1", audio, "hello", "s1")]
    write_manifest(cuts, tmp_path / "a.jsonl.gz")
    write_manifest(cuts, tmp_path / "b.jsonl.gz")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_a_manifest_with_an_id_twice_or_no_cuts_is_not_written(audio, tmp_path):
    cut = make_cut("u1", audio, "hello", "s1")
    with pytest.raises(ManifestError, match=r"a\.jsonl\.gz: two utterances have the id 'u1'"):
        write_manifest([cut, cut], tmp_path / "a.jsonl.gz")
    with pytest.raises(ManifestError, match="no utterances"):
        write_manifest([], tmp_path / "a.jsonl.gz")
    assert not (tmp_path / "a.jsonl.gz").exists()


def test_a_manifest_that_is_not_there_or_not_one_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"train\.jsonl\.gz: no such manifest; make it with"):
        read_manifest(tmp_path / "train.jsonl.gz")
    (tmp_path / "train.csv").write_text("a,b")
    with pytest.raises(ManifestError, match=r"train\.csv: a manifest's name ends in"):
        read_manifest(tmp_path / "train.csv")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ManifestError, match=r"empty\.jsonl: the manifest holds no utterances"):
        read_manifest(tmp_path / "empty.jsonl")


@pytest.mark.parametrize(
    "line", ["not json", "{}", "[]", '{"type": "MonoCut"}', '{"sources": [], "id": "r"}', '{"type": "Other"}']
)
def test_a_line_that_is_no_cut_is_named_by_its_number(audio, tmp_path, line):
    path = tmp_path / "train.jsonl"
    write_manifest([make_cut("u1", audio, "hello", "s1")], path)
    path.write_text(path.read_text() + line + "\n")
    manifest = read_manifest(path)
    with pytest.raises(ManifestError, match=r"train\.jsonl:2: not a lhotse cut"):
        list(manifest)


def test_a_damaged_archive_is_named(audio, tmp_path):
    path = tmp_path / "train.jsonl.gz"
    cuts = [make_cut(f"u{i}", audio, "hello", "s1") for i in range(5)]
    write_manifest(cuts, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ManifestError, match=r"train\.jsonl\.gz: damaged after line \d"):
        list(read_manifest(path))
    path.write_text("plain text")
    with pytest.raises(ManifestError, match=r"train\.jsonl\.gz: damaged"):
        read_manifest(path)
    path.write_bytes(gzip.compress(b"\xff\xfe"))
    with pytest.raises(ManifestError, match=r"train\.jsonl\.gz:\d: not a lhotse cut"):
        read_manifest(path)


def test_text_and_speaker_of_other_peoples_cuts(audio):
    cut = make_cut("u1", audio, "two", "s1", start_s=1.0)
    first = make_cut("u0", audio, "one", "s1").supervisions[0]
    cut.supervisions[0].start = 0.5
    cut.supervisions.append(first)
    assert cut_text(cut) == "one two"
    cut.supervisions.clear()
    assert cut_text(cut) == ""
    with pytest.raises(ManifestError, match="utterance u1: no speaker"):
        cut_speaker(cut)


def test_a_data_folder_in_place_of_a_manifest_is_told_from_a_shar_folder(audio, tmp_path):
    write_manifest([make_cut("u1", audio, "hello", "s1")], tmp_path / "data" / "dev.jsonl.gz")
    with pytest.raises(ManifestError, match=r"data: a data folder; name one of its splits, .*dev\.jsonl\.gz$"):
        read_manifest(tmp_path / "data")
    (tmp_path / "shar" / "test").mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"shar: a data folder; name one of its splits, .*shar.test$"):
        read_manifest(tmp_path / "shar")
